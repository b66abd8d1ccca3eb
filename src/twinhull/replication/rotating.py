"""Keys and certificates of all nodes renewed while requests go on: what is new is known everywhere before it is used.

One replicated setting says what is wanted; each node does its own part, step by step, and says in its record how far it is:

1. Every node believes the new authority beside the old one.
2. When all do, each lets the new one sign its certificate. When all have, the old one is believed no more.
3. Each node publishes the key that is to sign its tokens next, and signs with it when all the others have it.
4. Every node takes the new key for secrets from its peers. When all have it, each seals with it; when all do, one of them
   seals anew what was sealed before, and then all let go of the old key.

A node that is away holds up what waits for it, and nothing else: the old keys go on until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from twinhull.kit.errors import TwinhullError
from twinhull.metadata import members
from twinhull.records.kinds import NODE, SETTING, TRUST_SETTING
from twinhull.records.merge import Kind, Value, decode, is_dead, values_of
from twinhull.replication.certificates import fingerprint_of
from twinhull.replication.engine import Engine
from twinhull.replication.renewal import Renewal
from twinhull.replication.sealing_keys import SealingKeys
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
_LOOK_AGAIN_S: Final = 60.0
# Tokens live for less than an hour; a node's last keys are known for longer than any token.
_TOKEN_KEYS_MAX: Final = 4


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster's trust is to be."""

    # Each node renews its token key and its certificate once for each number.
    rotation: int = 0
    # Certificates (PEM) of the authorities to believe; the last one is to sign. Empty: as it was founded.
    authorities: list[str] = []
    # The last one's private key, sealed for the cluster's nodes.
    sealed_key: str = ""
    # Names of the keys for secrets; the last one is to seal. Empty: as it was founded.
    sealing_keys: list[str] = []


