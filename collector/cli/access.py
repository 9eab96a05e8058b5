"""The commands on clients and policy: `sidespan token …`, `sidespan policy …`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.cli.options import AsJson, Config, DataDir, MlflowUrl
from collector.model.durations import parse_duration
from collector.model.errors import Misconfigured
from collector.settings import Settings, load
from proxy.policy import ANONYMOUS, BadPolicy, check_roles
from proxy.tokens import BadTokens, Token, create_token, read_tokens, revoke_tokens

tokens = typer.Typer(help="Create, list and revoke API tokens.", no_args_is_help=True)
policy = typer.Typer(help="Explain what the policy allows.", no_args_is_help=True)


@tokens.command("create")
def create(
    name: Annotated[str, typer.Argument(help="The client's name, as in policy.clients.")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="Role of this token, instead of those in policy.clients; repeatable."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="Lifetime, such as 12h or 30d (default: unlimited).")
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a token for a client and print it.

    It is printed only once: Sidespan stores nothing but its hash.
    """
    from collector.api.access import tokens_file

    settings = _settings(config, data_dir)
    lifetime = None if expires is None else lifetime_seconds(expires)
    try:
        built = settings.policy.build(settings.auth)
        check_roles(role or (), built.roles, "--role")
        secret, token = create_token(
            tokens_file(settings), name, roles=role or None, lifetime_seconds=lifetime
        )
    except (BadPolicy, BadTokens) as error:
        raise Misconfigured(str(error)) from error
    if as_json:
        typer.echo(json.dumps(_shown(token) | {"token": secret}))
        return
    typer.echo(secret)
    for line in _after(settings, token, built.roles_of(name)):
        typer.echo(line, err=True)


def _after(settings: Settings, token: Token, roles: tuple[str, ...]) -> list[str]:
    lines = [
        f"This token of client {token.name!r} is not shown again. How to pass it:",
        "  MLflow's client: MLFLOW_TRACKING_TOKEN=…",
        "  an OTLP exporter: OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20…",
    ]
    if not (token.roles or roles):
        lines.append(f"It has no rights yet: give {token.name!r} roles in policy.clients, or use --role.")
    if settings.auth.mode != "clients":
        lines.append(
            f'Clients are not authenticated while auth.mode = "{settings.auth.mode}"; set it to "clients".'
        )
    return lines


@tokens.command("list")
def show(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List tokens, without their secrets."""
    from collector.api.access import tokens_file

    try:
        listed = [_shown(token) for token in read_tokens(tokens_file(_settings(config, data_dir)))]
    except BadTokens as error:
        raise Misconfigured(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"tokens": listed}))
        return
    for token in listed:
        expires = token["expires"] or "never"
        roles = ", ".join(token["roles"]) if token["roles"] is not None else "from policy.clients"
        typer.echo(
            f"{token['id']}  {token['name']:<24} created {token['created']}  expires {expires}  roles {roles}"
        )
    typer.echo(f"{len(listed)} tokens")


@tokens.command("revoke")
def revoke(
    which: Annotated[str, typer.Argument(help="A token id, or a client name for all of its tokens.")],
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke tokens.

    The running service refuses them within a second.
    """
    from collector.api.access import tokens_file

    try:
        gone = revoke_tokens(tokens_file(_settings(config, data_dir)), which)
    except BadTokens as error:
        raise Misconfigured(str(error)) from error
    typer.echo(json.dumps({"revoked": len(gone)}) if as_json else f"{len(gone)} tokens revoked")
    if not gone:
        raise typer.Exit(1)


@policy.command("explain")
def explain(
    method: Annotated[str, typer.Argument(help="HTTP method: GET, POST, …")],
    target: Annotated[str, typer.Argument(metavar="PATH", help="Path of the request, with its query.")],
    client: Annotated[str, typer.Option("--as", help="Client that makes the request.")] = ANONYMOUS,
    body: Annotated[Path | None, typer.Option(help="File with the request's JSON body.")] = None,
    config: Config = None,
    data_dir: DataDir = None,
    mlflow_url: MlflowUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show what the policy decides on a request, and why.

    The exit code is 0 if the request is allowed and 1 otherwise.
    """
    from collector.cli.decisions import JudgedRequest, explain_request

    settings = _settings(config, data_dir, mlflow_url)
    try:
        content = None if body is None else body.read_bytes()
    except OSError as error:
        raise Misconfigured(f"--body {body}: {error.strerror}") from error
    try:
        found = explain_request(
            JudgedRequest(method=method.upper(), target=target, client=client, body=content), settings
        )
    except BadTokens as error:
        raise Misconfigured(str(error)) from error
    typer.echo(json.dumps(found) if as_json else _told(found))
    raise typer.Exit(0 if found["decision"] == "allowed" else 1)


def _told(found: dict[str, Any]) -> str:
    lines = [f"{found['decision']}: {found['message'] or found['rule']}"]
    lines.append(f"  client      {found['client']} ({', '.join(found['roles']) or 'no roles'})")
    if "resource" in found:
        lines.append(f"  operation   {found['resource']}:{found['action']}")
    if found.get("rule"):
        lines.append(f"  rule        {found['rule']}")
    if found.get("experiments"):
        lines.append(f"  experiments {', '.join(found['experiments'])}")
    lines += [f"  sent {name:<6} {text}" for name, text in found.get("sent", {}).items()]
    return "\n".join(lines)


def lifetime_seconds(text: str) -> float:
    """The seconds of `12h` or `30d`. Raises Misconfigured."""
    seconds = parse_duration(text)
    if not seconds:
        raise Misconfigured(f"--expires {text!r}: must be a length of time such as 90m, 12h or 30d")
    return seconds


def _settings(config: Path | None, data_dir: Path | None, mlflow_url: str | None = None) -> Settings:
    flags = {"data_dir": data_dir, "mlflow.url": mlflow_url}
    return load(flags={key: value for key, value in flags.items() if value is not None}, file=config)


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "roles": None if token.roles is None else list(token.roles),
        "created": _time(token.created_unix_seconds),
        "expires": None if token.expires_unix_seconds is None else _time(token.expires_unix_seconds),
    }


def _time(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="minutes")
