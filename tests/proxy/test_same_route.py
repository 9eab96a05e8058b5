"""What the catalog calls a path is what MLflow's own routers make of it: asked of the routers themselves."""

import random
import re
from pathlib import Path

import pytest

from proxy.catalog import PARAMETER, UNKNOWN, load_catalog
from proxy.errors import Refusal
from proxy.target import read_path
from tests.proxy.inside_mlflow import inside_mlflow

# the way of a path behind us: uvicorn decodes it once, FastAPI's routes are tried, then Flask's
ASK = """
import json, sys
from urllib.parse import unquote
from mlflow.server.fastapi_app import app
from mlflow.server import app as flask
from starlette.routing import Match
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

def walk(routes):
    for route in routes:
        original = getattr(route, "original_router", None)
        if original is not None:
            prefix = route.include_context.prefix
            for inner in original.routes:
                yield prefix, inner
        elif getattr(route, "methods", None):
            yield "", route

native = list(walk(app.routes))
rules = flask.url_map.bind("localhost")

def route_of(method, raw):
    path = unquote(raw)
    for prefix, route in native:
        if path.startswith(prefix):
            inner = {"type": "http", "path": path[len(prefix):], "method": method, "root_path": ""}
            found, _ = route.matches(inner)
            if found is Match.FULL:
                return prefix + route.path
    try:
        rule, _ = rules.match(path, method=method, return_rule=True)
        return rule.rule
    except RequestRedirect as redirect:
        return "redirect " + redirect.new_url
    except HTTPException:
        return None

print(json.dumps([route_of(method, raw) for method, raw in json.load(sys.stdin)]))
"""

NOISE = [
    "/",
    "//",
    "/.",
    "/..",
    "/./",
    ";x",
    ";",
    "%2f",
    "%2F",
    "%2e",
    "%2e%2e",
    "%5c",
    "\\",
    "%00",
    "%0a",
    "%20",
    "%25",
    "%252f",
    "%61",
    ".",
    " ",
    "?",
    "#",
    "%c0%ae",
    "%ef%bc%8f",
    "a",
    "A",
    "0",
    "+",
    ":",
    "@",
    "~",
    "api",
    "%3b",
]


def _variants(seed: int, count: int) -> list[tuple[str, str]]:
    """Routes of the catalog, led astray: noise put in, letters escaped or in capitals, parts swapped."""
    dice = random.Random(seed)
    catalog = load_catalog()
    known = [(method, path) for method, path in catalog.exact]
    known += [(method, op.route) for method, found in catalog.patterns.items() for _, op in found]
    made = []
    for _ in range(count):
        method, path = dice.choice(known)
        text = PARAMETER.sub(
            lambda _: dice.choice(["1", "tr-1", "a.b", "x/y", "%41", "a%20b", "..", "runs"]), path
        )
        for _ in range(dice.choice([0, 1, 1, 2])):
            at = dice.randrange(len(text) + 1)
            match dice.randrange(5):
                case 0 | 1:
                    text = text[:at] + dice.choice(NOISE) + text[at:]
                case 2:
                    text = text[:at] + text[at : at + 1].swapcase() + text[at + 1 :]
                case 3 if text[at : at + 1]:
                    text = f"{text[:at]}%{ord(text[at]):02x}{text[at + 1 :]}"
                case _:
                    other = dice.choice(known)[1]
                    text = text[: text.rfind("/")] + other[other.rfind("/") :]
        made.append((dice.choice([method, method, "GET", "POST", "DELETE"]), text.partition("?")[0]))
    return made


def _shape(path: str) -> str:
    return PARAMETER.sub("{p}", re.sub(r"<[^>]*>", "{p}", path))


@pytest.mark.slow
def test_no_path_that_passes_is_another_route_for_mlflow(tmp_path: Path) -> None:
    catalog = load_catalog()
    passing = []
    variants = _variants(seed=20261121, count=40_000)
    for method, raw in variants:
        try:
            path = read_path(raw.encode())
        except (Refusal, UnicodeEncodeError):
            continue
        operation = catalog.classify(method, path)
        if operation is not UNKNOWN:
            passing.append((method, raw, operation.route))
    assert len(passing) > 5000
    assert any("%" in raw for _, raw, _ in passing)
    given = [(method, raw) for method, raw, _ in passing]
    found = inside_mlflow(ASK, tmp_path, given=given)
    different = {
        (method, raw, route, theirs)
        for (method, raw, route), theirs in zip(passing, found, strict=True)
        if theirs is not None and _shape(route).replace("/{p}/traces/", "/") != _shape(theirs)
    }
    assert sorted(different)[:20] == []
    assert sum(theirs is not None for theirs in found) > 4000, "the routers must have known most of them"
