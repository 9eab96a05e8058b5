"""Scalars of proto3's JSON mapping as protobuf's wire format. Pure.

Strict where the mapping is strict: a value that can't be stored exactly is wrong, never rounded or dropped.
Source: https://protobuf.dev/programming-guides/json/ and https://protobuf.dev/programming-guides/encoding/
"""

import binascii
import re
from collections.abc import Mapping
from decimal import Decimal
from math import inf, isinf, nan
from struct import Struct

from collector.model.errors import Reason

# a number as JSON writes it; quoted numbers follow the same grammar, so no "1_000", " 1", "+1" or "0x1"
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
PLAIN_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
NOT_FINITE: Mapping[str, float] = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
# from here on neighbouring integers share a float, so a number with a fraction or exponent may be off by one
FIRST_INEXACT = 2.0**53
# digits of the largest integer; and more characters than any sender needs for a number
MAX_DIGITS = 20
MAX_CHARACTERS = 100

INT32, INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)
UINT32, UINT64 = range(2**32), range(2**64)
VARINTS_KEPT = 2048
pack_fixed32 = Struct("<I").pack
pack_fixed64 = Struct("<Q").pack
pack_double = Struct("<d").pack


class Wrong(Exception):
    """A value that isn't what the mapping allows: what is wrong with it, and the path to it."""

    reason = Reason.MALFORMED

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def under(self, outer: str) -> "Wrong":
        """The same, with the path seen from the message around it."""
        joint = "" if not self.path or self.path.startswith("[") else "."
        self.path = f"{outer}{joint}{self.path}"
        return self

    def __str__(self) -> str:
        return f"{self.path or 'the top level'}: {self.problem}"


class TooDeep(Wrong):
    """Lists and maps stand inside each other more often than allowed."""

    reason = Reason.ATTRIBUTES_TOO_DEEP


class TooMany(Wrong):
    """More values in one message than may be held at once."""

    reason = Reason.TOO_LARGE


def varint(number: int) -> bytes:
    """A number of 0 to 2**64 - 1 in base 128, the lowest digit first."""
    return _VARINTS[number] if number < VARINTS_KEPT else _varint(number)


def signed_varint(number: int) -> bytes:
    """The same for int32, int64 and enums: a negative number is its two's complement of 64 bits."""
    return varint(number & 0xFFFF_FFFF_FFFF_FFFF)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS = tuple(_varint(number) for number in range(VARINTS_KEPT))


def integer(value: int | float | str, allowed: range) -> int:
    """The integer that a number or a quoted number stands for; "1e3" and 2.0 are integers too.

    Raises Wrong: no integer, not exact, or not in the range.
    """
    number = value if isinstance(value, int) else _integer(value)
    if number not in allowed:
        raise Wrong(f"must be from {allowed.start} to {allowed.stop - 1}")
    return number


def _integer(value: float | str) -> int:
    if isinstance(value, str):
        return int(value) if PLAIN_INTEGER.fullmatch(value) else _from_exponent(value)
    if not value.is_integer():
        raise Wrong("must be an integer, is a fraction")
    if abs(value) >= FIRST_INEXACT:
        raise Wrong("must be exact: send it as a string of digits")
    return int(value)


def _from_exponent(text: str) -> int:
    number = Decimal(text) if NUMBER.fullmatch(text) and len(text) <= MAX_CHARACTERS else None
    if number is None:
        raise Wrong("must be an integer, is another text")
    if number and number.adjusted() > MAX_DIGITS:
        raise Wrong("is out of range")
    if number != number.to_integral_value():
        raise Wrong("must be an integer, is a fraction")
    return int(number) if number else 0


def double(value: float | str) -> float:
    """The double that a number, a quoted number, "NaN" or "Infinity" stands for. Raises Wrong."""
    if not isinstance(value, str):
        return value
    if value in NOT_FINITE:
        return NOT_FINITE[value]
    if not NUMBER.fullmatch(value):
        raise Wrong("must be a number, is another text")
    number = float(value)
    if isinf(number):
        raise Wrong("is out of range")
    return number


def enum(value: int | float | str, names: Mapping[str, int]) -> int:
    """An enum's number. Names are tolerated, though OTLP sends integers; unknown integers are kept.

    Raises Wrong.
    """
    if isinstance(value, str) and value in names:
        return names[value]
    try:
        return integer(value, INT32)
    except Wrong as wrong:
        if isinstance(value, str):
            raise Wrong("must be an integer or one of " + ", ".join(names)) from wrong
        raise


def base64_bytes(text: str) -> bytes:
    """Bytes from base64, standard or URL-safe, with or without padding. Raises Wrong."""
    try:
        standard = text.encode("ascii").translate(_FROM_URL_SAFE)
        if b"=" not in standard:
            standard += b"=" * (-len(standard) % 4)
        return binascii.a2b_base64(standard, strict_mode=True)
    except ValueError as error:
        raise Wrong("must be base64") from error


_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def hexadecimal(text: str) -> bytes:
    """Bytes from hex digits in any case. Raises Wrong."""
    try:
        return binascii.unhexlify(text)
    except ValueError as error:
        raise Wrong("must be hexadecimal digits") from error
