"""May this operation pass? Pure.

The policy of a service without configured clients: everything that MLflow's UI and SDK need day to day. What
runs code, spends money, reaches other hosts or manages people is denied, whoever asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.catalog import Action, Operation

ALL = frozenset(Action)
READ = frozenset({Action.READ})
NOTHING: frozenset[Action] = frozenset()
DAILY = frozenset({Action.READ, Action.WRITE, Action.DELETE})

# a row a resource: what is allowed. A resource without a row is denied.
DEFAULT: Mapping[str, frozenset[Action]] = {
    "server": DAILY,
    "ui": DAILY,
    "graphql": DAILY,
    "experiments": DAILY,
    "runs": DAILY,
    "traces": DAILY,
    "assessments": DAILY,
    "artifacts": DAILY,
    "logged-models": DAILY,
    "models": DAILY,
    "model-versions": DAILY,
    "datasets": DAILY,
    "issues": DAILY,
    "label-schemas": DAILY,
    "review-queues": DAILY,
    "scorers": DAILY,
    "mcp-servers": DAILY,
    "prompt-optimization": frozenset({Action.READ, Action.DELETE}),  # starting one spends money
    "workspaces": READ,
    "gateway.catalog": READ,
    "gateway.endpoints": READ,
    "gateway.model-definitions": READ,
    "gateway.budgets": READ,
    "gateway.guardrails": READ,
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
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether an operation passes, and the rule that says so."""

    allow: bool
    rule: str


def decide(operation: Operation) -> Decision:
    """The decision on an operation."""
    allowed = DEFAULT.get(operation.resource)
    if allowed is None:
        return Decision(allow=False, rule="routes that this version doesn't know are denied")
    rule = f"default policy, {operation.resource}: {', '.join(sorted(allowed)) or 'nothing'}"
    return Decision(allow=operation.action in allowed, rule=rule)
