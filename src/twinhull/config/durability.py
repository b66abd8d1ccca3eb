"""What a write waits for, and what becomes of it when a peer is lost: said by requests, projects, the cluster and the node."""

from __future__ import annotations

from typing import Final, NamedTuple

from twinhull.config.values import LEVELS, OnPeerLoss
from twinhull.kit.errors import Invalid

# The cluster-wide settings, and a project's metadata, that say it; empty: whatever is less particular does.
LEVEL_ITEM: Final = "durability_level"
LOSS_ITEM: Final = "durability_on_peer_loss"
_LOSS_PARAMETER: Final = "on-peer-loss"
_SHOWN_LENGTH_MAX: Final = 32


class Wish(NamedTuple):
    """What is wanted of a write; empty texts want nothing in particular."""

    level: str = ""
    on_peer_loss: str = ""

    def or_else(self, less_particular: Wish) -> Wish:
        """Return this wish, with what it leaves open taken from the other one."""
        return Wish(self.level or less_particular.level, self.on_peer_loss or less_particular.on_peer_loss)


NO_WISH: Final = Wish()


def read_wish(text: str) -> Wish:
    """Return what `full; on-peer-loss=refuse`, or a part of it, says; raises Invalid for what is no such text."""
    level, on_peer_loss = "", ""
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals:
            level = part
        elif name.strip().lower() == _LOSS_PARAMETER:
            on_peer_loss = value.strip()
        else:
            raise Invalid(f"durability parameter {name[:_SHOWN_LENGTH_MAX]!r} is unknown; there is {_LOSS_PARAMETER}")
    if level and level not in LEVELS:
        raise Invalid(f"durability level {level[:_SHOWN_LENGTH_MAX]!r} is unknown; use {', '.join(LEVELS)}")
    if on_peer_loss and on_peer_loss not in tuple(OnPeerLoss):
        raise Invalid(f"{_LOSS_PARAMETER} {on_peer_loss[:_SHOWN_LENGTH_MAX]!r} is unknown; use {', '.join(OnPeerLoss)}")
    return Wish(level, on_peer_loss)
