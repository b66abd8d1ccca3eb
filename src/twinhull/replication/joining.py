"""Coming into a cluster: the member's side that checks the token, and the newcomer's side that uses it."""

from __future__ import annotations

import http.client
import re
import ssl
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection

from twinhull.kit.clock import Clock
from twinhull.kit.errors import JoinRefused, PeerUnavailable
from twinhull.kit.fail_points import fail_point
from twinhull.metadata import members
from twinhull.metadata.members import Node
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import SLOTS
from twinhull.records.kinds import NODE
from twinhull.replication.certificates import fingerprints_of
from twinhull.replication.trust import (
    INVITE_LIFETIME_MS,
    Identity,
    Invite,
    JoinAnswer,
    JoinRequest,
    Trust,
    client_context_for,
    encode_invite,
    new_node_id,
    secret_hash,
)

_TIMEOUT_S: Final = 15.0
# It becomes a label of the name in the node's certificate: nothing that could read as another node's.
_NODE_ID: Final = re.compile(r"[0-9a-f]{8}")
# Also the name of one that died in the middle of its join, before it knew that it was let in.
_NAME_TAKEN: Final = "choose another --name, or take that node out first: twinhull cluster remove NAME"


class Admitted(NamedTuple):
    """What a newcomer is sent, and this node's change number of its record."""

    answer: JoinAnswer
    seq: int


class Doorkeeper:
    """Invites and admits newcomers."""

    def __init__(self, trust: Trust, store: Store, clock: Clock) -> None:
        """Take the cluster's authority and where members are recorded."""
        self._trust = trust
        self._store = store
        self._clock = clock

    def ca_pem(self) -> bytes:
        """Return the authority's certificate."""
        return self._trust.ca_pem()

    def cluster_keys(self) -> list[bytes]:
        """Return the keys with which members seal secrets; to be sent to members only."""
        return self._trust.cluster_keys()

    def invite(self, address: str) -> str:
        """Return a join token that works once, within an hour, at this node's address."""
        invite = self._trust.new_invite(address)
        with self._store.write() as transaction:
            expires_ms = self._clock.unix_ms() + INVITE_LIFETIME_MS
            members.add_invite(transaction.connection, secret_hash(invite.secret), expires_ms)
        return encode_invite(invite)

    def admit(self, wish: JoinRequest) -> Admitted:
        """Make the newcomer a member and return what it needs, or raise JoinRefused; the token is used up either way."""
        with self._store.write() as transaction:
            valid = members.use_invite(transaction.connection, secret_hash(wish.secret), self._clock.unix_ms())
        if not valid:
            raise JoinRefused("this join token was used already, has expired, or is not this node's", hint="invite again")
        with self._store.write() as transaction:
            current = members.nodes(transaction.connection)
            if any(node.name == wish.name for node in current):
                raise JoinRefused(f"a node named {wish.name[:64]!r} is a member already", hint=_NAME_TAKEN)
            if _NODE_ID.fullmatch(wish.node) is None:
                raise JoinRefused(f"{wish.node[:64]!r} cannot be a node id")
            if transaction.get(NODE, wish.node) is not None:
                raise JoinRefused("this node id was a member before", hint="join with an empty data directory")
            slot = self._free_slot(transaction.connection, current)
            certificate = self._trust.sign(wish.signing_request_pem.encode(), wish.node, self._clock)
            fields = {
                "name": wish.name,
                "slot": slot,
                "address": wish.address,
                "url": wish.url,
                "token_keys": [wish.token_key],
                "joined_ms": transaction.now_ms(),
            }
            transaction.create(NODE, wish.node, fields)
        known = [self._store.record(NODE.name, node.id) for node in current] + [self._store.record(NODE.name, wish.node)]
        answer = self._trust.answer(certificate, slot, [record for record in known if record is not None])
        return Admitted(answer, transaction.seq)

    def _free_slot(self, connection: Connection, current: list[Node]) -> int:
        """Return a slot that no node has had: as a rule another one than a member that can't be reached gives out meanwhile."""
        free = sorted(set(range(SLOTS)) - members.slots_ever_used(connection))
        if not free:
            raise JoinRefused(f"the cluster has had {SLOTS} nodes, and ids for no more")
        ids = [node.id for node in current]
        rank = ids.index(self._store.node) if self._store.node in ids else 0
        return (free[rank :: max(1, len(ids))] or free)[0]


def join(invite: Invite, trust: Trust, *, name: str, address: str, url: str) -> Identity:
    """Become a member: keys are made, the token is redeemed, the answer is kept. Raises JoinRefused or PeerUnavailable."""
    # The authority is fetched from whoever answers there and believed only if it is the one that the token names.
    ca_pem = _call(invite.address, _unverified_context(), "GET", "/peer/v1/ca", b"")
    if invite.ca_fingerprint not in fingerprints_of(ca_pem):
        raise JoinRefused(
            f"the node at {invite.address} belongs to another cluster than this token", hint="check the address; invite again"
        )
    context = client_context_for(ca_pem)
    context.check_hostname = False  # any member will do; its certificate is still checked against the authority
    node = new_node_id()
    request = trust.new_signing_request()
    wish = JoinRequest(
        secret=invite.secret,
        node=node,
        name=name,
        address=address,
        url=url,
        signing_request_pem=request.decode(),
        token_key=trust.token_jwk(),
    )
    answer = msgspec.msgpack.decode(
        _call(invite.address, context, "POST", "/peer/v1/join", msgspec.json.encode(wish)), type=JoinAnswer
    )
    fail_point("join-answered")
    return trust.adopt(answer, node, name)


def _unverified_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _call(address: str, context: ssl.SSLContext, method: str, path: str, body: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_S, context=context)
    try:
        connection.request(method, path, body=body or None)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise PeerUnavailable(
            f"the node at {address} does not answer: {error}", hint="check that it runs and that its cluster port is reachable"
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        try:
            reason = msgspec.json.decode(content, type=dict[str, str]).get("error", "")
        except msgspec.MsgspecError:
            reason = content[:200].decode(errors="replace")
        raise JoinRefused(reason or f"the node at {address} answered {response.status}")
    return content
