"""The variables that Kubernetes sets for a Service whose name begins with ours. Pure.

A Service `sidespan` on port 4318 gives each pod started after it, in the same namespace:

    SIDESPAN_SERVICE_HOST=10.0.0.11              SIDESPAN_PORT=tcp://10.0.0.11:4318
    SIDESPAN_SERVICE_PORT=4318                   SIDESPAN_PORT_4318_TCP=tcp://10.0.0.11:4318
    SIDESPAN_SERVICE_PORT_OTLP_HTTP=4318         SIDESPAN_PORT_4318_TCP_{PROTO,PORT,ADDR}=tcp, 4318, 10.0.0.11

and a Service `sidespan-eu` the same with SIDESPAN_EU. None of them is a setting. Name and value are both
looked at, so that a setting whose name is misspelt is still refused.
Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

# a single underscore between the parts: two of them stand in names of settings only
_SERVICE = r"(?P<service>SIDESPAN(?:_[A-Z0-9]+)*?)"
_ADDRESS = re.compile(_SERVICE + r"_SERVICE_HOST")
_NUMBER = re.compile(_SERVICE + r"_SERVICE_PORT(?:_[A-Z0-9]+)*")
_URL = re.compile(_SERVICE + r"_PORT(?:_(?P<port>[0-9]{1,5})_(?P<protocol>TCP|UDP|SCTP)(?P<part>_[A-Z]+)?)?")
_PROTOCOLS = ("tcp", "udp", "sctp")


def is_service_link(name: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes has made this variable of a Service."""
    text = environment[name]
    # one name can be read in several ways: of a Service `sidespan-service`, or a port of `sidespan`
    if _ADDRESS.fullmatch(name) and _is_address(text):
        return True
    found = _NUMBER.fullmatch(name)
    # a number could be anything, but Kubernetes sets the address beside it
    if found and _is_port(text) and _is_address(environment.get(f"{found['service']}_SERVICE_HOST", "")):
        return True
    found = _URL.fullmatch(name)
    return found is not None and _is_part(text, found["port"], found["protocol"], found["part"])


def _is_part(text: str, port: str | None, protocol: str | None, part: str | None) -> bool:
    match part:
        case None:
            return _is_url(text, port, protocol)
        case "_PROTO":
            return text == str(protocol).lower()
        case "_PORT":
            return text == port
        case "_ADDR":
            return _is_address(text)
        case _:
            return False


def _is_url(text: str, port: str | None, protocol: str | None) -> bool:
    try:
        url = urlsplit(text)
        there = (url.scheme, str(url.port), url.path + url.query + url.fragment)
    except ValueError:
        return False
    schemes = _PROTOCOLS if protocol is None else (protocol.lower(),)
    fits = there[0] in schemes and there[1] == (port or there[1]) and not there[2]
    return fits and url.port is not None and _is_address(url.hostname or "")


def _is_address(text: str) -> bool:
    """An address that a Service can have: somebody who writes 0.0.0.0 means where we listen."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536
