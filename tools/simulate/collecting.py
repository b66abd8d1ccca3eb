"""Collections of garbage on a simulated node, with a grace of seconds instead of hours."""

from __future__ import annotations

from tools.simulate.host import Host
from twinhull.jobs.garbage_collections import Order, Outcome
from twinhull.kit.errors import TwinhullError
from twinhull.upkeep.access import Access
from twinhull.upkeep.ballast import Ballast
from twinhull.upkeep.collector import Collector
from twinhull.upkeep.witnesses import Members


async def collect(host: Host, order: Order, *, grace_s: float) -> None:
    """Collect as the agent's worker does; to be run in the agent's process."""
    engine = host.engine
    collector = Collector(
        access=Access(engine.store, Ballast(host.scratch("ballast")), engine.executor),
        blobs=engine.blobs,
        witnesses=Members(engine.neighbours, engine.store, engine.executor),
        clock=host.clock,
    )
    outcome = Outcome()
    try:
        async for _ in collector.collect(order, outcome, grace_s=grace_s):
            continue
    except TwinhullError as error:
        # A member cannot be asked, or the disk is full: what was not collected waits for the next time.
        host.network.trace.add(f"collection at {host.name} broke: {error}")
    host.network.trace.add(f"collected at {host.name}: {outcome}")
    if outcome.blobs:
        host.network.count("blobs removed by collections")
