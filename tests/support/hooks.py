"""What the agent of a node does for webhooks, step by step."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest

from tests.support.accounts import AccountsNode
from tests.support.receiver import Receiver, running_receiver
from twinhull.catalog.events import Entrance
from twinhull.catalog.webhooks import EVENT_TYPES
from twinhull.hooks.delivery import Courier, Delivering
from twinhull.hooks.reading import Deeds
from twinhull.jobs.access import Access
from twinhull.jobs.runner import JobRunner

ENTRANCE: Final = Entrance("https://registry.test")


class Hooks:
    """What the agent of a node does for webhooks, step by step, and a receiver."""

    def __init__(self, node: AccountsNode, receiver: Receiver) -> None:
        self.node = node
        self.receiver = receiver
        self._listeners: list[Callable[[], None]] = []
        self.access = Access(node.store, node.executor, self._listeners.append)
        self.restart()

    def restart(self) -> None:
        """Forget all that was not written down, as a restart of the agent does."""
        delivering = Delivering(Courier(timeout_s=2.0), self.access, self.node.sealer, concurrency=4)
        self.runner = JobRunner([delivering], self.access, jitter=random.Random(1))
        self.reader = Deeds(node=self.node.store.node, entrance=ENTRANCE).reader(self.access)

    async def settle(self) -> None:
        """Tell of all that has happened, and deliver what is due."""
        quiet = 0
        while quiet < 2:
            before = self.node.store.position()
            while await self.reader.work() is not None:
                pass
            # Pulls are written down a little later than what is pushed.
            await self.node.pulls.flush()
            await self.runner.work()
            running = [task for task in asyncio.all_tasks() if task.get_name() == "WEBHOOK"]
            if running:
                await asyncio.wait(running, timeout=5.0)
            quiet = quiet + 1 if before == self.node.store.position() and not running else 0

    async def told(self) -> list[dict[str, Any]]:
        """Return the bodies of all that has arrived."""
        await self.settle()
        return [one.body for one in self.receiver.deliveries]

    async def policy(self, project: int, *events: str, **target: object) -> int:
        """Let a project tell the receiver of these events."""
        body = {
            "name": f"hook-{secrets.token_hex(3)}",
            "targets": [{"type": "http", "address": self.receiver.url, **target}],
            "event_types": events or EVENT_TYPES,
            "enabled": True,
        }
        return await self.node.admin.create(f"/projects/{project}/webhook/policies", body)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
async def hooks(site: AccountsNode, receiver: Receiver) -> AsyncIterator[Hooks]:
    """A node whose log is read."""
    made = Hooks(site, receiver)
    await made.settle()
    yield made
    await made.runner.close()
