"""Which spans and log records a target gets. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from collector.delivery.bisect import only
from collector.model.batch import Route
from collector.otlp.shapes import Export, SignalShape
from collector.processors.conditions import text_of
from collector.settings import ForwardSettings

Matches = Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardFilter:
    """The filter of one target. `matches` (item, its resource) None: everything in an entry is wanted."""

    experiments: re.Pattern[str] | None
    matches: Matches | None

    def takes_route(self, route: Route) -> bool:
        """Whether anything of this route may be wanted."""
        named = route.experiment_id or route.experiment_name or ""
        return self.experiments is None or self.experiments.fullmatch(named) is not None

    def apply(self, export: Export, shape: SignalShape) -> Export:
        """The export with what is wanted of it."""
        if self.matches is None:
            return export
        wanted: set[int] = set()
        at = 0
        for of_resource in getattr(export, shape.resources):
            for of_scope in getattr(of_resource, shape.scopes):
                for item in getattr(of_scope, shape.items):
                    if self.matches(item, of_resource.resource):
                        wanted.add(at)
                    at += 1
        return export if len(wanted) == at else only(export, shape, wanted)


def selection(settings: ForwardSettings) -> ForwardFilter:
    """The filter that the settings describe."""
    return ForwardFilter(experiments=_any_of(settings.experiments), matches=_matcher(settings))


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, patterns))) if patterns else None


def _matcher(settings: ForwardSettings) -> Matches | None:
    services = _any_of(settings.services)
    values = {key: re.compile(translate(pattern)) for key, pattern in settings.attributes.items()}
    if services is None and not values:
        return None

    def matches(item: Any, resource: Any) -> bool:
        if services is not None and services.fullmatch(_find(resource, "service.name") or "") is None:
            return False
        return all(_has(key, pattern, item, resource) for key, pattern in values.items())

    return matches


def _has(key: str, pattern: re.Pattern[str], item: Any, resource: Any) -> bool:
    text = _find(item, key)
    text = _find(resource, key) if text is None else text
    return text is not None and pattern.fullmatch(text) is not None


def _find(holder: Any, key: str) -> str | None:
    return next((text_of(pair.value) for pair in holder.attributes if pair.key == key), None)
