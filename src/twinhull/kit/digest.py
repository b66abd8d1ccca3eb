"""Content digests as OCI writes them: `sha256:<hex>` and `sha512:<hex>`.

Source: OCI image specification 1.1, "Descriptor", section "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NewType

from twinhull.kit.errors import DigestInvalid, Unsupported

Digest = NewType("Digest", str)

ALGORITHMS: Final = ("sha256", "sha512")
_GRAMMAR: Final = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_KNOWN: Final = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")


def parse_digest(text: str) -> Digest:
    """Return the text as a digest, or raise DigestInvalid (bad grammar) or Unsupported (another algorithm)."""
    if _KNOWN.fullmatch(text):
        return Digest(text)
    algorithm = text.partition(":")[0]
    if _GRAMMAR.fullmatch(text) and algorithm not in ALGORITHMS:
        raise Unsupported(f"digest algorithm {algorithm[:32]!r} is not supported; use sha256 or sha512")
    raise DigestInvalid(f"digest {text[:160]!r} is malformed")


def is_known(text: str) -> bool:
    """Tell whether the text is a digest of an algorithm that is supported."""
    return _KNOWN.fullmatch(text) is not None


def algorithm_of(digest: Digest) -> str:
    """Return the part before the colon."""
    return digest.partition(":")[0]


def hex_of(digest: Digest) -> str:
    """Return the part after the colon."""
    return digest.partition(":")[2]


def new_hash(algorithm: str) -> hashlib._Hash:
    """Return an empty hash of that algorithm."""
    if algorithm not in ALGORITHMS:
        raise Unsupported(f"digest algorithm {algorithm[:32]!r} is not supported; use sha256 or sha512")
    return hashlib.new(algorithm)


def digest_of(content: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
    """Return the digest of the content."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")
