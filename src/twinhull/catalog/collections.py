"""Orders to collect garbage on this node, and to stop: written here, found and done by the agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Final

from twinhull.catalog.accounts import Written
from twinhull.jobs import garbage_collections as queries
from twinhull.jobs.garbage_collections import Order, Status
from twinhull.kit.errors import Invalid
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction

WORKERS_MAX: Final = 10
# So many wait, or are under way, before one more is refused.
WAITING_MAX: Final = 10


class Collections:
    """Orders collections of this node, and asks those of any node to stop."""

    def __init__(self, *, store: Store, executor: Executor) -> None:
        """Take the metadata, and threads to write in."""
        self._store = store
        self._executor = executor

    async def order(self, order: Order) -> Written:
        """Order a collection, or raise Conflict when too many wait already.

        One that was ordered just so and has not begun yet is the same one: nothing would be left for a second.
        """

        def write(transaction: Transaction) -> int:
            for one in queries.latest_collections(transaction.connection, transaction.node, WAITING_MAX + 1):
                if one.status is Status.PENDING and one.order == order:
                    return one.id
            return queries.order_collection(transaction, order, behind=WAITING_MAX)

        return await self._write(write)

    async def stop(self, number: int) -> Written:
        """Ask a collection to stop, without harm if it has ended; raises NotFound."""

        def write(transaction: Transaction) -> int:
            queries.stop_collection(transaction, number)
            return number

        return await self._write(write)

    async def _write(self, change: Callable[[Transaction], int]) -> Written:
        def write() -> Written:
            with self._store.write() as transaction:
                number = change(transaction)
            return Written(number, transaction.seq)

        return await asyncio.get_running_loop().run_in_executor(self._executor, write)


def order_of(parameters: Mapping[str, Any], *, trigger: str = "manual") -> Order:
    """Return the order that a schedule's parameters describe, or raise Invalid.

    How many workers shall delete is Harbor's business: here one does, and the number is only checked.
    """
    flags = {name: parameters.get(name) or False for name in ("delete_untagged", "dry_run")}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise Invalid(f"{name} must be true or false")
    workers = parameters.get("workers", 1)
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise Invalid("workers should be integer format")
    if not 1 <= workers <= WORKERS_MAX:
        raise Invalid(
            f"Error: Invalid number of workers:{workers}. "
            f"Workers must be greater than 0 and less than or equal to {WORKERS_MAX}."
        )
    return Order(trigger=trigger, **flags)
