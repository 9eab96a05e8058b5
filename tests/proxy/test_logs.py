"""The access log and the audit log: what is in a line, what in which file, and their bounds."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.logs import Line, RequestLog, RequestLogOnStdout
from proxy.policy import ANONYMOUS, build_policy
from tests.proxy.upstream import running_upstream
from tests.support.proxied import proxied, tokens_for, upstream_at

API = "/api/2.0/mlflow"


def line(**changes: Any) -> Line:
    values: dict[str, Any] = {
        "client": "anna",
        "source": "token",
        "peer": "192.0.2.1",
        "method": "GET",
        "path": "/version",
        "resource": "server",
        "action": "read",
        "experiments": (),
        "decision": "allowed",
        "rule": "preset standard",
        "status": 200,
        "request_bytes": 0,
        "answer_bytes": 6,
        "seconds": 0.001,
    }
    return Line(**values | changes)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("changes", "audited"),
    [
        ({}, False),
        ({"action": "write"}, True),
        ({"action": "delete"}, True),
        ({"action": "admin", "decision": "denied"}, True),
        ({"decision": "denied"}, True),
        ({"decision": "observed"}, True),
        ({"decision": "unauthenticated"}, True),
        ({"decision": "refused"}, True),
        ({"decision": "failed"}, False),
        ({"decision": "gone"}, False),
    ],
)
async def test_what_changes_or_is_denied_is_audited(
    tmp_path: Path, changes: dict[str, str], audited: bool
) -> None:
    log = RequestLog(access=tmp_path / "a", audit=tmp_path / "b", max_bytes=10_000, max_files=2)
    log.write(line(**changes))
    log.close()
    assert len(read(tmp_path / "a")) == 1
    assert len(read(tmp_path / "b")) == audited


async def test_the_files_rotate_and_no_line_is_torn(tmp_path: Path) -> None:
    log = RequestLog(access=tmp_path / "a", audit=None, max_bytes=2000, max_files=3)
    for number in range(1500):
        log.write(line(path=f"/{number}"))
        if number % 7 == 0:
            await asyncio.sleep(0)
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.1", "a.2"]
    newest = read(tmp_path / "a")[-1]
    assert newest["path"] == "/1499"
    for file in tmp_path.iterdir():
        assert len(read(file)) > 0


async def test_lines_are_there_within_a_second(tmp_path: Path) -> None:
    log = RequestLog(access=tmp_path / "a", audit=None, max_bytes=10_000, max_files=2)
    log.write(line())
    await asyncio.sleep(1.0)
    assert len(read(tmp_path / "a")) == 1
    log.close()


async def test_a_disk_that_is_full_costs_lines_and_no_request() -> None:
    log = RequestLog(access=Path("/dev/full"), audit=None, max_bytes=10_000, max_files=2)
    for _ in range(600):
        log.write(line())
    log.close()


async def test_a_name_that_is_no_text_for_a_terminal_is_escaped(tmp_path: Path) -> None:
    log = RequestLog(access=tmp_path / "a", audit=None, max_bytes=10_000, max_files=2)
    log.write(line(path='/x"\n\x1b[31m{"client": "root"}', message="ü\u2028"))
    log.close()
    (text,) = (tmp_path / "a").read_text().split("\n")[:-1]
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["message"] == "ü\u2028"


async def test_each_request_has_its_line_and_its_query_is_in_none(tmp_path: Path) -> None:
    policy = build_policy(roles={}, clients={"anna": ["read-only"]})
    tokens = tokens_for(tmp_path / "tokens.json", "anna")
    headers = {"authorization": f"Bearer {tokens['anna']}"}
    async with running_upstream() as upstream:
        through = proxied(
            upstream_at(upstream.url),
            policy=policy,
            tokens_file=tmp_path / "tokens.json",
            logs=tmp_path / "logs",
        )
        async with through as (url, _), aiohttp.ClientSession() as client:
            for method, path, sent in (
                ("GET", f"{API}/runs/get?run_id=secretive", headers),
                ("POST", f"{API}/runs/delete", headers),
                ("GET", f"{API}/runs/get", {}),
                ("GET", f"{API}/runs/get?run_id=a&run_id=b", headers),
                ("GET", "/version", {}),
            ):
                async with client.request(method, url + path, headers=sent, json=None) as answer:
                    await answer.read()
    access = {
        (line["decision"], line["client"], line["resource"]) for line in read(tmp_path / "logs/access.jsonl")
    }
    assert access == {
        ("allowed", "anna", "runs"),
        ("denied", "anna", "runs"),
        ("unauthenticated", "anonymous", "runs"),
        ("allowed", "anonymous", "server"),
    }
    audit = read(tmp_path / "logs/audit.jsonl")
    assert [line["status"] for line in audit] == [403, 401, 400]
    assert audit[0]["message"] == "client 'anna' may not delete runs (no rule allows it)"
    everything = (tmp_path / "logs/access.jsonl").read_text() + (tmp_path / "logs/audit.jsonl").read_text()
    assert "secretive" not in everything
    assert tokens["anna"] not in everything


async def test_observing_lets_pass_and_writes_down_what_would_be_denied(tmp_path: Path) -> None:
    policy = build_policy(roles={}, clients={ANONYMOUS: ["read-only"]}, mode="observe")
    tokens_for(tmp_path / "tokens.json", "anna")
    async with running_upstream() as upstream:
        through = proxied(
            upstream_at(upstream.url),
            policy=policy,
            tokens_file=tmp_path / "tokens.json",
            logs=tmp_path / "logs",
        )
        async with through as (url, _), aiohttp.ClientSession() as client:
            async with client.post(f"{url}{API}/runs/delete", json={"run_id": "a"}) as answer:
                assert answer.status == 200
            async with client.get(f"{url}/ajax-api/3.0/mlflow/assistant/config") as answer:
                assert answer.status == 403
        assert len(upstream.seen) == 1
    observed, denied = read(tmp_path / "logs/audit.jsonl")
    assert (observed["decision"], observed["status"]) == ("observed", 200)
    assert observed["message"] == "client 'anonymous' may not delete runs (no rule allows it)"
    assert denied["decision"] == "denied"


async def test_both_logs_can_go_to_standard_output_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = RequestLogOnStdout(access=True, audit=True)
    log.write(line(path="/read"))
    log.write(line(path="/written", action="write"))
    log.close()
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(each["log"], each["path"]) for each in lines] == [("access", "/read"), ("audit", "/written")]


@pytest.mark.parametrize(
    ("access", "audit", "written"),
    [(True, False, ["access", "access"]), (False, True, ["audit"]), (False, False, [])],
    ids=["access_alone", "audit_alone", "none"],
)
async def test_standard_output_has_only_the_logs_that_are_on(
    capsys: pytest.CaptureFixture[str], access: bool, audit: bool, written: list[str]
) -> None:
    log = RequestLogOnStdout(access=access, audit=audit)
    for action in ("read", "delete"):
        log.write(line(action=action))
    log.close()
    assert [json.loads(text)["log"] for text in capsys.readouterr().out.splitlines()] == written
