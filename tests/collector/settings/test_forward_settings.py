"""Other backends in the settings: what is refused, with the place, and what is never told."""

from pathlib import Path

import pytest

from collector.model.batch import Signal
from collector.model.errors import Misconfigured
from collector.settings import load

EXAMPLE = Path(__file__).parents[3] / "examples" / "forward.toml"
GOOD = '[[forward]]\nname = "tee"\nurl = "https://otel.example.com:4318/base/"\n'


def loaded(tmp_path: Path, text: str, **environment: str) -> str:
    """What a start says of this file; empty if it is right."""
    file = tmp_path / "sidespan.toml"
    file.write_text(text)
    try:
        load(environment=environment, file=file)
    except Misconfigured as error:
        return str(error)
    return ""


def test_a_target_needs_a_name_and_a_url_and_gets_traces(tmp_path: Path) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text(GOOD)
    (target,) = load(environment={}, file=file).forward
    assert (target.url, target.signals) == ("https://otel.example.com:4318/base", (Signal.TRACES,))
    assert (target.consumer, target.when_full, target.harmonise) == ("forward:tee", "skip", False)


BAD: dict[str, tuple[str, list[str]]] = {
    "no_name": ('[[forward]]\nurl = "http://a"\n', ["forward.0.name", "required"]),
    "no_url": ('[[forward]]\nname = "a"\n', ["forward.0.url", "required"]),
    "bad_name": ('[[forward]]\nname = "A b"\nurl = "http://a"\n', ["forward.0.name = 'A b'", "lower-case"]),
    "mlflow_is_taken": ('[[forward]]\nname = "mlflow"\nurl = "http://a"\n', ["forward.0.name", "MLflow"]),
    "second_one": (GOOD + '[[forward]]\nname = "b"\nurl = "ftp://b"\n', ["forward.1.url = 'ftp://b'"]),
    "twice": (GOOD + GOOD, ["two targets", "'tee'"]),
    "unknown_key": (GOOD + "colour = 1\n", ["forward.0.colour", "not permitted"]),
    "unknown_signal": (GOOD + 'signals = ["metrics"]\n', ["forward.0.signals.0 = 'metrics'"]),
    "no_signal": (GOOD + "signals = []\n", ["forward.0.signals"]),
    "bad_port": ('[[forward]]\nname = "a"\nurl = "http://a:70000"\n', ["forward.0.url", "not a URL"]),
    "query": ('[[forward]]\nname = "a"\nurl = "http://a?b=1"\n', ["forward.0.url", "no query"]),
    "key_alone": (GOOD + 'client_key_file = "k.pem"\n', ["forward.0", "needs client_certificate_file"]),
    "bad_processor": (
        GOOD + '[[forward.processors]]\ntype = "limit"\n',
        ["forward.0.processors.0.limit", "give at least one of"],
    ),
    "its_own_keep": (
        GOOD + '[[forward.processors]]\ntype = "keep"\none_in = 2\n',
        ["forward.0.processors", "sampled = true"],
    ),
    "own_header": (GOOD + 'headers = { Content-Type = "x" }\n', ["forward.0.headers", "Content-Type"]),
    "variable_is_missing": (
        GOOD + 'headers_variable = "NOT_THERE"\n',
        ["forward.0.headers_variable = 'NOT_THERE'", "no such environment variable"],
    ),
    "one_table": ('[forward]\nname = "a"\n', ["forward.name", "write [[forward]]"]),
    "no_list": ("forward = 5\n", ["forward: ", "valid tuple"]),
    "no_tables": ("forward = [5]\n", ["forward.0"]),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_a_mistake_is_refused_with_its_place_in_the_file(tmp_path: Path, text: str, said: list[str]) -> None:
    message = loaded(tmp_path, text)
    assert "sidespan.toml" in message or "two targets" in message
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    "text",
    [
        GOOD + 'headers = { authorization = "s3cret" }\ncolour = 1\n',
        GOOD + 'headers = { "bad name" = "s3cret" }\n',
        GOOD + 'headers = { authorization = "s3cret\\nx" }\n',
        GOOD + 'headers = { authorization = "s3cret" }\nclient_key_file = "k.pem"\n',
        GOOD + 'headers = ["s3cret"]\n',
        GOOD + 'headers_variable = "HEADERS"\n',
        '[[forward]]\nname = "a"\nurl = "http://me:s3cret@host"\n',
        '[[forward]]\nname = "a"\nurl = "https://host/?api_key=s3cret"\n',
        'forward = "authorization=s3cret"\n',
        'forward = ["authorization=s3cret"]\n',
    ],
    ids=[
        "beside_a_mistake",
        "beside_a_bad_name",
        "as_a_bad_value",
        "of_a_whole_table",
        "as_a_list",
        "in_a_variable",
        "in_a_url",
        "in_a_query",
        "in_the_place_of_all_targets",
        "in_the_place_of_a_target",
    ],
)
def test_a_secret_is_in_no_message(tmp_path: Path, text: str) -> None:
    message = loaded(tmp_path, text, HEADERS="s3cret")
    assert message
    assert "s3cret" not in message


def test_headers_of_a_variable_have_the_form_that_opentelemetry_gives_them(tmp_path: Path) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text(GOOD + 'headers_variable = "HEADERS"\nheaders = { X-Scope = "file" }\n')
    environment = {"HEADERS": "authorization=Bearer%20s3cret, x-scope=variable"}
    settings = load(environment=environment, file=file)
    assert settings.forward[0].headers == {"authorization": "Bearer s3cret", "X-Scope": "file"}
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("host", "url", "is_refused"),
    [
        ("127.0.0.1", "http://localhost:4318", True),
        ("127.0.0.1", "http://127.0.0.1:4318/base", True),
        ("localhost", "http://127.0.0.1:4318", True),
        ("127.0.0.1", "http://localhost:4319", False),
        ("127.0.0.1", "http://localhost", False),
        ("127.0.0.1", "http://127.0.0.2:4318", False),
        ("127.0.0.1", "http://otel.example.com:4318", False),
    ],
)
def test_a_target_is_not_sidespan_itself(tmp_path: Path, host: str, url: str, is_refused: bool) -> None:
    target = f'[[forward]]\nname = "a"\nurl = "{url}"\n'
    message = loaded(tmp_path, f'[server]\nhost = "{host}"\nport = 4318\n{target}')
    assert ("is this Sidespan itself" in message) == is_refused, message


def test_a_target_is_not_sidespan_itself_where_it_listens_on_every_address(tmp_path: Path) -> None:
    target = '[[forward]]\nname = "a"\nurl = "http://localhost:4318"\n'
    message = loaded(tmp_path, f'[server]\nhost = "0.0.0.0"\n[auth]\nmode = "none"\n{target}')
    assert "is this Sidespan itself" in message


def test_the_example_is_right() -> None:
    found = load(environment={}, file=EXAMPLE).forward
    assert [(each.name, len(each.processors)) for each in found] == [("collector", 0), ("vendor", 2)]


def test_targets_may_stand_in_the_environment() -> None:
    (target,) = load(environment={"SIDESPAN_FORWARD": '[{ name = "a", url = "http://a" }]'}).forward
    assert target.name == "a"
