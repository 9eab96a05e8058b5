"""`sidespan policy explain`: what the policy decides on one request, and why.

The request itself is not sent to MLflow, only the look-ups that the decision needs.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from collector.api.access import access_settings, tokens_file
from collector.api.guard import check_operator
from collector.api.own_routes import OWN_OPERATIONS
from collector.api.receiver_admission import EXPORT
from collector.mlflow.client import authorization, tls
from collector.settings import Settings
from proxy import Access, Upstream, open_access
from proxy.ask import Ask
from proxy.catalog import UNKNOWN, Operation, load_catalog
from proxy.errors import Refusal
from proxy.policy import ANONYMOUS, Client, Policy
from proxy.target import check_query, read_path
from proxy.tokens import read_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRequest:
    """A request to decide on. `target` is a path with its query; `body` is None if it has no body."""

    method: str
    target: str
    client: str
    body: bytes | None = None


def explain_request(request: JudgedRequest, settings: Settings) -> dict[str, Any]:
    """{"client", "roles", "resource", "action", "decision", "rule", "message", "experiments", "sent"}.

    Raises Misconfigured, BadTokens.
    """
    return asyncio.run(_explain(request, settings))


async def _explain(request: JudgedRequest, settings: Settings) -> dict[str, Any]:
    upstream = Upstream(
        url=settings.mlflow.url,
        authorization=authorization(settings.mlflow),
        ssl=tls(settings.mlflow),
        connect_timeout_seconds=settings.mlflow.connect_timeout_seconds,
        read_timeout_seconds=settings.proxy.read_timeout_seconds,
        max_connections=4,
    )
    quiet = settings.log.model_copy(update={"access": False, "audit": False})
    built = access_settings(settings.model_copy(update={"log": quiet}))
    client = _client(request.client, settings, built.policy)
    found: dict[str, Any] = {"client": client.name, "roles": list(client.roles)}
    async with open_access(built, upstream) as access:
        try:
            return found | await _judge(request, client, access, settings)
        except Refusal as refusal:
            return found | {
                "decision": "failed" if refusal.status >= 500 else "denied",
                "status": refusal.status,
                "rule": refusal.rule,
                "message": refusal.message,
            }


async def _judge(
    request: JudgedRequest, client: Client, access: Access, settings: Settings
) -> dict[str, Any]:
    parts = urlsplit(request.target)
    path = read_path(parts.path.encode())
    query = parts.query.encode()
    check_query(query)
    operation = _operation(request.method, path)
    what = {"resource": operation.resource, "action": operation.action.value}

    async def read_body() -> bytes:
        return request.body or b""

    try:
        if path.startswith("/-/") and client.name == ANONYMOUS:
            check_operator(client, operation, settings.server)
        passage = await access.gate.judge(
            Ask(
                client=client,
                operation=operation,
                method=request.method,
                path=path,
                query=query,
                content_type="application/json",
                read_body=None if request.body is None else read_body,
            )
        )
    except Refusal as refusal:
        return what | {
            "decision": "failed" if refusal.status >= 500 else "denied",
            "status": refusal.status,
            "rule": refusal.rule,
            "message": refusal.message,
        }
    sent = {
        name: value.decode()
        for name, value in (("query", passage.query), ("body", passage.body))
        if value is not None and value != (query if name == "query" else request.body)
    }
    return what | {
        "decision": "observed" if passage.observed else "allowed",
        "rule": passage.rule,
        "message": passage.observed,
        "experiments": list(passage.experiments),
        "sent": sent,
    }


def _operation(method: str, path: str) -> Operation:
    if (method, path.rstrip("/")) == ("POST", "/v1/traces"):
        return EXPORT
    catalog = OWN_OPERATIONS if path.startswith("/-/") else load_catalog()
    operation = catalog.classify(method, path)
    return UNKNOWN if operation.route == "unknown" else operation


def _client(name: str, settings: Settings, policy: Policy) -> Client:
    """The client with the roles of its token, or else those that the policy gives it."""
    roles = policy.roles_of(name)
    if settings.auth.mode == "clients":
        own = [token.roles for token in read_tokens(tokens_file(settings)) if token.name == name]
        roles = next((found for found in own if found is not None), roles)
    return Client(name=name, roles=roles)
