"""Attacks on a proxy that tells clients apart, as a table with the expected answers, over a real socket.

Path tricks, spoofed origins, credentials in odd places, oversized things. Where the answer isn't 200, nothing
of the request may have reached MLflow. Framing is in test_smuggling.py, slowness in system/test_port.py.
Source: https://github.com/mlflow/mlflow/security/advisories
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.policy import build_policy
from tests.proxy.stage import Stage
from tests.proxy.upstream import running_upstream
from tests.support.proxied import proxied, tokens_for, upstream_at


@dataclass
class Fortress:
    stage: Stage
    token: str

    async def send(self, head: str, body: bytes = b"") -> tuple[int, bytes, list[str]]:
        """Status, answer, and the request lines that reached MLflow."""
        text = head.replace("TOKEN", self.token).replace("\n", "\r\n") + "\r\n\r\n"
        answer = await self.stage.talk(text.encode("latin-1") + body, quiet_seconds=0.1)
        return int(answer[9:12] or 0), answer, [seen.line for seen in self.stage.upstream.seen]


@pytest.fixture
async def fortress(tmp_path: Path) -> AsyncIterator[Fortress]:
    policy = build_policy(roles={}, clients={"anna": ["standard"]})
    file = tmp_path / "tokens.json"
    token = tokens_for(file, "anna")["anna"]
    async with running_upstream() as upstream:
        through = proxied(
            upstream_at(upstream.url, authorization="Bearer upstream"), policy=policy, tokens_file=file
        )
        async with through as (url, _):
            yield Fortress(Stage(upstream, url, None, []), token)  # type: ignore[arg-type]


H = "\nhost: localhost\nauthorization: Bearer TOKEN\nconnection: close"
API = "/api/2.0/mlflow"
ART = "/api/2.0/mlflow-artifacts/artifacts"

TABLE: dict[str, tuple[str, int]] = {
    # who asks
    "no_credentials": (f"GET {API}/runs/get?run_id=a HTTP/1.1\nhost: localhost", 401),
    "token_in_the_query": (f"GET {API}/runs/get?run_id=a&token=TOKEN HTTP/1.1\nhost: localhost", 401),
    "token_in_a_cookie": (f"GET {API}/runs/get?run_id=a HTTP/1.1\nhost: localhost\ncookie: token=TOKEN", 401),
    "two_credentials": (f"GET {API}/runs/get?run_id=a HTTP/1.1{H}\nauthorization: Bearer other", 401),
    "a_header_of_an_auth_proxy": (
        f"GET {API}/runs/get?run_id=a HTTP/1.1\nhost: localhost\nx-forwarded-user: anna",
        401,
    ),
    "bearer_without_a_token": (f"GET {API}/runs/get HTTP/1.1\nhost: localhost\nauthorization: Bearer", 401),
    "basic_that_is_no_base64": (f"GET {API}/runs/get HTTP/1.1\nhost: localhost\nauthorization: Basic =", 401),
    "public_but_only_as_it_is": ("GET /version/../metrics HTTP/1.1\nhost: localhost", 400),
    # another reading of the path
    "escaped_slash": (f"GET /api/2.0/mlflow%2Fruns/get?run_id=a HTTP/1.1{H}", 400),
    "escaped_letter": (f"GET /api/2.0/mlflow/%72uns/get?run_id=a HTTP/1.1{H}", 400),
    "doubled_slash": (f"GET //api/2.0/mlflow/webhooks HTTP/1.1{H}", 400),
    "inner_doubled_slash": (f"GET /api//2.0/mlflow/webhooks HTTP/1.1{H}", 400),
    "dot_segment": (f"GET /static-files/../metrics HTTP/1.1{H}", 400),
    "escaped_dot_segment": (f"GET /static-files/%2e%2e/metrics HTTP/1.1{H}", 400),
    "semicolon": (f"GET /metrics;.js HTTP/1.1{H}", 400),
    "backslash": ("GET /static-files\\..\\metrics HTTP/1.1" + H, 400),
    "nul": (f"GET /metrics%00.js HTTP/1.1{H}", 400),
    "line_feed": (f"GET /version%0aX: y HTTP/1.1{H}", 400),
    "overlong": (f"GET {ART}/1/%c0%ae%c0%ae/x HTTP/1.1{H}", 400),
    "twice_escaped": (f"DELETE {ART}/1/%252e%252e/2/x HTTP/1.1{H}", 400),
    "full_width_dots": (f"GET {ART}/1/%ef%bc%8e%ef%bc%8e/x HTTP/1.1{H}", 200),
    "upper_case": (f"GET /API/2.0/mlflow/webhooks HTTP/1.1{H}", 403),
    "trailing_slash": (f"GET {API}/webhooks/ HTTP/1.1{H}", 400),
    "other_prefix": (f"GET /ajax-api/2.0/mlflow/webhooks HTTP/1.1{H}", 403),
    "absolute_form": (f"GET http://localhost/metrics HTTP/1.1{H}", 403),
    # another reading of the rest
    "two_ids": (f"GET {API}/experiments/get?experiment_id=1&experiment_id=2 HTTP/1.1{H}", 400),
    "padded_id": (f"GET {API}/experiments/get?experiment_id=01 HTTP/1.1{H}", 400),
    "arabic_digits": (f"GET {API}/experiments/get?experiment_id=%D9%A1 HTTP/1.1{H}", 400),
    "body_on_a_get": (f"GET {API}/experiments/get HTTP/1.1{H}\ncontent-length: 2", 400),
    "body_on_a_head": (f"HEAD {API}/experiments/get HTTP/1.1{H}\ncontent-length: 2", 400),
    "method_override": (
        f"POST {API}/runs/search HTTP/1.1{H}\nx-http-method-override: DELETE\ncontent-length: 0",
        200,
    ),
    "unknown_method": (f"PROPFIND {API}/runs/get HTTP/1.1{H}", 405),
    "wrong_method": (f"DELETE {API}/runs/get?run_id=a HTTP/1.1{H}", 405),
    "wrong_method_of_what_is_denied": (f"PUT {API}/webhooks HTTP/1.1{H}\ncontent-length: 0", 405),
    "wrong_method_without_credentials": (f"DELETE {API}/runs/get HTTP/1.1\nhost: localhost", 401),
    "trace_method": (f"TRACE / HTTP/1.1{H}", 405),
    # where it comes from
    "foreign_host": ("GET /version HTTP/1.1\nhost: evil.example\nauthorization: Bearer TOKEN", 403),
    "foreign_origin": (
        f"POST {API}/runs/search HTTP/1.1{H}\norigin: https://evil.example\ncontent-length: 0",
        403,
    ),
    "null_origin": (f"POST {API}/runs/search HTTP/1.1{H}\norigin: null\ncontent-length: 0", 403),
    "foreign_page": (
        f"POST {API}/runs/search HTTP/1.1{H}\nsec-fetch-site: cross-site\ncontent-length: 0",
        403,
    ),
    "foreign_page_at_graphql": (f"GET /graphql?query=x HTTP/1.1{H}\norigin: https://evil.example", 403),
    # what opens more than it says
    "unknown_route": (f"POST {API}/runs/launch-missiles HTTP/1.1{H}\ncontent-length: 0", 403),
    "assistant": (f"GET /ajax-api/3.0/mlflow/assistant/config HTTP/1.1{H}\nx-forwarded-for: 127.0.0.1", 403),
    "gateway_proxy": (f"POST /ajax-api/2.0/mlflow/gateway-proxy HTTP/1.1{H}\ncontent-length: 0", 403),
    "presigned": (f"GET /api/2.0/mlflow-artifacts/presigned/1/a HTTP/1.1{H}", 403),
    "multipart": (f"POST /api/2.0/mlflow-artifacts/mpu/create/1/a HTTP/1.1{H}\ncontent-length: 0", 403),
    # too much
    "many_headers": ("GET /version HTTP/1.1\nhost: localhost" + "\nx-a: b" * 120, 400),
    "long_path": (f"GET /static-files/{'a' * 9000} HTTP/1.1{H}", 400),
    "long_query": (f"GET /version?{'a' * 70_000} HTTP/1.1\nhost: localhost", 400),
    "many_parameters": (f"GET {API}/runs/get?{'a=1&' * 1500} HTTP/1.1{H}", 400),
}


@pytest.mark.parametrize("name", TABLE)
async def test_the_answer_is_as_expected_and_nothing_else_gets_through(fortress: Fortress, name: str) -> None:
    head, expected = TABLE[name]
    status, answer, reached = await fortress.send(head, b"{}" if "content-length: 2" in head else b"")
    assert status == expected, answer[:400]
    assert len(reached) == (expected == 200), reached
    if expected != 200 and not head.startswith("HEAD"):
        assert b'"error_code"' in answer or b"Invalid HTTP request" in answer
        assert fortress.token.encode() not in answer


BODIES: dict[str, tuple[str, bytes, int]] = {
    "artifact_location": ("experiments/create", b'{"name": "e", "artifact_location": "file:///etc"}', 403),
    "artifact_location_in_camel_case": (
        "experiments/create",
        b'{"name": "e", "artifactLocation": "file:///etc"}',
        403,
    ),
    "artifact_location_twice": (
        "experiments/create",
        b'{"artifact_location": "", "artifact_location": "s3://x"}',
        400,
    ),
    "artifact_location_both_ways": (
        "experiments/create",
        b'{"artifact_location": "", "artifactLocation": "s3://x"}',
        400,
    ),
    "source_of_a_file": ("model-versions/create", b'{"name": "m", "source": "/etc/passwd"}', 403),
    "source_of_a_prompt_with_a_file": (
        "model-versions/create",
        b'{"name": "m", "source": "file:///etc", '
        b'"tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]}',
        403,
    ),
    "source_that_climbs": (
        "model-versions/create",
        b'{"name": "m", "source": "mlflow-artifacts:/1/../../etc"}',
        400,
    ),
    "source_with_a_fragment": ("model-versions/create", b'{"name": "m", "source": "runs:/a#/../x"}', 400),
    "body_in_utf16": (
        "experiments/create",
        '{"name": "e", "artifact_location": "s3://x"}'.encode("utf-16"),
        400,
    ),
    "body_that_is_no_object": ("experiments/create", b'"{\\"name\\": \\"e\\"}"', 400),
    "nothing_wrong": ("experiments/create", b'{"name": "e"}', 200),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_opens_no_more_than_its_route_says(fortress: Fortress, name: str) -> None:
    route, body, expected = BODIES[name]
    head = f"POST {API}/{route} HTTP/1.1{H}\ncontent-type: application/json\ncontent-length: {len(body)}"
    status, answer, reached = await fortress.send(head, body)
    assert status == expected, answer[:400]
    assert len(reached) == (expected == 200)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_form_that_a_browser_may_send_anywhere_is_no_json(fortress: Fortress, kind: str) -> None:
    """CVE-2023-43472: a page of any site can post these without being asked."""
    head = f"POST {API}/experiments/create HTTP/1.1{H}\ncontent-type: {kind}\ncontent-length: 2"
    status, _, reached = await fortress.send(head, b"{}")
    assert (status, reached) == (415, [])


@pytest.mark.parametrize(
    "headers",
    [
        "content-type: application/json\ncontent-encoding: identity\ncontent-encoding: gzip",
        "content-type: application/json\ncontent-type: text/plain",
    ],
    ids=["second_coding", "second_type"],
)
async def test_a_second_line_says_nothing_behind_the_decisions_back(fortress: Fortress, headers: str) -> None:
    head = f"POST {API}/experiments/create HTTP/1.1{H}\n{headers}\ncontent-length: 2"
    status, _, reached = await fortress.send(head, b"{}")
    assert (status, reached) == (415, [])


async def test_neither_the_clients_credentials_nor_its_word_on_addresses_reach_mlflow(
    fortress: Fortress,
) -> None:
    head = (
        f"GET {API}/runs/get?run_id=a HTTP/1.1{H}\n"
        "x-mlflow-authorization: Bearer TOKEN\nx-forwarded-for: 127.0.0.1\nforwarded: for=127.0.0.1\n"
        "x-real-ip: 127.0.0.1\nx_forwarded_for: 127.0.0.1\nproxy-authorization: Bearer TOKEN"
    )
    status, _, _ = await fortress.send(head)
    assert status == 200
    (seen,) = fortress.stage.upstream.seen
    assert not any(fortress.token in value for _, value in seen.headers)
    assert seen.all("authorization") == ["Bearer upstream"]
    assert [value.startswith("127.") for value in seen.all("x-forwarded-for")] == [False]
    assert seen.all("forwarded") == seen.all("x-real-ip") == seen.all("x_forwarded_for") == []


async def test_a_gateway_callers_own_key_passes_where_he_said_who_he_is(tmp_path: Path) -> None:
    policy = build_policy(roles={}, clients={"anna": ["open-trusted"]})
    file = tmp_path / "tokens.json"
    token = tokens_for(file, "anna")["anna"]
    async with running_upstream() as upstream:
        async with proxied(upstream_at(upstream.url), policy=policy, tokens_file=file) as (url, _):
            fortress = Fortress(Stage(upstream, url, None, []), token)  # type: ignore[arg-type]
            head = (
                "POST /gateway/openai/v1/chat/completions HTTP/1.1\nhost: localhost\nconnection: close\n"
                "x-mlflow-authorization: Bearer TOKEN\nauthorization: Bearer sk-provider\ncontent-length: 0"
            )
            status, _, _ = await fortress.send(head)
            assert status == 200
        (seen,) = upstream.seen
        assert seen.all("authorization") == ["Bearer sk-provider"]
        assert seen.all("x-mlflow-authorization") == []


async def test_a_page_among_the_files_gets_no_origin_to_act_in(fortress: Fortress) -> None:
    _, answer, _ = await fortress.send(f"GET {ART}/1/r/artifacts/page.html HTTP/1.1{H}")
    assert b"content-security-policy: sandbox" in answer
    _, answer, _ = await fortress.send(f"GET {API}/runs/get?run_id=a HTTP/1.1{H}")
    assert b"cache-control: no-store" in answer
