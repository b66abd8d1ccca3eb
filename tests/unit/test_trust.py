"""Who belongs to the cluster: authority, certificates, tokens, and joining by them."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from twinhull.kit.clock import ManualClock, SystemClock
from twinhull.kit.errors import Invalid, JoinRefused
from twinhull.metadata import members
from twinhull.metadata.migrate import migrate
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.records.kinds import NODE
from twinhull.replication.certificates import fingerprint_of, server_name
from twinhull.replication.joining import Doorkeeper
from twinhull.replication.trust import (
    INVITE_LIFETIME_MS,
    Invite,
    JoinRequest,
    Trust,
    decode_invite,
    encode_invite,
    new_node_id,
    node_of_certificate,
    secret_hash,
)


@pytest.fixture
def founder(tmp_path: Path) -> Trust:
    """The keys of a cluster's first node."""
    trust = Trust(tmp_path / "founder")
    trust.found("a", SystemClock())
    return trust


class Door:
    """A founder with a database, on a clock that can be moved."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.trust = Trust(folder / "node")
        identity = self.trust.found("a", self.clock)
        database = SqliteDatabase(folder / "metadata.db", run_dir=folder / "run")
        migrate(database)
        self.store = Store(database, node=identity.node, slot=identity.slot, clock=self.clock)
        self.keeper = Doorkeeper(self.trust, self.store, self.clock)
        with self.store.write() as transaction:
            fields = {"name": "a", "slot": 0, "address": "h:1", "url": "", "token_keys": [], "joined_ms": 0}
            transaction.create(NODE, identity.node, fields)

    def names(self) -> list[str]:
        """Return who is a member."""
        with self.store.read() as connection:
            return [node.name for node in members.nodes(connection)]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """A founder that admits others."""
    return Door(tmp_path)


def wish_of(newcomer: Trust, token: str, *, name: str = "b", node: str = "") -> JoinRequest:
    """Return what a newcomer sends."""
    request = newcomer.new_signing_request()
    return JoinRequest(
        secret=decode_invite(token).secret,
        node=node or new_node_id(),
        name=name,
        address="h:2",
        url="",
        signing_request_pem=request.decode(),
        token_key=newcomer.token_jwk(),
    )


def test_invite_survives_being_pasted() -> None:
    invite = Invite(address="host:1234", secret="s", ca_fingerprint="f")
    assert decode_invite(f"  {encode_invite(invite)}\n") == invite
    assert " " not in encode_invite(invite)


@pytest.mark.parametrize("token", ["", "nonsense", "twinhull-join-", "twinhull-join-e30", "twinhull-join-\N{SNOWMAN}", "{}"])
def test_token_that_is_none_is_refused_with_a_way_out(token: str) -> None:
    with pytest.raises(JoinRefused, match="no join token") as refused:
        decode_invite(token)
    assert "cluster invite" in refused.value.hint


def test_newcomer_becomes_a_member_with_all_that_a_master_needs(door: Door, tmp_path: Path) -> None:
    newcomer = Trust(tmp_path / "newcomer")
    wish = wish_of(newcomer, door.keeper.invite("h:1"))
    admitted = door.keeper.admit(wish)
    assert admitted.seq > 0
    identity = newcomer.adopt(admitted.answer, wish.node, "b")
    assert identity.slot == 1
    assert door.names() == ["a", "b"]
    assert newcomer.cluster_keys() == door.trust.cluster_keys()
    assert fingerprint_of(newcomer.ca_pem()) == fingerprint_of(door.trust.ca_pem())
    assert len(newcomer.first_members()) == 2
    assert not newcomer.is_ready()
    newcomer.took_over()
    assert newcomer.is_ready()
    # It can admit others itself.
    assert newcomer.sign(Trust(tmp_path / "next").new_signing_request(), "0123abcd", SystemClock())


def test_token_holds_once(door: Door, tmp_path: Path) -> None:
    token = door.keeper.invite("h:1")
    door.keeper.admit(wish_of(Trust(tmp_path / "one"), token))
    with pytest.raises(JoinRefused, match="used already"):
        door.keeper.admit(wish_of(Trust(tmp_path / "two"), token, name="c"))


def test_token_holds_for_an_hour(door: Door, tmp_path: Path) -> None:
    early, late = door.keeper.invite("h:1"), door.keeper.invite("h:1")
    door.clock.advance(INVITE_LIFETIME_MS - 1)
    door.keeper.admit(wish_of(Trust(tmp_path / "one"), early))
    door.clock.advance(2)
    with pytest.raises(JoinRefused, match="expired"):
        door.keeper.admit(wish_of(Trust(tmp_path / "two"), late, name="c"))
    assert door.names() == ["a", "b"]


def test_secret_that_was_never_given_out_is_refused(door: Door, tmp_path: Path) -> None:
    forged = encode_invite(door.trust.new_invite("h:1"))
    with pytest.raises(JoinRefused):
        door.keeper.admit(wish_of(Trust(tmp_path / "one"), forged))


def test_name_of_a_member_is_refused_and_uses_the_token_up(door: Door, tmp_path: Path) -> None:
    token = door.keeper.invite("h:1")
    with pytest.raises(JoinRefused, match="another --name"):
        door.keeper.admit(wish_of(Trust(tmp_path / "one"), token, name="a"))
    with pytest.raises(JoinRefused, match="used already"):
        door.keeper.admit(wish_of(Trust(tmp_path / "two"), token))


def test_id_that_could_pass_for_a_members_is_refused(door: Door, tmp_path: Path) -> None:
    member = door.store.node
    for node in (member, f"{member}.x", member.upper() + "0", "", "../x"):
        token = door.keeper.invite("h:1")
        wish = wish_of(Trust(tmp_path / "one"), token)
        with pytest.raises(JoinRefused):
            door.keeper.admit(JoinRequest(**{name: getattr(wish, name) for name in wish.__struct_fields__} | {"node": node}))
    assert door.names() == ["a"]


def test_slot_is_never_given_twice(door: Door, tmp_path: Path) -> None:
    wish = wish_of(Trust(tmp_path / "one"), door.keeper.invite("h:1"))
    assert door.keeper.admit(wish).answer.slot == 1
    with door.store.write() as transaction:
        transaction.delete(NODE, wish.node)
    assert door.keeper.admit(wish_of(Trust(tmp_path / "two"), door.keeper.invite("h:1"))).answer.slot == 2


def test_request_that_is_not_signed_by_its_own_key_is_refused(founder: Trust) -> None:
    with pytest.raises(JoinRefused, match="cannot be read"):
        founder.sign(b"nonsense", "0123abcd", SystemClock())


def test_certificate_says_which_node_it_is_for(founder: Trust, tmp_path: Path) -> None:
    pem = founder.sign(Trust(tmp_path / "other").new_signing_request(), "0123abcd", SystemClock())
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [server_name("0123abcd")]
    described: dict[str, object] = {"subjectAltName": (("DNS", server_name("0123abcd")),)}
    assert node_of_certificate(described) == "0123abcd"
    assert node_of_certificate(None) is None
    assert node_of_certificate({}) is None
    assert node_of_certificate({"subjectAltName": (("DNS", "0123abcd.example.com"), ("IP Address", "127.0.0.1"))}) is None


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> object:
    """Let two sides greet each other in memory, and return the certificate that the server was shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server, server_hostname=name)
    callee = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (caller, callee):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    caller.write(b"x")
    assert callee.read(1) == b"x"
    return callee.getpeercert()


