"""Who belongs to the cluster: its certificate authority, node certificates, one-time invites, and the files they live in."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
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
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid, JoinRefused
from twinhull.records.change import Change

INVITE_LIFETIME_MS: Final = 60 * 60 * 1000
_CERTIFICATE_DAYS: Final = 3650
_BACKDATED: Final = dt.timedelta(minutes=10)  # so that a clock a little behind accepts a fresh certificate
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

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _keep(self, name: str, content: bytes) -> None:
        """Write a secret file so that it is whole or absent, and readable by this user alone."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._path(name + ".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(self._path(name))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def exists(self) -> bool:
        """Tell whether this folder already belongs to a node."""
        return self._path("identity.json").exists()

    def identity(self) -> Identity:
        """Return which node this is; Invalid when the folder is damaged."""
        try:
            return msgspec.json.decode(self._path("identity.json").read_bytes(), type=Identity)
        except (OSError, msgspec.DecodeError) as error:
            message = f"{self._path('identity.json')} cannot be read"
            raise Invalid(message, hint="restore the node/ folder from a backup") from error

    def cluster_keys(self) -> list[bytes]:
        """Return the keys of 32 bytes that all members share, the one to seal with first; Invalid when there are none."""
        path = self._path("cluster.keys")
        try:
            return msgspec.json.decode(path.read_bytes(), type=_ClusterKeys)
        except (OSError, msgspec.MsgspecError) as error:
            raise Invalid(f"{path} cannot be read", hint="restore the node/ folder from a backup") from error

    def keep_cluster_keys(self, keys: Sequence[bytes]) -> None:
        """Keep these keys, the one to seal with first."""
        self._keep("cluster.keys", msgspec.json.encode(keys))

    def token_key(self) -> Ed25519PrivateKey:
        """Return the key that signs this node's tokens."""
        key = serialization.load_pem_private_key(self._path("token.key").read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            message = f"{self._path('token.key')} is no Ed25519 key"
            raise Invalid(message, hint="restore the node/ folder from a backup")
        return key

    def token_jwk(self) -> dict[str, str]:
        """Return the public part of the token key as a JSON web key; its `kid` is the key's thumbprint."""
        return public_jwk(self.token_key())

    # -- founding and joining --------------------------------------------------------------------------------------

    def found(self, name: str, clock: Clock) -> Identity:
        """Make a cluster of one: a new authority, a new node certificate, new keys."""
        authority_key = ec.generate_private_key(ec.SECP256R1())
        cluster = secrets.token_hex(8)
        authority = _authority(authority_key, cluster, clock)
        self._keep("ca.key", _private_pem(authority_key))
        self._keep("ca.pem", authority.public_bytes(serialization.Encoding.PEM))
        self.keep_cluster_keys([secrets.token_bytes(_KEY_BYTES)])
        request = self.new_signing_request()
        node = new_node_id()
        self._keep("node.pem", self.sign(request, node, clock))
        identity = Identity(cluster=cluster, node=node, name=name, slot=0)
        self._keep("identity.json", msgspec.json.encode(identity))
        return identity

    def new_signing_request(self) -> bytes:
        """Make this node's keys and return a certificate signing request (PEM)."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._keep("node.key", _private_pem(key))
        self._keep("token.key", _private_pem(Ed25519PrivateKey.generate()))
        # The authority names the node; what the request says of itself does not matter.
        builder = x509.CertificateSigningRequestBuilder().subject_name(_common_name("twinhull node"))
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
        authority = x509.load_pem_x509_certificate(self._path("ca.pem").read_bytes())
        authority_key = serialization.load_pem_private_key(self._path("ca.key").read_bytes(), None)
        if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
            message = f"{self._path('ca.key')} is no elliptic curve key"
            raise Invalid(message, hint="restore the node/ folder from a backup")
        now = _moment(clock)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_common_name(node))
            .issuer_name(authority.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + dt.timedelta(days=_CERTIFICATE_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{node}.node.twinhull.internal")]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        )
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def answer(self, certificate_pem: bytes, slot: int, members: list[Change]) -> JoinAnswer:
        """Return all that a newcomer needs; to be sent over TLS only."""
        return JoinAnswer(
            cluster=self.identity().cluster,
            slot=slot,
            certificate_pem=certificate_pem.decode(),
            ca_certificate_pem=self._path("ca.pem").read_text(),
            ca_key_pem=self._path("ca.key").read_text(),
            cluster_keys=self.cluster_keys(),
            members=members,
        )

    def adopt(self, answer: JoinAnswer, node: str, name: str) -> Identity:
        """Become the member that the answer describes; the identity is written last, so a crash before leaves none."""
        self._keep("ca.pem", answer.ca_certificate_pem.encode())
        self._keep("ca.key", answer.ca_key_pem.encode())
        self._keep("node.pem", answer.certificate_pem.encode())
        self.keep_cluster_keys(answer.cluster_keys)
        self._keep("members", msgspec.msgpack.encode(answer.members))
        identity = Identity(cluster=answer.cluster, node=node, name=name, slot=answer.slot)
        self._keep("identity.json", msgspec.json.encode(identity))
        return identity

    def first_members(self) -> list[Change]:
        """Return the members' records that came with the join; nothing for the founder."""
        path = self._path("members")
        return msgspec.msgpack.decode(path.read_bytes(), type=list[Change]) if path.exists() else []

    def is_ready(self) -> bool:
        """Tell whether this node has the cluster's state: the founder always, a newcomer once it has taken it over."""
        return not self._path("members").exists() or self._path("taken-over").exists()

    def took_over(self) -> None:
        """Note, for good, that this node has taken over the cluster's state."""
        self._keep("taken-over", b"")

    def note_own_data(self, plan: str) -> None:
        """Remember, before joining, what is to become of the data that are here."""
        self._keep("own-data", plan.encode())

    def own_data(self) -> str:
        """Return what was remembered; empty for a node that never joined."""
        path = self._path("own-data")
        return path.read_text() if path.exists() else ""

    # -- invites ---------------------------------------------------------------------------------------------------

    def ca_pem(self) -> bytes:
        """Return the authority's certificate (PEM)."""
        return self._path("ca.pem").read_bytes()

    def new_invite(self, address: str) -> Invite:
        """Return a fresh invite to this node's cluster; the caller stores `secret_hash` of its secret."""
        return Invite(
            address=address, secret=secrets.token_urlsafe(_SECRET_BYTES), ca_fingerprint=fingerprint_of(self.ca_pem())
        )

    # -- TLS -------------------------------------------------------------------------------------------------------

    def server_context(self) -> ssl.SSLContext:
        """Return the listener's TLS settings: members show their certificate; newcomers have none yet."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._path("node.pem"), self._path("node.key"))
        context.load_verify_locations(self._path("ca.pem"))
        # Every route but the two of joining demands a certificate; see peer/routes.py.
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return TLS settings for calls to members; the name to check is `server_name(node)`."""
        context = client_context_for(self.ca_pem())
        context.load_cert_chain(self._path("node.pem"), self._path("node.key"))
        return context


def client_context_for(ca_pem: bytes) -> ssl.SSLContext:
    """Return TLS settings that trust this authority and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem.decode())
    return context


def server_name(node: str) -> str:
    """Return the name in a node's certificate: it says which node, wherever it runs."""
    return f"{node}.node.twinhull.internal"


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


def fingerprint_of(certificate_pem: bytes) -> str:
    """Return the SHA-256 of the certificate in hex; Invalid if there is none."""
    try:
        return x509.load_pem_x509_certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()
    except ValueError as error:
        message = "what should be the cluster's certificate cannot be read"
        raise Invalid(message) from error


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


def _moment(clock: Clock) -> dt.datetime:
    return dt.datetime.fromtimestamp(clock.unix_ms() / 1000, tz=dt.UTC)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _private_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _authority(key: ec.EllipticCurvePrivateKey, cluster: str, clock: Clock) -> x509.Certificate:
    now = _moment(clock)
    name = _common_name(f"twinhull cluster {cluster}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())
