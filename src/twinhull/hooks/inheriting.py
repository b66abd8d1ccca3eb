"""What a removed node had not told yet of its last deeds is told by another, as far as those had reached it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from sqlalchemy import Connection

from twinhull.catalog.events import VENDOR, Event, policies_for, tell
from twinhull.hooks.reading import Deeds, was_told
from twinhull.jobs.access import Access
from twinhull.metadata.audit import last_deeds
from twinhull.metadata.documents import has_any
from twinhull.metadata.executions import last_begun_ms
from twinhull.metadata.members import removed_nodes
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import AUDIT, WEBHOOK

log = structlog.get_logger(__name__)

_EVERY_S: Final = 10.0
# The last deeds of a removed node may arrive some time after its removal, by way of others.
_LOOKED_AT_FOR_S: Final = 600.0
# A node tells of its deeds in their order, within a moment: all that is older than the last that it told by this was told, or
# nobody wanted to know.
_SLACK_MS: Final = 60_000
# So many of its deeds are looked at.
_LAST: Final = 500
# On the audit record of what was told by another node, so that a third does not tell it again.
_TOLD: Final = "told"


class Inheriting:
    """The worker that does so, where it is this node that is asked to."""

    name = "webhooks-of-removed-nodes"

    def __init__(self, deeds: Deeds, access: Access, *, is_heir: Callable[[], bool]) -> None:
        """Take what knows the meaning of audit records, and what tells whether it is this node."""
        self._deeds = deeds
        self._access = access
        self._is_heir = is_heir
        # By removed node: since when this node's agent knows of it.
        self._since_s: dict[str, float] = {}
        self.told = 0

    async def wait_for_work(self) -> None:
        """Return after a while."""
        await asyncio.sleep(_EVERY_S)

    async def work(self) -> float | None:
        """Look at what the nodes did that were removed lately."""
        if not self._is_heir():
            return None
        now_s = self._access.clock.monotonic_s()
        for node in await self._access.read(removed_nodes):
            if now_s - self._since_s.setdefault(node, now_s) <= _LOOKED_AT_FOR_S:
                await self._inherit(node)
        return None

    def status(self) -> Mapping[str, object]:
        """Return how many deeds of removed nodes were told since this node's agent started."""
        return {"told": self.told}

    async def _inherit(self, node: str) -> None:
        untold = await self._access.read(lambda connection: self._untold(connection, node))
        if not untold:
            return
        await self._access.write(lambda inside: _tell(inside, untold))
        self._access.ring()
        self.told += len(untold)
        log.info("told what a removed node had not told", node=node, deeds=len(untold))

    def _untold(self, connection: Connection, node: str) -> list[tuple[str, Event]]:
        """Return what a node did and did not tell, with the keys of its audit records."""
        if not has_any(connection, WEBHOOK):
            return []
        last_ms = last_begun_ms(connection, VENDOR, node)
        found = []
        for key, deed in last_deeds(connection, node, limit=_LAST):
            event = self._deeds.event_of_deed(key, deed) if not deed.get(_TOLD) else None
            if event is None or event.occurred_ms < last_ms - _SLACK_MS:
                continue
            if policies_for(connection, event.project, event.type) and not was_told(connection, event):
                found.append((key, event))
        return found


def _tell(inside: Transaction, untold: Sequence[tuple[str, Event]]) -> None:
    for key, event in untold:
        if tell(inside, event):
            inside.put(AUDIT, key, {_TOLD: True})
