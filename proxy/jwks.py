"""Which of a provider's published keys may check which signatures. Pure.

A key set lists keys for encryption and for signatures side by side. Only the latter say who somebody is, and
each only by the algorithms of its own type and curve.
Sources: https://www.rfc-editor.org/rfc/rfc7517#section-4.2 ("use", "key_ops", "alg"),
https://www.rfc-editor.org/rfc/rfc7518#section-3.1, https://www.rfc-editor.org/rfc/rfc8037#section-3.1,
https://www.rfc-editor.org/rfc/rfc8725#section-3.1
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jwt

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# asymmetric ones only: with a shared secret whoever can check a token can make one (RFC 8725, section 3.1)
ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}

# the key's id, which may be empty, and an algorithm
Name = tuple[str, str]


def signing_keys(document: Mapping[str, Any]) -> dict[Name, jwt.PyJWK]:
    """The keys of a key set that may check signatures, by id and algorithm.

    Keys for anything else, and those that can't be read, are left out. Raises ValueError for what is no
    key set.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("it has no list of keys")
    return {name: key for each in listed if isinstance(each, dict) for name, key in _readings(each)}


def _readings(key: Mapping[str, Any]) -> Iterator[tuple[Name, jwt.PyJWK]]:
    id = key.get("kid", "")
    if not isinstance(id, str) or not _is_for_signatures(key):
        return
    for algorithm in _algorithms(key):
        try:
            yield (id, algorithm), jwt.PyJWK(dict(key), algorithm)
        except jwt.PyJWTError:
            continue


def _is_for_signatures(key: Mapping[str, Any]) -> bool:
    operations = key.get("key_ops", ["verify"])
    return key.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _algorithms(key: Mapping[str, Any]) -> tuple[str, ...]:
    """Those that fit the key's type and curve, or the one of them that the key names."""
    kind, curve = key.get("kty"), key.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return ()
    fitting = ALGORITHMS.get((kind, curve), ())
    return tuple(algorithm for algorithm in fitting if key.get("alg", algorithm) == algorithm)
