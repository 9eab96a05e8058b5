"""The commands on clients and policy: `sidespan token …`, `sidespan policy …`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.model.durations import parse_duration
from collector.model.errors import Misconfigured
from collector.settings import Settings, load
from proxy.policy import ANONYMOUS, BadPolicy, check_roles
from proxy.tokens import BadTokens, Token, create_token, read_tokens, revoke_tokens

tokens = typer.Typer(help="API tokens of clients.", no_args_is_help=True)
policy = typer.Typer(help="Who may do what.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option(help="Settings file (./sidespan.toml).")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the journal (./.sidespan).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@tokens.command("create")
def create(
    name: Annotated[str, typer.Argument(help="The client's name, as policy.clients has it.")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="A role of its own, instead of those in policy.clients; repeatable."),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="For how long it holds: `12h`, `30d`.")] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for a client and print it, once; only its hash is kept."""
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
        f"This is the only time it is shown. As {token.name!r}, MLflow's client: MLFLOW_TRACKING_TOKEN=…"
    ]
    lines.append("an OTLP exporter: OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20…")
    if not (token.roles or roles):
        lines.append(f"It may do nothing yet: give {token.name!r} roles in policy.clients, or --role.")
    if settings.auth.mode != "clients":
        lines.append(f'No token is asked for while auth.mode = "{settings.auth.mode}"; write "clients".')
    return lines


@tokens.command("list")
def show(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the tokens, without their secrets."""
    from collector.api.access import tokens_file

    try:
        found = [_shown(token) for token in read_tokens(tokens_file(_settings(config, data_dir)))]
    except BadTokens as error:
        raise Misconfigured(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"tokens": found}))
        return
    for each in found:
        ends = each["expires"] or "never"
        roles = ", ".join(each["roles"]) if each["roles"] is not None else "of policy.clients"
        typer.echo(f"{each['id']}  {each['name']:<24} made {each['created']}  ends {ends}  roles {roles}")
    typer.echo(f"{len(found)} tokens")


@tokens.command("revoke")
def revoke(
    which: Annotated[str, typer.Argument(help="A token's id, or a client's name for all of its tokens.")],
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """End tokens; the running service refuses them within a second."""
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
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    target: Annotated[str, typer.Argument(metavar="PATH", help="The path, with its query.")],
    client: Annotated[str, typer.Option("--as", help="The client who asks.")] = ANONYMOUS,
    body: Annotated[Path | None, typer.Option(help="File with the JSON body.")] = None,
    config: Config = None,
    data_dir: DataDir = None,
    mlflow_url: Annotated[str | None, typer.Option(help="The MLflow server behind us.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the policy decides on one request, and by which rule. Exit code 1: denied."""
    from collector.cli.decisions import Question, explain_request

    settings = _settings(config, data_dir, mlflow_url)
    try:
        content = None if body is None else body.read_bytes()
    except OSError as error:
        raise Misconfigured(f"--body {body}: {error.strerror}") from error
    try:
        found = explain_request(
            Question(method=method.upper(), target=target, client=client, body=content), settings
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
        raise Misconfigured(f"--expires {text!r}: give 90m, 12h or 30d")
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
