"""Secrets that must be usable, such as another registry's password: encrypted with a key that only the cluster's nodes have.

A sealed text may stand in a record, a log, a backup; without the nodes' own key files nobody reads it. What is only
compared, such as a user's password, is hashed instead.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twinhull.kit.errors import Invalid, Unavailable

# sealed:1:ID OF THE KEY:BASE64 OF NONCE AND CIPHERTEXT
_FORM: Final = "sealed:1:"
_NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
_ID_LENGTH: Final = 16

RandomBytes = Callable[[int], bytes]


class Sealer:
    """Seals and unseals with the cluster's keys: the first one seals, all of them unseal."""

    def __init__(self, read_keys: Callable[[], Sequence[bytes]], *, random_bytes: RandomBytes = os.urandom) -> None:
        """Take what reads the keys of 32 bytes, and is asked anew when one is needed: they may be renewed meanwhile."""
        self._read_keys = read_keys
        self._random_bytes = random_bytes
        self._known: dict[str, AESGCM] = {}

    def seal(self, text: str) -> str:
        """Return the text as only the cluster's nodes can read it; sealed twice, it looks different each time."""
        key = self._read_keys()[0]
        nonce = self._random_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, text.encode(), None)
        return f"{_FORM}{key_id(key)}:{base64.b64encode(sealed).decode()}"

    @staticmethod
    def is_sealed(text: str) -> bool:
        """Tell whether the text has the form of a sealed one."""
        return text.startswith(_FORM)

    def unseal(self, sealed: str) -> str:
        """Return the text; raises Unavailable for want of the key, Invalid for what was never sealed or was changed."""
        name, colon, packed = sealed.removeprefix(_FORM).partition(":")
        if not sealed.startswith(_FORM) or not colon:
            raise Invalid("this is no sealed secret", hint="enter it again")
        if name not in self._known:
            self._known = {key_id(key): AESGCM(key) for key in self._read_keys()}
        if name not in self._known:
            raise Unavailable(
                f"this secret is sealed with the cluster key {name[:_ID_LENGTH]}, which this node does not have",
                hint="connect it to its peers, which pass the key on, or enter the secret again",
            )
        try:
            content = base64.b64decode(packed, validate=True)
            return self._known[name].decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None).decode()
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise Invalid("this sealed secret is damaged", hint="enter it again") from error


def key_of(text: str) -> str:
    """Return the name of the key that a text is sealed with; empty for what is not sealed."""
    return text.removeprefix(_FORM).partition(":")[0] if Sealer.is_sealed(text) else ""


def key_id(key: bytes) -> str:
    """Return the name by which nodes speak of a key; it tells nothing about the key."""
    return hashlib.sha256(b"twinhull cluster key\0" + key).hexdigest()[:_ID_LENGTH]
