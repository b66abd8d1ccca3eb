"""Keys and certificates in the place of old ones: both hold for a while, and then only the new ones."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.unit.test_trust import handshake
from twinhull.auth.tokens import RenewedKey, SigningKey
from twinhull.kit.clock import ManualClock, SystemClock
from twinhull.replication.certificates import fingerprint_of, server_name
from twinhull.replication.renewal import Renewal
from twinhull.replication.trust import JoinAnswer, Trust, new_node_id

DAY_MS = 24 * 3600 * 1000


def two_nodes(tmp_path: Path) -> tuple[Trust, Trust]:
    """Return a founder and a member that it has let in."""
    founder, member = Trust(tmp_path / "a"), Trust(tmp_path / "b")
    identity = founder.found("a", SystemClock())
    node = new_node_id()
    certificate = founder.sign(member.new_signing_request(), node, SystemClock())
    answer = JoinAnswer(
        cluster=identity.cluster,
        slot=1,
        certificate_pem=certificate.decode(),
        ca_certificate_pem=founder.ca_pem().decode(),
        ca_key_pem=(tmp_path / "a" / "ca.key").read_text(),
        cluster_keys=founder.cluster_keys(),
        members=[],
    )
    member.adopt(answer, node, "b")
    return founder, member


def know_each_other(one: Trust, other: Trust) -> None:
    """Fail unless each can call the other, with TLS settings as they are made now."""
    for caller, callee in ((one, other), (other, one)):
        name = server_name(callee.identity().node)
        assert handshake(caller.client_context(), callee.server_context(), name)


def test_authority_is_replaced_step_by_step_and_all_know_each_other_at_each(tmp_path: Path) -> None:
    a, b = two_nodes(tmp_path)
    renewals = {trust: Renewal(trust, SystemClock()) for trust in (a, b)}
    old = a.ca_pem().decode()
    running = (a.server_context(), b.client_context())
    new, key = renewals[a].new_authority()
    for trust in (a, b):
        assert renewals[trust].believe([old, new])
        assert not renewals[trust].believe([old, new])
        know_each_other(a, b)
    assert renewals[a].believed() == [fingerprint_of(old.encode()), fingerprint_of(new.encode())]
    for trust in (a, b):
        assert not renewals[trust].is_certified_by(new)
        renewals[trust].sign_with(key)
        renewals[trust].renew()
        assert renewals[trust].is_certified_by(new)
        assert not renewals[trust].is_certified_by(old)
        know_each_other(a, b)
        # What was made before it goes on with the new certificate too.
        assert handshake(running[1], running[0], server_name(a.identity().node))
    stale = tmp_path / "stale"
    stale.mkdir()
    for trust in (a, b):
        renewals[trust].believe([new])
        know_each_other(a, b)
    assert a.new_invite("h:1").ca_fingerprint == fingerprint_of(new.encode())
    # Whom only the old one vouches for is nobody any more.
    stranger = Trust(tmp_path / "stranger")
    stranger.found("x", SystemClock())
    with pytest.raises(ssl.SSLError):
        handshake(stranger.client_context(), a.server_context(), server_name(a.identity().node))


def test_certificate_of_the_old_authority_is_refused_once_that_is_believed_no_more(tmp_path: Path) -> None:
    a, b = two_nodes(tmp_path)
    renewal = Renewal(a, SystemClock())
    new, key = renewal.new_authority()
    renewal.believe([a.ca_pem().decode(), new])
    renewal.sign_with(key)
    renewal.renew()
    renewal.believe([new])
    with pytest.raises(ssl.SSLError):
        handshake(b.client_context(), a.server_context(), server_name(a.identity().node))


def test_certificate_is_due_well_before_it_ends(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().unix_ms())
    trust = Trust(tmp_path)
    trust.found("a", clock)
    renewal = Renewal(trust, clock)
    assert not renewal.is_due()
    clock.advance(240 * DAY_MS)
    assert not renewal.is_due()
    clock.advance(10 * DAY_MS)
    assert renewal.is_due()
    before = (tmp_path / "node.pem").read_bytes()
    renewal.renew()
    assert (tmp_path / "node.pem").read_bytes() != before
    assert not renewal.is_due()


def test_settings_of_other_processes_follow_the_files(tmp_path: Path) -> None:
    trust, elsewhere = Trust(tmp_path), Trust(tmp_path)
    trust.found("a", SystemClock())
    first = elsewhere.current_client_context()
    assert elsewhere.current_client_context() is first
    Renewal(trust, SystemClock()).renew()
    second = elsewhere.current_client_context()
    assert second is not first
    assert elsewhere.current_client_context() is second


def test_next_token_key_is_known_before_it_signs(tmp_path: Path) -> None:
    trust = Trust(tmp_path)
    trust.found("a", SystemClock())
    renewal = Renewal(trust, SystemClock())
    signer = RenewedKey(trust.token_key, trust.token_key_mark)
    first = trust.token_jwk()
    announced = renewal.next_token_key()
    assert renewal.next_token_key() == announced, "asked again, after a restart perhaps, it is the same"
    assert trust.token_jwk() == first
    signed_before = signer.sign(b"{}")
    renewal.use_next_token_key(1)
    assert trust.token_jwk() == announced
    assert renewal.rotation() == 1
    renewal.use_next_token_key(1)
    assert trust.token_jwk() == announced, "done twice, it is done once"
    assert signer.sign(b"{}") == SigningKey(trust.token_key()).sign(b"{}") != signed_before
