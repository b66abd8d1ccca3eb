"""Who belongs to the cluster: its certificate authority, node certificates, one-time invites, and the files they live in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid, JoinRefused
from twinhull.records.change import Change
from twinhull.replication.certificates import authority_of, common_name, fingerprint_of, issue, new_authority, private_pem

INVITE_LIFETIME_MS: Final = 60 * 60 * 1000
_SECRET_BYTES: Final = 24
_KEY_BYTES: Final = 32
_ClusterKeys = Annotated[
    list[Annotated[bytes, msgspec.Meta(min_length=_KEY_BYTES, max_length=_KEY_BYTES)]], msgspec.Meta(min_length=1)
]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which node of which cluster this is."""

    cluster: str
    node: str
    name: str
    slot: int


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    """What a join token says: where to go, the one-time secret, and how to know the cluster's authority."""

    address: str
    secret: str
    ca_fingerprint: str


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a newcomer sends to the node that invited it."""

    secret: str
    node: str
    name: str
    address: str
    url: str
    signing_request_pem: str
    # JSON web key of the newcomer's token-signing key, public part.
    token_key: dict[str, str]


class JoinAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What makes the newcomer a master: its certificate, and the cluster's authority and keys."""

    cluster: str
    slot: int
    certificate_pem: str
    ca_certificate_pem: str
    ca_key_pem: str
    cluster_keys: list[bytes]
    # The members' records, so that the newcomer knows whom to dial.
    members: list[Change]


