"""The certificate for trying things out."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from twinhull.gateway.certificate import self_signed
from twinhull.kit.clock import ManualClock

DAY_MS = 24 * 3600 * 1000


def test_certificate_names_localhost_and_what_was_asked_for(tmp_path: Path) -> None:
    certificate_path, key_path = self_signed(["registry.test", "10.1.2.3"], tmp_path / "tls", ManualClock())
    certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "registry.test"}
    assert set(map(str, names.get_values_for_type(x509.IPAddress))) == {
        "127.0.0.1",
        "::1",
        str(ipaddress.ip_address("10.1.2.3")),
    }
    assert key_path.stat().st_mode & 0o777 == 0o600
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate_path, key_path)


def test_certificate_is_used_again(tmp_path: Path) -> None:
    clock = ManualClock()
    before = [path.read_bytes() for path in self_signed(["a.test"], tmp_path, clock)]
    clock.advance(300 * DAY_MS)
    assert [path.read_bytes() for path in self_signed(["a.test"], tmp_path, clock)] == before


@pytest.mark.parametrize("case", ["other name", "nearly expired", "clock set back", "key lost", "key of another", "garbage"])
def test_certificate_that_will_not_do_is_replaced(tmp_path: Path, case: str) -> None:
    clock = ManualClock()
    certificate_path, key_path = self_signed(["a.test"], tmp_path, clock)
    before = certificate_path.read_bytes()
    if case == "nearly expired":
        clock.advance(340 * DAY_MS)
    elif case == "clock set back":
        clock.jump(-30 * DAY_MS)
    elif case == "key lost":
        key_path.unlink()
    elif case == "key of another":
        key_path.write_bytes(self_signed([], tmp_path / "other", clock)[1].read_bytes())
    elif case == "garbage":
        certificate_path.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    renewed, renewed_key = self_signed(["b.test" if case == "other name" else "a.test"], tmp_path, clock)
    assert renewed.read_bytes() != before
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(renewed, renewed_key)
