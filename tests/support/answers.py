"""Our own routes over answers that a test brings itself."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from starlette.applications import Starlette

from collector.answers.opening import Answers
from collector.answers.traces import TraceAnswers
from collector.api.app import own_app
from collector.api.own_route import OwnRoute


def answers_with(**parts: Any) -> Answers:
    """Answers of which only these parts may be asked."""
    return Answers(**{field.name: parts.get(field.name) for field in fields(Answers)})


def own_app_with(routes: Iterable[OwnRoute], **parts: Any) -> Starlette:
    """The app of some of our own routes, with these answers."""
    return own_app(answers_with(**parts), routes)


def traces_from(source: Any, explanation: Any = None) -> TraceAnswers:
    """Answers on single traces from one source, whatever the client may see."""
    return TraceAnswers(
        everything=source, delivered=source, explain=lambda *_: {} if explanation is None else explanation
    )
