"""Where the settings come from, strongest first:

    flags  >  environment (SIDESPAN_SECTION__KEY)  >  sidespan.toml  >  defaults

`load` is the only place that reads the environment or the file. A key that isn't known or a value
that can't be right raises Misconfigured, naming the key, the value, where it stands and what is allowed.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from collector.model.errors import Misconfigured, WrongSetting
from collector.settings.forward import with_headers
from collector.settings.section import Section
from collector.settings.sections import Settings
from collector.settings.service_links import is_service_link

ENVIRONMENT_PREFIX = "SIDESPAN_"
# read by the instrumentation package and the CLI's clients, not by the service
FOREIGN_VARIABLES = frozenset(
    f"SIDESPAN_{name}"
    for name in "ENDPOINT EXPERIMENT URL TOKEN INCLUDE_CONTENT HIDE_INPUTS HIDE_OUTPUTS BATCH OPENINFERENCE"
    " REPEAT_CONTENT LOGS".split()
)


def environment() -> dict[str, str]:
    """The process's own."""
    return dict(os.environ)


Values = dict[str, Any]
Check = Callable[[Settings], None]
"""Raises WrongSetting."""


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    checks: Sequence[Check] = (),
) -> Settings:
    """The settings from `flags` (dotted keys), `environment` and `file`.

    `file` None: `sidespan.toml` in the working directory, if it is there. `checks` are those of parts that
    know more of their settings than stands here. Raises Misconfigured.
    """
    environment = os.environ if environment is None else environment
    values: Values = {}
    origins: dict[str, str] = {}
    for key, value, origin in [
        *_from_file(file),
        *_from_environment(environment),
        *((key, value, f"flag for {key}") for key, value in (flags or {}).items()),
    ]:
        _put(values, key, value, origin)
        origins[key] = origin
    _put_headers(values, environment, origins)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        _forget_frames(error)
        raise Misconfigured(_explain(error, values, origins)) from error
    for check in checks:
        try:
            check(settings)
        except WrongSetting as error:
            raise Misconfigured(f"{_origin(error.key, origins) or 'settings'}: {error}") from error
    return settings


def _forget_frames(error: ValidationError) -> None:
    """Take the tracebacks, and what they were raised from, off the errors of validators.

    pydantic holds these errors where the garbage collector can't see them: in a circle with our own error,
    every frame up to the program's first would never be freed.
    """
    for each in error.errors(include_url=False, include_input=False):
        for cause in each.get("ctx", {}).values():
            if isinstance(cause, BaseException):
                cause.__traceback__ = cause.__cause__ = cause.__context__ = None


def _from_file(file: Path | None) -> list[tuple[str, Any, str]]:
    path = file or Path("sidespan.toml")
    if file is None and not path.exists():
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{path}: can't be read as TOML: {error}") from error
    return [(key, value, f"{path}") for key, value in _flatten(content)]


def _flatten(content: Values, prefix: str = "") -> list[tuple[str, Any]]:
    """Tables as dotted keys; a table whose keys are names (services, clients, roles) stays one value."""
    flat: list[tuple[str, Any]] = []
    for key, value in content.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and not known_keys().get(dotted, "").startswith("dict"):
            flat += _flatten(value, f"{dotted}.")
        else:
            flat.append((dotted, value))
    return flat


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    found = []
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name not in FOREIGN_VARIABLES:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            if key not in known_keys() and is_service_link(name, environment):
                continue
            found.append((key, _parse(key, text, name), f"environment variable {name}"))
    return found


def _parse(key: str, text: str, name: str) -> Any:
    """Lists and tables are written in TOML's inline form, a list also with commas."""
    field = known_keys().get(key)
    if field is None or not (field.startswith("tuple") or field.startswith("dict")):
        return text
    if field.startswith("tuple") and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"environment variable {name}: not a TOML value: {error}") from error


def known_keys() -> dict[str, str]:
    """Every dotted key with its type as text."""
    keys: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            for inner, inner_field in kind.model_fields.items():
                keys[f"{name}.{inner}"] = str(inner_field.annotation)
        else:
            keys[name] = str(kind)
    return keys


def _put(values: Values, key: str, value: Any, origin: str) -> None:
    if key not in known_keys():
        raise Misconfigured(f"{origin}: unknown setting {key!r}; {_suggest(key)}")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value


def _put_headers(values: Values, environment: Mapping[str, str], origins: Mapping[str, str]) -> None:
    """The headers of other backends that stand in environment variables.

    Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/#specifying-headers-via-environment-variables
    """
    targets = values.get("forward")
    if not isinstance(targets, list):
        return
    for number, target in enumerate(targets):
        name = target.get("headers_variable") if isinstance(target, dict) else None
        if not isinstance(name, str):
            continue
        place = f"{origins['forward']}: forward.{number}.headers_variable = {name!r}"
        if name not in environment:
            raise Misconfigured(f"{place}: there is no such environment variable")
        pairs = [pair.partition("=") for pair in environment[name].split(",") if pair.strip()]
        if not all(separator for _, separator, _ in pairs):
            raise Misconfigured(f"{place}: must hold name=value,name=value")
        found = {unquote(key.strip()): unquote(value.strip()) for key, _, value in pairs}
        given = target.get("headers", {})
        headers = with_headers(found, given) if isinstance(given, dict) else given
        targets[number] = {**target, "headers": headers}


def _suggest(key: str) -> str:
    close = difflib.get_close_matches(key, known_keys(), n=3, cutoff=0.7)
    section = key.split(".")[0]
    if known_keys().get(section, "").startswith("tuple"):
        return f"write [[{section}]], with two brackets: there may be several"
    siblings = [known for known in known_keys() if known.split(".")[0] == section]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known there: {', '.join(siblings)}" if siblings else "see docs/settings.md"


def _explain(error: ValidationError, values: Values, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        known = ".".join(key.split(".")[:2])
        origin = _origin(key, origins)
        message = problem["msg"].removeprefix("Value error, ")
        value = _lookup(values, key if key.startswith(("processors.", "alerts.", "forward.")) else known)
        shown = "" if _is_secret(key, value) or origin is None else f" = {value!r}"
        lines.append(f"{origin or 'settings'}: {key}{shown}: {message}" if key else message)
    return "\n".join(lines)


def _origin(key: str, origins: Mapping[str, str]) -> str | None:
    known = ".".join(key.split(".")[:2])
    return origins.get(key) or origins.get(known) or origins.get(key.split(".")[0])


def _lookup(values: Values, key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        if isinstance(found, list | tuple):
            found = found[int(part)] if part.isdecimal() and int(part) < len(found) else None
        elif not (isinstance(found, dict) and found.get("type") == part):  # pydantic names the type too
            found = found.get(part) if isinstance(found, dict) else None
    return found


def _may_hold_headers(key: str, value: Any) -> bool:
    """Whether this is a table of another backend, something in its place, or its headers."""
    section, *place = key.split(".")
    return section == "forward" and (len(place) < 2 or "headers" in key or isinstance(value, dict))


def _is_secret(key: str, value: Any) -> bool:
    # somebody who puts a password into the URL, or headers in a wrong place, must not find it in a log
    return (
        key.endswith(("password", "token", "hash_key"))
        or key.startswith("alerting.channels")
        or "hash_key" in str(value)
        or (key.endswith(".url") and any(mark in str(value) for mark in "@?#"))
        or _may_hold_headers(key, value)
    )
