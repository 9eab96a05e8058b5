"""How long traces stay in MLflow: `[[retention]]` rules, and `[cleanup]`: how they are carried out."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from collector.settings.section import Section

Protection = Literal["assessments", "attachments", "dataset", "run", "tag"]
DAY_SECONDS = 86_400.0


class RetentionSettings(Section):
    """Traces that leave MLflow, and what becomes of them. A trace goes by the first rule that selects it.

    Traces with assessments, in a dataset, linked to a run or tagged to be kept stay, unless `even_if` names
    the reason; so do traces with attachments where `action` is `archive`.
    """

    name: str = Field(min_length=1, max_length=100)
    """Name of the rule; unique."""
    experiments: tuple[str, ...] = ("*",)
    """Experiments by name; `*` matches any text, `?` one character. A name of digits only is also an id."""
    older_than_seconds: float | None = Field(None, ge=0)
    """Select traces that started so long ago."""
    max_traces: int | None = Field(None, ge=0)
    """Select the oldest traces of an experiment beyond so many, counting those that match `status` and
    `tags`. Protected traces count, and stay."""
    status: tuple[Literal["OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED"], ...] = ()
    """Select only traces with one of these states; by default all."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Select only traces with all of these tags in MLflow: `{ environment = "test" }`."""
    action: Literal["archive", "delete"] = "archive"
    """`archive` writes the spans to the archive, reads them back, and then deletes the trace; `delete` only
    deletes it."""
    even_if: tuple[Protection, ...] = ()
    """Protections that this rule sets aside: `assessments`, `dataset`, `run`, `tag`; and `attachments`, by
    which the archive takes a trace without the files that its spans name."""

    @field_validator("name")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be one line of printable characters")
        return value

    @field_validator("tags")
    @classmethod
    def _can_be_asked_for(cls, value: dict[str, str]) -> dict[str, str]:
        if any("`" in name or ("'" in text and '"' in text) for name, text in value.items()):
            raise ValueError("MLflow can't be asked for a name with ` or a value with both kinds of quotes")
        return value

    @model_validator(mode="after")
    def _has_a_bound(self) -> "RetentionSettings":
        if self.older_than_seconds is None and self.max_traces is None:
            raise ValueError("give older_than_seconds, max_traces or both")
        return self


class CleanupSettings(Section):
    """How `[[retention]]` rules are carried out."""

    every_seconds: float | None = Field(None, ge=1)
    """How often the service applies the rules by itself. By default never: only `sidespan retention run`
    does."""
    archive_url: str | None = None
    """Folder of the archive: a path, `file:///FOLDER`, or another URL of fsspec such as `s3://BUCKET/PREFIX`
    (needs `sidespan[archive]` and fsspec's package for it). By default `archive` in the data folder."""
    mlflow_share: float = Field(0.5, gt=0, le=1)
    """Share of the time in which MLflow may work for the rules. At 0.5, Sidespan pauses after each request
    for as long as it took, at most 30 seconds. Requests of others that Sidespan sees go first in any case."""
    batch_traces: int = Field(100, ge=1, le=500)
    """Traces that are archived and deleted together. A request to MLflow is for fewer where MLflow would take
    long for it."""
    keep_tag: str = Field("keep", min_length=1, max_length=250)
    """Tag that protects a trace in MLflow, with any value but `false`."""
    late_spans: Literal["dead-letter", "reopen"] = "dead-letter"
    """What happens to new spans of an archived trace: `dead-letter` keeps them with the reason
    `archived_trace`, `reopen` restores the trace and delivers them."""
    keep_restored_seconds: float = Field(7 * DAY_SECONDS, ge=0)
    """How long the rules leave a restored trace alone."""
