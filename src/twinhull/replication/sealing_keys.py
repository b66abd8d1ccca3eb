"""The keys with which this node seals and unseals secrets: one more taken in, another one used, the old ones let go of."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

import structlog

from twinhull.auth.sealing import KEY_BYTES, Sealer, key_id, key_of
from twinhull.kit.errors import TwinhullError
from twinhull.metadata.names import Name
from twinhull.metadata.sealed import change_texts, records_with
from twinhull.records.kinds import KINDS
from twinhull.replication.engine import Engine
from twinhull.replication.threads import in_thread
from twinhull.replication.trust import Trust

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 5.0


class SealingKeys:
    """Each step is whole or not done, and does no harm twice. All but `fetch` waits for disks, and belongs in a thread."""

    def __init__(self, engine: Engine, trust: Trust) -> None:
        """Take the node and its files."""
        self._engine = engine
        self._trust = trust
        self._sealer = Sealer(trust.cluster_keys)

    def ids(self) -> list[str]:
        """Return the names of the keys that are here, the one that seals first."""
        return [key_id(key) for key in self._trust.cluster_keys()]

    def new(self) -> str:
        """Make another key, which seals nothing yet, and return its name."""
        key = secrets.token_bytes(KEY_BYTES)
        self._trust.keep_cluster_keys([*self._trust.cluster_keys(), key])
        return key_id(key)

    async def fetch(self, wanted: Sequence[str]) -> None:
        """Bring the keys of these names that are not here from the peers that have them, over the connections of members."""
        missing = set(wanted) - set(await in_thread(self._engine.executor, self.ids))
        for neighbour in self._engine.neighbours.active() if missing else ():
            try:
                found = await neighbour.client.cluster_keys(timeout_s=_TIMEOUT_S)
            except TwinhullError as error:
                log.debug("peer gave no keys", peer=neighbour.node.id, error=str(error))
                continue
            # What is no key that was asked for is none of the cluster's.
            await in_thread(self._engine.executor, self._take, [key for key in found if key_id(key) in missing])
            missing -= {key_id(key) for key in found}

    def _take(self, keys: Sequence[bytes]) -> None:
        have = self._trust.cluster_keys()
        if new := [key for key in keys if key not in have]:
            self._trust.keep_cluster_keys([*have, *new])
            log.info("sealing keys taken", count=len(new))

    def seal_with(self, name: str) -> None:
        """Seal with that key from now on, and go on reading what others have sealed."""
        keys = self._trust.cluster_keys()
        first = sorted(keys, key=lambda key: key_id(key) != name)
        if first != keys:
            self._trust.keep_cluster_keys(first)
            log.info("secrets are sealed with another key", key=name)

    def keep_only(self, name: str) -> None:
        """Let go of all other keys."""
        keys = self._trust.cluster_keys()
        self._trust.keep_cluster_keys([key for key in keys if key_id(key) == name])
        log.info("old sealing keys removed", count=len(keys) - 1)

    def sealed_otherwise(self, name: str) -> list[Name]:
        """Return the records with texts that another key has sealed, if this node has that key."""
        others = {one for one in self.ids() if one != name}
        with self._engine.store.read() as connection:
            return records_with(connection, lambda text: key_of(text) in others)

    def seal_anew(self, name: str, records: Sequence[Name]) -> int:
        """Seal the texts in these records with that key, which must be the one that seals; return this node's last change."""

        def anew(text: str) -> str:
            if key_of(text) in ("", name):
                return text
            try:
                return self._sealer.seal(self._sealer.unseal(text))
            except TwinhullError as error:
                # It was never readable with any key that is left.
                log.warning("secret cannot be sealed anew", error=str(error))
                return text

        seq = 0
        for kind, key in records:
            with self._engine.store.write() as transaction:
                change_texts(transaction, KINDS[kind], key, anew)
            seq = transaction.seq or seq
        return seq
