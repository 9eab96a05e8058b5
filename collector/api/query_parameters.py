"""What the OpenAPI document says of the parameters of questions about many traces.

Their names and meanings come from the code that reads them (index/queries).
"""

from collections.abc import Iterable, Sequence

from collector.api.own_route import Parameter
from collector.index.queries.descriptions import FILTERS, ONCE
from collector.index.queries.stats import ENTITIES

__all__ = ["BUCKET", "FILTERS", "STATISTICS", "filters", "table"]

BUCKET = Parameter(
    name="bucket", description="Width of the time buckets, such as 5m or 1h, or auto; default: no time series"
)


def _listed(what: str) -> str:
    return ". ".join(f"For {name}: {', '.join(getattr(entity, what))}" for name, entity in ENTITIES.items())


STATISTICS = (
    Parameter(name="of", description=f"What to count: {', '.join(ENTITIES)}; default traces"),
    Parameter(name="metric", description=f"Metric. {_listed('metrics')}", repeated=True),
    Parameter(name="by", description=f"Dimension to group by. {_listed('dimensions')}", repeated=True),
    Parameter(name="top", description="Maximum number of groups, 1 to 1,000; default 20"),
    Parameter(
        name="order",
        description="Requested metric or dimension to sort groups by; a leading - sorts in descending order",
    ),
    BUCKET,
)


def filters(names: Sequence[str]) -> tuple[Parameter, ...]:
    """The filters with these names. A filter given more than once matches any of its values."""
    return tuple(Parameter(name=name, description=FILTERS[name], repeated=name not in ONCE) for name in names)


def table(sorts: Iterable[str], *, paged: bool = True) -> tuple[Parameter, ...]:
    """How rows are sorted, paged and formatted."""
    cursor = Parameter(name="cursor", description="next_cursor of the previous page")
    return (
        Parameter(
            name="sort",
            description=f"Sort by one of {', '.join(sorts)}; a leading - sorts in descending order",
        ),
        Parameter(
            name="limit",
            description="Maximum number of rows, 1 to 1,000; default 100. Files: up to 1,000,000",
        ),
        *((cursor,) if paged else ()),
        Parameter(name="format", description="json, csv or parquet; default json"),
    )
