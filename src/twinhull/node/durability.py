"""What the command line asks of the durability of the cluster's writes, and sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinhull.auth.sealing import Sealer
from twinhull.catalog.configurations import Configurations
from twinhull.config.durability import LEVEL_ITEM, LOSS_ITEM
from twinhull.config.settings import DurabilitySettings
from twinhull.peer.control import Order
from twinhull.replication.engine import Engine

_ITEMS: Final = {"level": LEVEL_ITEM, "on_peer_loss": LOSS_ITEM}


def durability_order(engine: Engine, sealer: Sealer, own: DurabilitySettings) -> Order:
    """Return the order: it sets what it is given on all nodes, and answers with what holds in the cluster and on this node."""
    configurations = Configurations(store=engine.store, executor=engine.executor, sealer=sealer)

    async def order(asked: Mapping[str, Any]) -> object:
        wanted = {item: asked[name] for name, item in _ITEMS.items() if asked.get(name) is not None}
        if wanted:
            changed = await configurations.change(wanted)
            engine.wrote(changed.seq)
            await engine.acknowledgements.wait(changed.seq)
        values = (await configurations.all()).values
        return {
            "cluster": {name: values[item] for name, item in _ITEMS.items()},
            "node": {"level": own.level.value, "on_peer_loss": own.on_peer_loss.value},
        }

    return order
