"""The rights that have one word: what each preset allows, as data. Pure.

open-trusted  everything but what runs commands on MLflow's host or forwards to any address
open          the same without `spend`: MLflow's host calls no model
standard      what the UI and the SDK need day to day; no administration, no secrets, nothing that spends
              money, starts processes or makes MLflow call other hosts
read-only     every read of `standard`
ingest-only   what a traced program needs: traces, feedback, its experiment by id or name
no-delete     `standard` without deletes (and restores)
"""

from collections.abc import Mapping

from proxy.catalog import Action

ALL = frozenset(Action)
UNPAID = ALL - {Action.SPEND}
READ = frozenset({Action.READ})
WRITE = frozenset({Action.WRITE})
NOTHING: frozenset[Action] = frozenset()
DAILY = frozenset({Action.READ, Action.WRITE, Action.DELETE})

# a row a resource: what `standard` allows. A resource without a row is unknown.
STANDARD: Mapping[str, frozenset[Action]] = {
    "server": DAILY,
    "ui": DAILY,
    "otlp": WRITE,
    "graphql": DAILY,
    "experiments": DAILY,
    "runs": DAILY,
    "traces": DAILY,
    "assessments": DAILY,
    "artifacts": DAILY,
    "artifacts.traces": WRITE,
    "artifacts.presigned": NOTHING,  # hands out addresses of the storage: no bounds there, no log
    "artifact-locations": NOTHING,  # files anywhere that MLflow's host can reach, under a name of one's own
    "logged-models": DAILY,
    "models": DAILY,
    "model-versions": DAILY,
    "datasets": DAILY,
    "issues": DAILY,
    "label-schemas": DAILY,
    "review-queues": DAILY,
    "scorers": DAILY,
    "mcp-servers": DAILY,
    "skills": DAILY,
    "prompt-optimization": frozenset({Action.READ, Action.DELETE}),  # starting one spends money
    "workspaces": READ,
    "gateway.catalog": READ,
    # whoever may not call the operator's models has no use for their names and budgets
    "gateway.endpoints": NOTHING,
    "gateway.model-definitions": NOTHING,
    "gateway.budgets": NOTHING,
    "gateway.guardrails": NOTHING,
    "gateway.invoke": NOTHING,  # spends the provider keys of MLflow's host
    "gateway.secrets": NOTHING,
    "gateway.legacy-proxy": NOTHING,  # forwards to addresses that the caller names
    "assistant": NOTHING,  # runs commands on MLflow's host
    "jobs": NOTHING,  # starts processes there
    "webhooks": NOTHING,  # makes MLflow call addresses that the caller names
    "users": NOTHING,
    "roles": NOTHING,
    "demo": NOTHING,
    "ops": NOTHING,
    "telemetry": NOTHING,
    # Sidespan's own
    "sidespan": READ,
    "metrics": READ,
    "dead-letters": DAILY,
    "alerts": DAILY,
    "journal": WRITE,
    "retention": DAILY,
}

# not even `open-trusted` has these: they must be named
NAMED_ONLY = frozenset({"assistant", "demo", "gateway.legacy-proxy"})

# rows of the catalog, for a preset finer than resource and action
INGEST_ROWS = frozenset(
    {
        "GET /version",
        "GET /health",
        "GET /3.0/mlflow/server-info",
        "POST /v1/traces",
        "GET /2.0/mlflow/experiments/get",
        "GET /2.0/mlflow/experiments/get-by-name",
        "POST /2.0/mlflow/experiments/create",
        "POST /2.0/mlflow/traces",
        "PATCH /2.0/mlflow/traces/{request_id}",
        "PATCH /2.0/mlflow/traces/{request_id}/tags",
        "POST /2.0/mlflow/traces/link-prompts",
        "POST /2.0/mlflow/traces/link-to-run",
        "POST /3.0/mlflow/traces",
        "PATCH /3.0/mlflow/traces/{trace_id}/tags",
        "POST /3.0/mlflow/traces/{trace_id}/assessments",
        "PUT /2.0/mlflow-artifacts/artifacts/{experiment}/traces/{artifact_path:path}",
    }
)

Actions = Mapping[str, frozenset[Action]]

PRESETS: Mapping[str, Actions] = {
    "open-trusted": {name: NOTHING if name in NAMED_ONLY else ALL for name in STANDARD},
    "open": {name: NOTHING if name in NAMED_ONLY else UNPAID for name in STANDARD},
    "standard": STANDARD,
    "read-only": {name: allowed & READ for name, allowed in STANDARD.items()},
    "no-delete": {name: allowed - {Action.DELETE} for name, allowed in STANDARD.items()},
    "ingest-only": {},
}
PRESET_ROWS: Mapping[str, frozenset[str]] = {"ingest-only": INGEST_ROWS}
RESOURCES = frozenset(STANDARD)
