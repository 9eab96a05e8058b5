"""Writes docs/settings.md and docs/reference.md from the code; a test fails when they are out of date.

python docs/generate.py
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from collector.model.errors import Reason
from collector.otlp.status import HTTP_STATUS
from collector.settings import Section, Settings
from collector.settings.processors import Condition, Processor
from collector.telemetry.metrics import Metrics

DOCS = Path(__file__).parent

SETTINGS_HEAD = """# Settings

Flags come before the environment, the environment before `sidespan.toml`, the file before the defaults. In the
environment a key is written `SIDESPAN_SECTION__KEY` (`SIDESPAN_JOURNAL__MAX_BYTES=1000000000`), a list with commas,
a table in TOML's inline form. A key that isn't known or a value that can't be right stops the start with a message
that names the key, the value, where it stands and what is allowed. Sizes are in bytes, times in seconds.

```toml
# sidespan.toml
data_dir = "/var/lib/sidespan"

[mlflow]
url = "https://mlflow.example.com"
token_file = "/run/secrets/mlflow-token"

[routing.services]
checkout-agent = "checkout"   # service.name -> experiment, by name or id
```

This page is written by `python docs/generate.py`.
"""

REFERENCE_HEAD = """# Reference: metrics and reasons

This page is written by `python docs/generate.py`.
"""


def settings_page() -> str:
    return "\n".join([SETTINGS_HEAD, *_sections()]) + "\n"


def _sections() -> Iterator[str]:
    yield "| key | default | meaning |\n| --- | --- | --- |"
    for name, field in Settings.model_fields.items():
        if not _is_section(field.annotation):
            yield _row(name, field)
    for name, field in Settings.model_fields.items():
        if _is_section(field.annotation):
            section = field.annotation
            assert section is not None
            yield f"\n## [{name}]\n\n{section.__doc__}\n\n| key | default | meaning |\n| --- | --- | --- |"
            for key, inner in section.model_fields.items():
                yield _row(f"{name}.{key}", inner)
    yield from _processors()


def _processors() -> Iterator[str]:
    union = get_args(Processor)[0]
    for model in (*get_args(union), Condition):
        title = "when, of tag and drop"
        if model is not Condition:
            title = f'[[processors]] type = "{get_args(model.model_fields["type"].annotation)[0]}"'
        yield f"\n## {title}\n\n{inspect.cleandoc(model.__doc__ or '')}\n"
        yield "| key | default | meaning |\n| --- | --- | --- |"
        for key, field in model.model_fields.items():
            if key != "type":
                yield _row(key, field)


def _row(key: str, field: Any) -> str:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    shown = "required" if field.is_required() else "" if default is None else f"`{_toml(default)}`"
    choices = get_args(field.annotation) if get_origin(field.annotation) is not None else ()
    allowed = [choice for choice in choices if isinstance(choice, str)]
    among = f" One of {', '.join(f'`{choice}`' for choice in allowed)}." if allowed else ""
    return f"| `{key}` | {shown} | {field.description}{among} |"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case dict():
            return "{}"
        case int() | float():
            return f"{value}"
        case _:
            return f'"{value}"'


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def reference_page() -> str:
    return "\n".join([REFERENCE_HEAD, *_metrics(), *_reasons()]) + "\n"


def _metrics() -> Iterator[str]:
    yield "## Metrics at `/-/metrics`\n\n| name | kind | labels | meaning |\n| --- | --- | --- | --- |"
    for metric in vars(Metrics()).values():
        if hasattr(metric, "_labelnames"):
            suffix = "_total" if metric._type == "counter" else ""
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            yield f"| `{metric._name}{suffix}` | {metric._type} | {labels} | {metric._documentation} |"


def _reasons() -> Iterator[str]:
    yield "\n## Reasons\n\nWhy an export or one of its spans was refused: label of `sidespan_spans_rejected_total` and"
    yield "`sidespan_requests_refused_total`, and part of what the client is told.\n"
    yield "| reason | status, if the whole export is refused |\n| --- | --- |"
    for reason in Reason:
        yield f"| `{reason.value}` | {HTTP_STATUS[reason]} |"


PAGES = {"settings.md": settings_page, "reference.md": reference_page}


def main() -> None:
    for name, render in PAGES.items():
        (DOCS / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