def test_members_know_each_other_and_nobody_else(founder: Trust, tmp_path: Path) -> None:
    identity = founder.identity()
    shown = handshake(founder.client_context(), founder.server_context(), server_name(identity.node))
    assert isinstance(shown, dict)
    assert node_of_certificate(shown) == identity.node
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(founder.client_context(), founder.server_context(), server_name("0123abcd"))
    stranger = Trust(tmp_path / "stranger")
    stranger.found("x", SystemClock())
    with pytest.raises(ssl.SSLError):
        handshake(stranger.client_context(), founder.server_context(), server_name(identity.node))
    liar = founder.client_context()
    liar.load_cert_chain(tmp_path / "stranger" / "node.pem", tmp_path / "stranger" / "node.key")
    with pytest.raises(ssl.SSLError):
        handshake(liar, founder.server_context(), server_name(identity.node))


def test_secrets_are_for_this_user_alone(founder: Trust, tmp_path: Path) -> None:
    for path in (tmp_path / "founder").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "founder").stat().st_mode) == 0o700


def test_damaged_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text("{", encoding="ascii")
    with pytest.raises(Invalid, match=r"identity\.json cannot be read") as refused:
        Trust(tmp_path).identity()
    assert "backup" in refused.value.hint


def test_secret_is_not_stored_as_it_is() -> None:
    assert "secret" not in secret_hash("secret")
    assert secret_hash("secret") == secret_hash("secret") != secret_hash("Secret")