class Trust:
    """The files in a node's `node/` folder, and what can be done with them."""

    def __init__(self, folder: Path) -> None:
        """Use this folder; nothing is read before it is needed."""
        self._folder = folder
        # TLS settings that were given out, to be told of new certificates.
        self.contexts: list[ssl.SSLContext] = []
        self._current: tuple[tuple[int, ...], ssl.SSLContext] | None = None

    # -- files -----------------------------------------------------------------------------------------------------
    #
    # node/identity.json   which node of which cluster          node/ca.pem, ca.key     the cluster's authority
    # node/node.pem        this node's certificate, and its key in node.key
    # node/members         whom a newcomer dials first          node/taken-over         it has the cluster's state
    # node/token.key       signs tokens (Ed25519)               node/cluster.keys       seal what must be usable
    # node/own-data        what a join made of the data that were there before it

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder

    def file(self, name: str) -> Path:
        """Return where a file of this name is, or would be."""
        return self._folder / name

    def keep(self, name: str, content: bytes) -> None:
        """Write a secret file so that it is whole or absent, and readable by this user alone."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self.file(name + ".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(self.file(name))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def exists(self) -> bool:
        """Tell whether this folder already belongs to a node."""
        return self.file("identity.json").exists()

    def identity(self) -> Identity:
        """Return which node this is; Invalid when the folder is damaged."""
        try:
            return msgspec.json.decode(self.file("identity.json").read_bytes(), type=Identity)
        except (OSError, msgspec.DecodeError) as error:
            message = f"{self.file('identity.json')} cannot be read"
            raise Invalid(message, hint="restore the node/ folder from a backup") from error

    def cluster_keys(self) -> list[bytes]:
        """Return the keys of 32 bytes that all members share, the one to seal with first; Invalid when there are none."""
        path = self.file("cluster.keys")
        try:
            return msgspec.json.decode(path.read_bytes(), type=_ClusterKeys)
        except (OSError, msgspec.MsgspecError) as error:
            raise Invalid(f"{path} cannot be read", hint="restore the node/ folder from a backup") from error

    def keep_cluster_keys(self, keys: Sequence[bytes]) -> None:
        """Keep these keys, the one to seal with first."""
        self.keep("cluster.keys", msgspec.json.encode(keys))

    def token_key(self) -> Ed25519PrivateKey:
        """Return the key that signs this node's tokens."""
        key = serialization.load_pem_private_key(self.file("token.key").read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            message = f"{self.file('token.key')} is no Ed25519 key"
            raise Invalid(message, hint="restore the node/ folder from a backup")
        return key

    def token_key_mark(self) -> int:
        """Return what is another when the token key is another; costs one look at the file."""
        return self.file("token.key").stat().st_ino

    def token_jwk(self) -> dict[str, str]:
        """Return the public part of the token key as a JSON web key; its `kid` is the key's thumbprint."""
        return public_jwk(self.token_key())

    # -- founding and joining --------------------------------------------------------------------------------------

    def found(self, name: str, clock: Clock) -> Identity:
        """Make a cluster of one: a new authority, a new node certificate, new keys."""
        authority_key = ec.generate_private_key(ec.SECP256R1())
        cluster = secrets.token_hex(8)
        self.keep("ca.key", private_pem(authority_key))
        self.keep("ca.pem", new_authority(authority_key, cluster, clock))
        self.keep_cluster_keys([secrets.token_bytes(_KEY_BYTES)])
        request = self.new_signing_request()
        node = new_node_id()
        self.keep("node.pem", self.sign(request, node, clock))
        identity = Identity(cluster=cluster, node=node, name=name, slot=0)
        self.keep("identity.json", msgspec.json.encode(identity))
        return identity

    def new_signing_request(self) -> bytes:
        """Make this node's keys and return a certificate signing request (PEM)."""
        key = ec.generate_private_key(ec.SECP256R1())
        self.keep("node.key", private_pem(key))
        self.keep("token.key", private_pem(Ed25519PrivateKey.generate()))
        # The authority names the node; what the request says of itself does not matter.
        builder = x509.CertificateSigningRequestBuilder().subject_name(common_name("twinhull node"))
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign(self, request_pem: bytes, node: str, clock: Clock) -> bytes:
        """Return a certificate (PEM) that lets the holder of the request's key act as this node."""
        try:
            request = x509.load_pem_x509_csr(request_pem)
        except ValueError as error:
            message = "the certificate signing request cannot be read"
            raise JoinRefused(message) from error
        if not request.is_signature_valid:
            message = "the certificate signing request is not signed by its own key"
            raise JoinRefused(message)
        holder = request.public_key()
        if not isinstance(holder, ec.EllipticCurvePublicKey):
            raise JoinRefused("the certificate signing request is for another kind of key")
        return issue(self.ca_pem(), self.elliptic_key("ca.key"), holder, node, clock)

    def elliptic_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """Return the private key in a file: the authority's (ca.key), or this node's (node.key)."""
        key = serialization.load_pem_private_key(self.file(name).read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            message = f"{self.file(name)} is no elliptic curve key"
            raise Invalid(message, hint="restore the node/ folder from a backup")
        return key

    def answer(self, certificate_pem: bytes, slot: int, members: list[Change]) -> JoinAnswer:
        """Return all that a newcomer needs; to be sent over TLS only."""
        return JoinAnswer(
            cluster=self.identity().cluster,
            slot=slot,
            certificate_pem=certificate_pem.decode(),
            ca_certificate_pem=self.file("ca.pem").read_text(),
            ca_key_pem=self.file("ca.key").read_text(),
            cluster_keys=self.cluster_keys(),
            members=members,
        )

    def adopt(self, answer: JoinAnswer, node: str, name: str) -> Identity:
        """Become the member that the answer describes; the identity is written last, so a crash before leaves none."""
        self.keep("ca.pem", answer.ca_certificate_pem.encode())
        self.keep("ca.key", answer.ca_key_pem.encode())
        self.keep("node.pem", answer.certificate_pem.encode())
        self.keep_cluster_keys(answer.cluster_keys)
        self.keep("members", msgspec.msgpack.encode(answer.members))
        identity = Identity(cluster=answer.cluster, node=node, name=name, slot=answer.slot)
        self.keep("identity.json", msgspec.json.encode(identity))
        return identity

    def first_members(self) -> list[Change]:
        """Return the members' records that came with the join; nothing for the founder."""
        path = self.file("members")
        return msgspec.msgpack.decode(path.read_bytes(), type=list[Change]) if path.exists() else []

    def is_ready(self) -> bool:
        """Tell whether this node has the cluster's state: the founder always, a newcomer once it has taken it over."""
        return not self.file("members").exists() or self.file("taken-over").exists()

    def took_over(self) -> None:
        """Note, for good, that this node has taken over the cluster's state."""
        self.keep("taken-over", b"")

    def note_own_data(self, plan: str) -> None:
        """Remember, before joining, what is to become of the data that are here."""
        self.keep("own-data", plan.encode())

    def own_data(self) -> str:
        """Return what was remembered; empty for a node that never joined."""
        path = self.file("own-data")
        return path.read_text() if path.exists() else ""

    # -- invites ---------------------------------------------------------------------------------------------------

    def ca_pem(self) -> bytes:
        """Return the certificates (PEM) of the authorities that are believed: two while one takes the other's place."""
        return self.file("ca.pem").read_bytes()

    def _signing_authority(self) -> bytes:
        found = authority_of(self.ca_pem(), self.elliptic_key("ca.key"))
        return found.public_bytes(serialization.Encoding.PEM)

    def new_invite(self, address: str) -> Invite:
        """Return a fresh invite to this node's cluster; the caller stores `secret_hash` of its secret."""
        fingerprint = fingerprint_of(self._signing_authority())
        return Invite(address=address, secret=secrets.token_urlsafe(_SECRET_BYTES), ca_fingerprint=fingerprint)

    # -- TLS -------------------------------------------------------------------------------------------------------

    def server_context(self) -> ssl.SSLContext:
        """Return the listener's TLS settings: members show their certificate; newcomers have none yet."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.file("node.pem"), self.file("node.key"))
        context.load_verify_locations(self.file("ca.pem"))
        # Every route but the two of joining demands a certificate; see peer/routes.py.
        context.verify_mode = ssl.CERT_OPTIONAL
        self.contexts.append(context)
        return context

    def current_client_context(self) -> ssl.SSLContext:
        """Return the same as `client_context`, made anew only when another process has renewed what it is made of."""
        mark = tuple(self.file(name).stat().st_ino for name in ("node.pem", "ca.pem"))
        if self._current is None or self._current[0] != mark:
            self.contexts.clear()
            self._current = mark, self.client_context()
        return self._current[1]

    def client_context(self) -> ssl.SSLContext:
        """Return TLS settings for calls to members; the name to check is `server_name(node)`."""
        context = client_context_for(self.ca_pem())
        context.load_cert_chain(self.file("node.pem"), self.file("node.key"))
        self.contexts.append(context)
        return context


def client_context_for(ca_pem: bytes) -> ssl.SSLContext:
    """Return TLS settings that trust this authority and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem.decode())
    return context


def new_node_id() -> str:
    """Return a node id that no other node has."""
    return secrets.token_hex(4)


def public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    """Return the public part as a JSON web key with its RFC 7638 thumbprint as `kid`."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()
    kid = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid}


def secret_hash(secret: str) -> str:
    """Return what is stored of an invite's secret. It is random and long, so a plain hash keeps it."""
    return hashlib.sha256(secret.encode()).hexdigest()


_JOIN_PREFIX: Final = "twinhull-join-"


def encode_invite(invite: Invite) -> str:
    """Return the invite as one word that can be pasted."""
    return _JOIN_PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(invite)).rstrip(b"=").decode()


def decode_invite(token: str) -> Invite:
    """Return the invite that the word stands for, or raise JoinRefused."""
    packed = token.strip().removeprefix(_JOIN_PREFIX)
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=Invite)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        message = "this is no join token"
        raise JoinRefused(message, hint="paste the last word that `twinhull cluster invite` printed") from error


def node_of_certificate(certificate: Mapping[str, object] | None) -> str | None:
    """Return the node id in a verified peer certificate as ssl describes it, or None when none was shown."""
    names = certificate.get("subjectAltName", ()) if certificate else ()
    for kind, value in names if isinstance(names, tuple) else ():
        if kind == "DNS" and str(value).endswith(".node.twinhull.internal"):
            return str(value).partition(".")[0]
    return None
