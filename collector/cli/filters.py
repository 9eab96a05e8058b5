"""The filters of `sidespan summary traces`, `sessions` and `stats`: written once, options of all three."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from collector.cli.options import experiment_parameter
from collector.model.errors import Misconfigured

Query = dict[str, list[str]]


def read_filters(
    *,
    experiment: Annotated[str | None, typer.Option(help="Experiment: an id (digits only) or a name.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Start: -1h, -7d, an ISO 8601 time or a Unix time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="End, in the same forms as --since.")] = None,
    status: Annotated[str | None, typer.Option(help="OK, ERROR or UNKNOWN.")] = None,
    service: Annotated[str | None, typer.Option(help="Service name; a trailing * matches any text.")] = None,
    agent: Annotated[str | None, typer.Option(help="Agent name; * as in --service.")] = None,
    model: Annotated[str | None, typer.Option(help="Requested model; * as in --service.")] = None,
    response_model: Annotated[
        str | None, typer.Option(help="Model that answered; * as in --service.")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Tool name; * as in --service.")] = None,
    session: Annotated[str | None, typer.Option(help="Session id; * as in --service.")] = None,
    user: Annotated[str | None, typer.Option(help="User id; * as in --service.")] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(help="With a score: its name, NAME=label, or 'NAME<0.5' (>, >=, <=); repeatable."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Any other filter of the API, such as min_cost_usd=0.1; repeatable."),
    ] = None,
) -> Query:
    """The filters as query parameters of the API. Raises Misconfigured."""
    named = {
        "since": since,
        "until": until,
        "status": status,
        "service": service,
        "agent": agent,
        "model": model,
        "response_model": response_model,
        "tool": tool,
        "session": session,
        "user": user,
        **(experiment_parameter(experiment) if experiment is not None else {}),
    }
    query = {name: [value] for name, value in named.items() if value is not None}
    if score:
        query["score"] = score
    for condition in where or ():
        name, sign, value = condition.partition("=")
        if not sign:
            raise Misconfigured(f"--where {condition!r}: must be name=value, such as min_duration_seconds=2")
        query.setdefault(name, []).append(value)
    return query


def with_filters(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options of `read_filters` where it has its keyword-only parameter `filters`.

    Typer makes the options of a command from its signature, so that signature is what is put together here.
    """
    options = inspect.signature(read_filters).parameters

    @wraps(command)
    def filtered(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in options}
        command(filters=read_filters(**chosen), **given)

    own = inspect.signature(command)
    parameters = [
        parameter
        for name, parameter in own.parameters.items()
        for parameter in (options.values() if name == "filters" else [parameter])
    ]
    vars(filtered)["__signature__"] = own.replace(parameters=parameters)
    return filtered
