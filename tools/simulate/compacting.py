"""Compactions on a simulated node: as the agent's worker does them, and with a log of a few changes instead of thousands."""

from __future__ import annotations

from typing import Final

from tools.simulate.host import Host
from twinhull.config.settings import CompactionSettings
from twinhull.kit.errors import TwinhullError
from twinhull.metadata import compaction
from twinhull.upkeep.access import Access
from twinhull.upkeep.ballast import Ballast
from twinhull.upkeep.compacting import Compacting

_CHANGES_KEPT: Final = 40


async def compact(host: Host, *, keep_deletions_s: float) -> None:
    """Tell what this node has, and drop what all members have told of; to be run in the agent's process."""
    engine = host.engine
    access = Access(engine.store, Ballast(host.scratch("ballast")), engine.executor)
    worker = Compacting(access, clock=host.clock, settings=CompactionSettings(keep_deletions_s=keep_deletions_s))
    trimmed = 0
    try:
        upto = await access.read(lambda connection: compaction.stable(connection, host.node))
        await worker.run_once()
        # The worker leaves more of the log than is ever written here.
        trimmed = await access.write(lambda inside: compaction.trim_log(inside, upto, keep=_CHANGES_KEPT))
    except TwinhullError as error:
        host.network.trace.add(f"compaction at {host.name} broke: {error}")
    host.network.trace.add(f"compacted at {host.name}: {worker.records} records, {trimmed} changes")
    for what, count in (("deletions dropped", worker.records), ("changes cut from logs", trimmed)):
        for _ in range(count):
            host.network.count(what)
