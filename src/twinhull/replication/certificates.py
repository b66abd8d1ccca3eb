"""Certificates of the cluster's authorities and of its nodes: made, and looked at. Pure; the files are in trust.py."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid

_AUTHORITY_DAYS: Final = 3650
# A node renews its own when a third of this is left.
_NODE_DAYS: Final = 365
_DUE_SHARE: Final = 1 / 3
_BACKDATED: Final = dt.timedelta(minutes=10)  # so that a clock a little behind accepts a fresh certificate

NodeKey = ec.EllipticCurvePrivateKey


def server_name(node: str) -> str:
    """Return the name in a node's certificate: it says which node, wherever it runs."""
    return f"{node}.node.twinhull.internal"


def new_authority(key: NodeKey, cluster: str, clock: Clock) -> bytes:
    """Return the certificate (PEM) of an authority of this cluster."""
    now = _moment(clock)
    name = common_name(f"twinhull cluster {cluster}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=_AUTHORITY_DAYS))
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
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def issue(bundle_pem: bytes, authority_key: NodeKey, holder: ec.EllipticCurvePublicKey, node: str, clock: Clock) -> bytes:
    """Return a certificate (PEM) for the holder of a key to act as this node, by the authority of the bundle with that key."""
    authority = authority_of(bundle_pem, authority_key)
    now = _moment(clock)
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(node))
        .issuer_name(authority.subject)
        .public_key(holder)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=_NODE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name(node))]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def authority_of(bundle_pem: bytes, key: NodeKey) -> x509.Certificate:
    """Return the certificate of the bundle that belongs to the key; Invalid when there is none."""
    for certificate in certificates_of(bundle_pem):
        if certificate.public_key() == key.public_key():
            return certificate
    raise Invalid("the authority's key belongs to none of its certificates", hint="restore the node/ folder from a backup")


def certificates_of(bundle_pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a bundle, in order; Invalid when there are none."""
    try:
        return x509.load_pem_x509_certificates(bundle_pem)
    except ValueError as error:
        raise Invalid("what should be the cluster's certificate cannot be read") from error


def fingerprint_of(certificate_pem: bytes) -> str:
    """Return the SHA-256 of the (first) certificate in hex; Invalid if there is none."""
    return certificates_of(certificate_pem)[0].fingerprint(hashes.SHA256()).hex()


def fingerprints_of(bundle_pem: bytes) -> list[str]:
    """Return the SHA-256 of each certificate of a bundle, in hex."""
    return [certificate.fingerprint(hashes.SHA256()).hex() for certificate in certificates_of(bundle_pem)]


def bundle_of(certificates: Sequence[str]) -> bytes:
    """Return certificates (PEM) as one file."""
    return "".join(certificate.strip() + "\n" for certificate in certificates).encode()


def is_issued_by(certificate_pem: bytes, authority_pem: str) -> bool:
    """Tell whether this authority has signed the certificate: all have the same name, so the signature has to tell."""
    certificate, authority = certificates_of(certificate_pem)[0], certificates_of(authority_pem.encode())[0]
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - whatever is wrong with the signature, it is not this authority's
        return False
    return True


def is_due(certificate_pem: bytes, clock: Clock) -> bool:
    """Tell whether so little of the certificate's time is left that it should be renewed."""
    certificate = certificates_of(certificate_pem)[0]
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - _moment(clock) < lifetime * _DUE_SHARE


def private_pem(key: NodeKey | Ed25519PrivateKey) -> bytes:
    """Return a private key as a file holds it."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def common_name(name: str) -> x509.Name:
    """Return a subject that is just this."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _moment(clock: Clock) -> dt.datetime:
    return dt.datetime.fromtimestamp(clock.unix_ms() / 1000, tz=dt.UTC)
