"""New keys and certificates in the place of old ones, in the node's files and in the TLS settings that are in use."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid
from twinhull.replication.certificates import (
    bundle_of,
    fingerprints_of,
    is_due,
    is_issued_by,
    issue,
    new_authority,
    private_pem,
)
from twinhull.replication.trust import Trust, public_jwk


class Renewal:
    """What can be renewed of a node's trust, one step at a time; each is whole or not done, and does no harm twice.

    node/token-next.key   the key that will sign tokens, once all members know it        node/rotation   the last that is done
    """

    def __init__(self, trust: Trust, clock: Clock) -> None:
        """Take the node's files, and the time."""
        self._trust = trust
        self._clock = clock

    # -- tokens ----------------------------------------------------------------------------------------------------

    def rotation(self) -> int:
        """Return the number of the last rotation of this node's token key that was done here."""
        path = self._trust.file("rotation")
        return int(path.read_text()) if path.exists() else 0

    def next_token_key(self) -> dict[str, str]:
        """Make the key that is to sign tokens next, unless it is made already, and return its public part."""
        path = self._trust.file("token-next.key")
        if not path.exists():
            self._trust.keep(path.name, private_pem(Ed25519PrivateKey.generate()))
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise Invalid(f"{path} is no Ed25519 key", hint="remove it")
        return public_jwk(key)

    def use_next_token_key(self, rotation: int) -> None:
        """Sign with the next key from now on; every process that signs looks at the file before it does."""
        path = self._trust.file("token-next.key")
        if path.exists():
            path.replace(self._trust.file("token.key"))
        self._trust.keep("rotation", str(rotation).encode())

    # -- certificates ----------------------------------------------------------------------------------------------

    def new_authority(self) -> tuple[str, str]:
        """Return certificate and key (PEM) of a new authority, which is not used yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        return new_authority(key, self._trust.identity().cluster, self._clock).decode(), private_pem(key).decode()

    def believed(self) -> list[str]:
        """Return the fingerprints of the authorities whose certificates are believed."""
        return fingerprints_of(self._trust.ca_pem())

    def believe(self, authorities: Sequence[str]) -> bool:
        """Believe the certificates of these authorities (PEM) and no others; tell whether that is a change.

        Running TLS settings learn of new ones at once; of one that is gone, with the next start.
        """
        bundle = bundle_of(authorities)
        if bundle == self._trust.ca_pem():
            return False
        self._trust.keep("ca.pem", bundle)
        for context in self._trust.contexts:
            context.load_verify_locations(cadata=bundle.decode())
        return True

    def sign_with(self, authority_key_pem: str) -> None:
        """Let this authority sign from now on: this node's own certificate, and those of newcomers."""
        self._trust.keep("ca.key", authority_key_pem.encode())

    def renew(self) -> None:
        """Give this node a new certificate by the authority that signs, and use it on all new connections."""
        trust = self._trust
        holder = trust.elliptic_key("node.key").public_key()
        certificate = issue(trust.ca_pem(), trust.elliptic_key("ca.key"), holder, trust.identity().node, self._clock)
        trust.keep("node.pem", certificate)
        for context in trust.contexts:
            context.load_cert_chain(trust.file("node.pem"), trust.file("node.key"))

    def is_due(self) -> bool:
        """Tell whether this node's certificate ends before long."""
        return is_due(self._trust.file("node.pem").read_bytes(), self._clock)

    def is_certified_by(self, authority_pem: str) -> bool:
        """Tell whether this authority has signed this node's certificate."""
        return is_issued_by(self._trust.file("node.pem").read_bytes(), authority_pem)
