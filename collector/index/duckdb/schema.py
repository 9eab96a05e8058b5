"""The tables of the index (index/rows/columns.py) as DuckDB makes them. Pure."""

from collector.index.rows.columns import LABEL_COLUMNS, SCORE_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS, Column

SCHEMA_VERSION = 3


def table_sql(name: str, columns: tuple[Column, ...]) -> str:
    """CREATE TABLE for it."""
    listed = ", ".join(f'"{each.name}" {each.type}' for each in columns)
    return f"CREATE TABLE {name} ({listed})"


SCHEMA = (
    "CREATE TABLE meta (schema_version INTEGER, journal VARCHAR)",
    "CREATE TABLE experiments (number INTEGER, id VARCHAR, name VARCHAR)",
    "CREATE TABLE cursors (lane VARCHAR, sequence BIGINT)",
    table_sql("traces", TRACE_COLUMNS),
    table_sql("spans", SPAN_COLUMNS),
    table_sql("labels", LABEL_COLUMNS),
    table_sql("scores", SCORE_COLUMNS),
)
