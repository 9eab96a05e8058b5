"""Index files of earlier versions, brought up to date where they are: a step a version.

    1 -> 2    `model` is the model that was asked for, `response_models` those that answered; embeddings are
              model calls; labels of traces have a table
    2 -> 3    scores have a table; those of before come with `sidespan index backfill`. Tokens by modality
              have columns: unknown of the spans that are there already

The spans' facts are all there, so nothing has to be read again, and nothing is lost that the journal and
MLflow no longer have.
"""

from collections.abc import Callable, Mapping, Sequence

from collector.index.duckdb.schema import table_sql
from collector.index.rows.columns import LABEL_COLUMNS, SCORE_COLUMNS
from collector.index.sql.columns import SEPARATOR, SPAN_COLUMNS


def _listed(value: str) -> str:
    """SQL: the different values of a group as a list within a text."""
    return f"'{SEPARATOR}' || string_agg(DISTINCT {value}, '{SEPARATOR}' ORDER BY {value}) || '{SEPARATOR}'"


def _added(table: str, prefix: str) -> Sequence[str]:
    """SQL: columns of a table for what version 3 counts apart."""
    return [
        f"ALTER TABLE {table} ADD COLUMN {prefix}{modality}_{direction}_tokens BIGINT"
        for direction in ("input", "output")
        for modality in ("text", "image", "audio", "video")
    ]


STEPS: Mapping[int, Sequence[str]] = {
    1: (
        "ALTER TABLE spans ADD COLUMN response_model VARCHAR",
        "ALTER TABLE spans ADD COLUMN own_facts VARCHAR",
        "ALTER TABLE traces ADD COLUMN response_models VARCHAR",
        table_sql("labels", LABEL_COLUMNS),
        "UPDATE traces SET model_calls = called.calls, models = called.models,"  # noqa: S608 (constants)
        " response_models = called.answering FROM (SELECT experiment, trace_id, count(*) AS calls,"
        f" {_listed(SPAN_COLUMNS['model'])} AS models,"
        f" {_listed(SPAN_COLUMNS['response_model'])} AS answering"
        " FROM spans WHERE model_call GROUP BY experiment, trace_id) called"
        " WHERE traces.experiment = called.experiment AND traces.trace_id = called.trace_id",
    ),
    2: (
        table_sql("scores", SCORE_COLUMNS),
        *(*_added("traces", ""), *_added("spans", ""), *_added("spans", "aggregated_")),
    ),
}


def upgrade(execute: Callable[[str], object], version: int) -> int:
    """Bring the tables from `version` as far as there are steps, in a transaction; the version reached."""
    while version in STEPS:
        for statement in STEPS[version]:
            execute(statement)
        version += 1
    execute(f"UPDATE meta SET schema_version = {version:d}")  # noqa: S608 (a number)
    return version
