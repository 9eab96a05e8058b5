"""Secrets and personal data that are known by their form: the table behind redaction's presets. Pure.

Attribute values are often JSON text, so what stands before a secret may be an escape: in `\\nsk-…` the `n` is
no letter of a word. BEGIN accepts that; AT and PLUS accept the escaped forms of their signs.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

# the start of a word: not after a letter or digit, but after a JSON escape or a lone backslash
BEGIN = (
    r"(?:(?<![A-Za-z0-9_\\])|(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4})|(?<=%[0-9A-F]{2})"
    r"|(?<=\\)(?![nrtbfu\"\\/]))"
)
# the start of a number: the digits of an escape are no part of it
NUMBER = (
    r"(?:(?<![0-9.%])(?<!%[0-9A-F])(?<!\\u)"
    + "".join(rf"(?<!\\u[0-9a-fA-F]{{{count}}})" for count in (1, 2, 3))
    + r"|(?<=%[0-9A-F]{2})|(?<=\\u[0-9a-fA-F]{4}))"
)
AT = r"(?:@|\\u0040|%40)"
PLUS = r"(?:\+|\\u002[bB]|%2B)"
# names of settings that hold secrets, as they are written
ASSIGNED = tuple(
    form
    for word in ("password", "passwd", "passphrase", "secret", "api_key", "api-key", "apikey")
    for form in (word, word.capitalize(), word.upper())
) + ("apiKey", "ApiKey", "passWord", "Pass:", "pass:", "pass=")
DIGITS = "0123456789"
# of a card number
FEWEST_DIGITS, MOST_DIGITS, FIRST_DIGITS = 13, 19, (2, 3, 4, 5, 6)
QUOTE = r"(?:\\*[\"'])?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One form; `group` is the secret in it, and `within` finds the places in that where it really stands.

    A text without any of `needles`, or with fewer `digits`, has none.
    """

    name: str
    regex: re.Pattern[str]
    needles: tuple[str, ...] = ()
    digits: int = 0
    group: int = 0
    within: Callable[[str], Sequence[tuple[int, int]]] | None = None


def cards_within(text: str) -> list[tuple[int, int]]:
    """Where card numbers stand among groups of digits, in order; what may be part of two is one.

    Source: ISO/IEC 7812-1, annex B (the check digit).
    """
    digits = [(at, int(sign)) for at, sign in enumerate(text) if sign in DIGITS]
    groups = [match.span() for match in re.finditer(r"[0-9]+", text)]
    starts, ends = {start for start, _ in groups}, {end for _, end in groups}
    # check sums of all before a digit, with every second value doubled: the odd ones, or the even ones
    sums = [list(accumulate(_check_values(digits, parity), initial=0)) for parity in (1, 0)]
    found: list[tuple[int, int]] = []
    for first, (start, value) in enumerate(digits):
        if start not in starts or value not in FIRST_DIGITS:
            continue
        for last in range(min(first + MOST_DIGITS, len(digits)) - 1, first + FEWEST_DIGITS - 2, -1):
            end = digits[last][0] + 1
            if end in ends and (sums[last % 2][last + 1] - sums[last % 2][first]) % 10 == 0:
                begun = found.pop()[0] if found and start < found[-1][1] else start
                found.append((begun, end))
                break
    return found


def _check_values(digits: Sequence[tuple[int, int]], parity: int) -> Iterator[int]:
    """What each digit adds to the check sum if those of a parity are doubled."""
    for number, (_, value) in enumerate(digits):
        yield sum(divmod(2 * value, 10)) if number % 2 == parity else value


def _key(form: str, *needles: str, group: int = 0) -> Pattern:
    return Pattern(name="api-key", regex=re.compile(BEGIN + form), needles=needles, group=group)


# in the order in which they are looked for: a password before the address that it seems to be part of
TABLE: Mapping[str, tuple[Pattern, ...]] = {
    "api-keys": (
        _key(r"sk-(?:proj-|ant-|svcacct-|or-v1-|lf-)?[A-Za-z0-9_-]{16,}", "sk-"),  # OpenAI, Anthropic, …
        _key(r"AIza[A-Za-z0-9_-]{35}", "AIza"),  # Google
        _key(r"ya29\.[A-Za-z0-9_-]{20,}", "ya29."),
        _key(r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Z0-9])", "AKIA", "ASIA", "AROA", "AIDA"),  # AWS
        _key(
            rf"aws_?secret_?(?:access_?)?key{QUOTE}\s*[:=]\s*{QUOTE}([A-Za-z0-9/+]{{40}})",
            "aws_secret",
            "awsSecret",
            group=1,
        ),
        _key(r"gh[opsur]_[A-Za-z0-9]{36,}", "gho_", "ghp_", "ghs_", "ghu_", "ghr_"),  # GitHub
        _key(r"github_pat_[A-Za-z0-9_]{22,}", "github_pat_"),
        _key(r"glpat-[A-Za-z0-9_-]{20,}", "glpat-"),  # GitLab
        _key(r"xox[abprse]-[A-Za-z0-9-]{10,}", "xox"),  # Slack
        _key(r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}", "k_live_", "k_test_"),  # Stripe
        _key(r"hf_[A-Za-z0-9]{30,}", "hf_"),  # Hugging Face
        _key(r"npm_[A-Za-z0-9]{36}", "npm_"),
        _key(r"pypi-[A-Za-z0-9_-]{50,}", "pypi-"),
        _key(r"dapi[0-9a-f]{32}", "dapi"),  # Databricks
        _key(r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", "SG."),  # SendGrid
        _key(r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", "eyJ"),  # JWT, RFC 7519
        _key(r"[Bb]earer\s+([A-Za-z0-9._~+/=-]{16,})", "earer ", group=1),  # RFC 6750
        Pattern(
            name="private-key",
            regex=re.compile(
                r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.*?(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----|\Z)",
                re.DOTALL,
            ),
            needles=("PRIVATE KEY-----",),
        ),
    ),
    "passwords": (
        Pattern(
            name="password",
            regex=re.compile(rf"[a-z][a-z0-9+.-]*:(?:\\*/){{2}}[^\s/:@\"'\\]*:([^\s/@\"'\\]+){AT}"),
            needles=("://", ":\\/\\/"),
            group=1,
        ),
        Pattern(
            name="password",
            regex=re.compile(
                rf"(?i:pass(?:word|wd|phrase)?|client[_-]?secret|api[_-]?key|secret[_-]?key){QUOTE}"
                rf"\s*[:=]\s*{QUOTE}([^\s\"'\\,;&}}{{\[\]]{{6,}})"
            ),
            needles=ASSIGNED,
            group=1,
        ),
    ),
    "email": (
        Pattern(
            name="email",
            regex=re.compile(
                rf"{BEGIN}[A-Za-z0-9][A-Za-z0-9._+'-]{{0,63}}{AT}[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
            ),
            needles=("@", "\\u0040", "%40"),
        ),
    ),
    "card": (
        Pattern(
            name="card",
            digits=13,
            regex=re.compile(NUMBER + r"(?:[0-9][ -]?){12,}[0-9](?![0-9])"),
            within=cards_within,
        ),
    ),
    "phone": (
        Pattern(
            name="phone",
            digits=8,
            regex=re.compile(rf"{PLUS}[0-9](?:[ ().-]{{0,2}}[0-9]){{7,13}}(?![0-9])"),
            needles=("+", "\\u002b", "\\u002B", "%2B"),
        ),
        Pattern(
            name="phone",
            digits=8,
            regex=re.compile(r"(?<![0-9A-Za-z.-])\(?[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4}(?![0-9-])"),
        ),
    ),
}
