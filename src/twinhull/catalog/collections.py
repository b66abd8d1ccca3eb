"""Orders to collect garbage on this node: written here, found and done by the node's agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from twinhull.metadata import garbage_collections as queries
from twinhull.metadata.garbage_collections import Order, Status
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction

_Result = TypeVar("_Result")


class Collections:
    """Orders collections, and asks them to stop. They are this node's own: no other node sees them."""

    def __init__(self, *, store: Store, executor: Executor) -> None:
        """Take the metadata, and threads to write in."""
        self._store = store
        self._executor = executor

    async def order(self, order: Order) -> int:
        """Order a collection and return its id, or raise Conflict while another one is under way.

        One that was ordered just so and has not begun yet is the same one: nothing would be left for a second.
        """

        def write(transaction: Transaction) -> int:
            latest = queries.latest_collections(transaction.connection, 1)
            if latest and latest[0].status is Status.PENDING and latest[0].order == order:
                return latest[0].id
            return queries.order_collection(transaction.connection, order, transaction.now_ms())

        return await self._write(write)

    async def stop(self, number: int) -> None:
        """Ask a collection to stop, without harm if it has ended; raises NotFound."""
        await self._write(lambda one: queries.stop_collection(one.connection, number, one.now_ms()))

    async def _write(self, change: Callable[[Transaction], _Result]) -> _Result:
        def write() -> _Result:
            with self._store.write() as transaction:
                return change(transaction)

        return await asyncio.get_running_loop().run_in_executor(self._executor, write)