class Rotation:
    """This node's part in it. Used on the agent's event loop."""

    def __init__(
        self,
        engine: Engine,
        renewal: Renewal,
        sealing: SealingKeys,
        *,
        seal: Callable[[str], str],
        unseal: Callable[[str], str],
        ca_pem: Callable[[], bytes],
    ) -> None:
        """Take the node, its files, and what hides a key from all but the cluster's nodes."""
        self._engine = engine
        self._renewal = renewal
        self._sealing = sealing
        self._seal = seal
        self._unseal = unseal
        self._ca_pem = ca_pem
        self._one_at_a_time = asyncio.Lock()
        # Up to which of its changes all others must have come before the next token key may sign; 0: not published yet.
        self._published = 0

    async def run(self) -> None:
        """Do what is due, again and again, until cancelled."""
        seen: int | None = None
        looked_s = -_LOOK_AGAIN_S
        while True:
            position, now_s = self._engine.store.position_hint(), self._engine.clock.monotonic_s()
            # What others do comes with the log; only a certificate grows old by itself.
            if position is None or position != seen or now_s - looked_s >= _LOOK_AGAIN_S:
                try:
                    pending = await self.step()
                except TwinhullError as error:
                    log.warning("keys could not be renewed", error=str(error))
                    pending = [str(error)]
                seen, looked_s = None if pending else position, now_s
            await asyncio.sleep(_LOOK_S)

    async def order(self, asked: Mapping[str, Any]) -> object:
        """Begin a rotation on all nodes, of the authority and the key for secrets too if asked; return what is waited for."""
        authority, sealing = bool(asked.get("authority")), bool(asked.get("sealing"))
        await in_thread(self._engine.executor, lambda: self._want_more(authority=authority, sealing=sealing))
        return {"pending": await self.step()}

    async def step(self) -> list[str]:
        """Do what can be done now, and return what is waited for."""
        async with self._one_at_a_time:
            seq, pending = await in_thread(self._engine.executor, self._certificates)
            if seq:
                self._engine.wrote(seq)
            return pending + await self._tokens() + await self._secrets()

    # -- certificates ----------------------------------------------------------------------------------------------

    def _want_more(self, *, authority: bool, sealing: bool) -> None:
        wanted = self._wanted()
        authorities, sealed = wanted.authorities, wanted.sealed_key
        if authority:
            certificate, key = self._renewal.new_authority()
            authorities, sealed = [*(authorities or [self._ca_pem().decode()]), certificate], self._seal(key)
        keys = wanted.sealing_keys
        if sealing:
            keys = [*(keys or self._sealing.ids()[:1]), self._sealing.new()]
        self._write(Wanted(rotation=wanted.rotation + 1, authorities=authorities, sealed_key=sealed, sealing_keys=keys))

    def _certificates(self) -> tuple[int, list[str]]:
        """Take one step with the certificates; return this node's last change, 0 if there was none, and what is waited for."""
        wanted, seq, pending = self._wanted(), 0, []
        if wanted.authorities:
            if self._renewal.believe(wanted.authorities):
                log.info("authorities believed", count=len(wanted.authorities))
            seq = self._tell({"trusts": self._renewal.believed()})
            newest = fingerprint_of(wanted.authorities[-1].encode())
            present = self._members()
            lacking = [name for name, values in present.items() if newest not in _texts(values.get("trusts"))]
            if lacking:
                return seq, [f"{name} does not know the new authority yet" for name in lacking]
            if not self._renewal.is_certified_by(wanted.authorities[-1]):
                self._renewal.sign_with(self._unseal(wanted.sealed_key))
                self._renewal.renew()
                log.info("certificate renewed by the new authority")
            seq = self._tell({"certified_by": newest}) or seq
            present = self._members()
            pending = [
                f"{name} has no certificate by it yet" for name, one in present.items() if one.get("certified_by") != newest
            ]
            if not pending and len(wanted.authorities) > 1:
                seq = self._write(msgspec.structs.replace(wanted, authorities=wanted.authorities[-1:]))
        if self._renewal.is_due():
            self._renewal.renew()
            log.info("certificate renewed")
        return seq, pending

    # -- tokens ----------------------------------------------------------------------------------------------------

    async def _tokens(self) -> list[str]:
        rotation = (await in_thread(self._engine.executor, self._wanted)).rotation
        if rotation <= await in_thread(self._engine.executor, self._renewal.rotation):
            return []
        if not self._published:
            self._published = await in_thread(self._engine.executor, self._publish_next_token_key)
            self._engine.wrote(self._published)
        acknowledgements, origin = self._engine.acknowledgements, self._engine.store.origin
        await acknowledgements.wait(self._published)
        lacking = [
            neighbour.node.name
            for neighbour in self._engine.neighbours.all()
            if acknowledgements.peer(neighbour.node.id).vector.get(origin, 0) < self._published
        ]
        if lacking:
            return [f"{name} does not know this node's next token key yet" for name in lacking]
        await in_thread(self._engine.executor, self._renewal.use_next_token_key, rotation)
        await in_thread(self._engine.executor, self._renewal.renew)
        self._published = 0
        log.info("token key renewed", rotation=rotation)
        return []

    def _publish_next_token_key(self) -> int:
        key = self._renewal.next_token_key()
        with self._engine.store.write() as transaction:
            values = transaction.values(NODE, self._engine.store.node) or {}
            known = values.get("token_keys")
            keys = [one for one in known if one != key] if isinstance(known, list) else []
            transaction.put(NODE, self._engine.store.node, {"token_keys": [*keys, key][-_TOKEN_KEYS_MAX:]})
        return transaction.seq

    # -- secrets -----------------------------------------------------------------------------------------------------

    async def _secrets(self) -> list[str]:
        keys = (await in_thread(self._engine.executor, self._wanted)).sealing_keys
        if not keys:
            return []
        await self._sealing.fetch(keys)
        seq, pending = await in_thread(self._engine.executor, self._step_of_secrets, keys)
        if seq:
            self._engine.wrote(seq)
        return pending

    def _step_of_secrets(self, keys: list[str]) -> tuple[int, list[str]]:
        """Take one step with the keys for secrets; return this node's last change, or 0, and what is waited for."""
        newest, have = keys[-1], self._sealing.ids()
        if have == keys == [newest]:
            return 0, []
        seq = self._tell({"sealing_keys": have})
        lacking = [name for name, one in self._members().items() if newest not in _texts(one.get("sealing_keys"))]
        if lacking:
            return seq, [f"{name} does not have the new key for secrets yet" for name in lacking]
        self._sealing.seal_with(newest)
        seq = self._tell({"seals_with": newest}) or seq
        behind = [name for name, one in self._members().items() if one.get("seals_with") != newest]
        if behind:
            return seq, [f"{name} does not seal with the new key yet" for name in behind]
        left = self._sealing.sealed_otherwise(newest)
        # One node is enough; what is left after that has come by a restored node, which alone may be able to read it.
        if left and (len(keys) == 1 or self._is_first()):
            return self._sealing.seal_anew(newest, left) or seq, ["secrets are being sealed anew"]
        if left:
            return seq, ["secrets are to be sealed anew"]
        if len(keys) == 1:
            self._sealing.keep_only(newest)
            return self._tell({"sealing_keys": [newest]}) or seq, []
        if self._is_first():
            seq = self._write(msgspec.structs.replace(self._wanted(), sealing_keys=[newest]))
        return seq, ["old keys are still to be let go of"]

    def _is_first(self) -> bool:
        with self._engine.store.read() as connection:
            return self._engine.store.node == min(node.id for node in members.nodes(connection))

    # -- records ---------------------------------------------------------------------------------------------------

    def _wanted(self) -> Wanted:
        values = self._values(SETTING, TRUST_SETTING)
        try:
            return msgspec.convert(values.get("value", {}), Wanted)
        except msgspec.ValidationError:
            return Wanted()

    def _write(self, wanted: Wanted) -> int:
        with self._engine.store.write() as transaction:
            fields = {"value": msgspec.to_builtins(wanted)}
            if transaction.values(SETTING, TRUST_SETTING) is None:
                transaction.create(SETTING, TRUST_SETTING, fields)
            else:
                transaction.put(SETTING, TRUST_SETTING, fields)
        return transaction.seq

    def _tell(self, fields: Mapping[str, Value]) -> int:
        """Say something of this node in its record, unless it says that already."""
        values = self._values(NODE, self._engine.store.node)
        if not values or all(values.get(name) == value for name, value in fields.items()):
            return 0
        with self._engine.store.write() as transaction:
            transaction.put(NODE, self._engine.store.node, fields)
        return transaction.seq

    def _members(self) -> dict[str, Mapping[str, Value]]:
        """Return what each member says of itself, by its name."""
        with self._engine.store.read() as connection:
            present = members.nodes(connection)
        return {node.name: self._values(NODE, node.id) for node in present}

    def _values(self, kind: Kind, key: str) -> Mapping[str, Value]:
        """Return what a record says, nothing if there is none that lives."""
        change = self._engine.store.record(kind.name, key)
        record = decode(change.record) if change is not None else None
        return {} if record is None or is_dead(kind, record) else values_of(kind, record)


def _texts(value: Value) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
