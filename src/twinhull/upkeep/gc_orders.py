"""What may be asked of the running node about garbage: order a collection, look at it, stop it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from twinhull.jobs import garbage_collections as collections
from twinhull.jobs.garbage_collections import Collection, Order
from twinhull.kit.errors import Invalid
from twinhull.metadata.transaction import Transaction
from twinhull.upkeep.access import Access
from twinhull.upkeep.collecting import Collecting

_LISTED: Final = 20


class GcOrders:
    """Takes orders for one node."""

    def __init__(self, collecting: Collecting, access: Access) -> None:
        """Take the worker, and where it finds its orders."""
        self._collecting = collecting
        self._access = access

    def by_name(self) -> dict[str, Callable[[Mapping[str, Any]], Awaitable[object]]]:
        """Return what may be asked, by name."""
        return {"gc": self.order, "gc/show": self.show, "gc/stop": self.stop}

    async def order(self, asked: Mapping[str, Any]) -> object:
        """Order a collection as `Order` describes it, and return its id; raises Invalid, or Conflict while one is under way."""
        try:
            order = msgspec.convert(asked, Order)
        except msgspec.MsgspecError as error:
            raise Invalid(f"the order cannot be read: {error}") from error
        if order.grace_s is not None and order.grace_s < 0:
            raise Invalid("the grace must not be less than 0")
        number = await self._access.write(lambda transaction: collections.order_collection(transaction, order))
        self._collecting.ask()
        return {"id": number}

    async def show(self, asked: Mapping[str, Any]) -> object:
        """Return the collection of that `id`, or this node's latest ones; raises NotFound."""
        wanted = asked.get("id")
        if wanted is not None and not isinstance(wanted, int):
            raise Invalid(f"{str(wanted)[:32]!r} is no collection's id")

        def read(connection: Connection) -> list[Collection]:
            if wanted is not None:
                return [collections.collection(connection, wanted)]
            return collections.latest_collections(connection, self._access.store.node, _LISTED)

        return {"collections": [self._described(one) for one in await self._access.read(read)]}

    async def stop(self, _asked: Mapping[str, Any]) -> object:
        """Ask the collection that is under way to stop, and return its id, or null."""

        def stop(transaction: Transaction) -> int | None:
            latest = collections.latest_collections(transaction.connection, transaction.node, 1)
            if not latest or latest[0].has_ended:
                return None
            collections.stop_collection(transaction, latest[0].id)
            return latest[0].id

        stopped = await self._access.write(stop)
        self._collecting.ask()
        return {"id": stopped}

    def _described(self, one: Collection) -> dict[str, object]:
        outcome = self._collecting.progress(one.id) or one.outcome
        described: dict[str, object] = msgspec.to_builtins(one)
        return {**described, "outcome": msgspec.to_builtins(outcome), "ended": one.has_ended}
