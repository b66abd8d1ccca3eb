"""A self-signed certificate for trying things out; made once and used again on later starts."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinhull.kit.clock import Clock

_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
_VALID: Final = timedelta(days=365)
_RENEW_BEFORE: Final = timedelta(days=30)
# Clocks of clients may be behind.
_BACKDATE: Final = timedelta(days=1)


def self_signed(hostnames: Sequence[str], directory: Path, clock: Clock) -> tuple[Path, Path]:
    """Return a certificate and its key for localhost and these names; new ones only if there are none that will do."""
    names = tuple(dict.fromkeys((*hostnames, *_ALWAYS)))
    certificate_path, key_path = directory / "gateway.crt", directory / "gateway.key"
    now = datetime.fromtimestamp(clock.unix_ms() / 1000, tz=UTC)
    if not _will_do(certificate_path, key_path, names, now):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(key, names, now)
        # The key goes first: a crash in between leaves a pair that doesn't match, which the next start replaces.
        _write(
            key_path,
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        _write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate_path, key_path


def _will_do(certificate_path: Path, key_path: Path, names: Sequence[str], now: datetime) -> bool:
    with contextlib.suppress(OSError, ValueError, TypeError, x509.ExtensionNotFound):
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            key.public_key() == certificate.public_key()
            and set(held) == {_general_name(name) for name in names}
            and certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - _RENEW_BEFORE
        )
    return False


def _sign(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twinhull gateway")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
