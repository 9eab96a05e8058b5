"""The sockets that we listen on: our own, or those that a supervisor has opened for us.

A supervisor (systemd, and what speaks its protocol) keeps its sockets open while we are restarted: clients
wait in the kernel's queue meanwhile, and none is refused.

    LISTEN_PID=our process   LISTEN_FDS=how many, from descriptor 3   LISTEN_FDNAMES=their names, with colons

Source: sd_listen_fds(3), https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
"""

import os
import socket
from collections.abc import Mapping, Sequence

from collector.model.addresses import url_at
from collector.model.errors import Misconfigured
from collector.settings import ServerSettings, Settings, is_loopback

FIRST_DESCRIPTOR = 3
BACKLOG = 2048

Listeners = tuple[socket.socket, ...]


def open_listeners(settings: Settings, environment: Mapping[str, str]) -> Listeners:
    """The supervisor's sockets if there are any, else one of our own. Raises Misconfigured."""
    given = given_listeners(environment, process=os.getpid())
    if not given:
        return (bind(settings.server),)
    if settings.auth.mode == "loopback":
        _check_loopback(given)
    return given


def given_listeners(environment: Mapping[str, str], *, process: int) -> Listeners:
    """The sockets that the supervisor has opened for `process`; none if it has opened none.

    Raises Misconfigured: one of them isn't a listening TCP socket.
    """
    if environment.get("LISTEN_PID") != str(process):  # none, or meant for a parent of ours
        return ()
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        raise Misconfigured(f"environment variable LISTEN_FDS = {count!r}: must be a number of sockets")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    return tuple(_adopt(each, names) for each in range(int(count)))


def _adopt(number: int, names: Sequence[str]) -> socket.socket:
    descriptor = FIRST_DESCRIPTOR + number
    name = names[number] if number < len(names) else ""
    shown = f"the supervisor's socket {name or number} (LISTEN_FDS, descriptor {descriptor})"
    try:
        listener = socket.socket(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise Misconfigured(f"{shown} can't be used: {error.strerror}") from error
    if listener.family not in (socket.AF_INET, socket.AF_INET6) or not listens:
        raise Misconfigured(f"{shown} is no listening TCP socket: set ListenStream= to an address and a port")
    listener.setblocking(False)
    return listener


def _check_loopback(given: Listeners) -> None:
    for listener in given:
        host = listener.getsockname()[0]
        if not is_loopback(host):
            raise Misconfigured(
                f"the supervisor's socket at {address(listener)} lets other machines in, and no clients are "
                'configured: listen on 127.0.0.1, write auth.mode = "clients" (docs/policies.md), or write '
                'auth.mode = "none" to let anybody in'
            )


def bind(settings: ServerSettings) -> socket.socket:
    """The listening socket. Raises Misconfigured: the port is taken, or the address isn't ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host.strip("[]"), settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Misconfigured(
            f"can't listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another with --port, or stop what listens there"
        ) from error
    listener.setblocking(False)
    return listener


def is_at(listener: socket.socket, settings: ServerSettings) -> bool:
    """Whether the socket is where the settings want one; port 0 is any. Raises Misconfigured."""
    try:
        found = socket.getaddrinfo(settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Misconfigured(f"server.host = {settings.host!r} is unknown: {error.strerror}") from error
    host, port = listener.getsockname()[:2]
    return settings.port in (0, port) and host in {place[0] for *_, place in found}


def address(listener: socket.socket, *, tls: bool = False) -> str:
    """The URL under which the socket is reached from here."""
    host, port = listener.getsockname()[:2]
    return url_at(host, port, tls=tls)
