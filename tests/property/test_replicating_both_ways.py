"""Two registries that replicate to one another by events come to rest, whatever is pushed and deleted on both meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from tests.support.sides import MemoryRegistry
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import Digest
from twinhull.mirror.copying import Copying, Order
from twinhull.mirror.selection import Candidate
from twinhull.mirror.sides import Manifest

APP: Final = "team/app"
# More than all that is drawn could cause, if each change caused one on the other side and no more.
_STEPS_MAX: Final = 500


@dataclass(slots=True)
class Task:
    """What an event has begun."""

    is_deletion: bool
    candidate: Candidate


@dataclass(slots=True)
class Site(MemoryRegistry):
    """A registry that notes what is done to it, as audit records do, and turns that into tasks in the same order."""

    tasks: deque[Task] = field(default_factory=deque)

    def __post_init__(self) -> None:
        MemoryRegistry.__init__(self)

    def tag(self, text: str, name: str) -> None:
        """Do what a client's push does."""
        self._named(self.push_image(APP, text), name)

    def untag(self, name: str) -> None:
        """Do what a client's deletion of a tag does."""
        digest = self.tags.pop((APP, name), None)
        if digest is not None:
            self.tasks.append(Task(is_deletion=True, candidate=Candidate(digest=digest, tags=(name,))))

    async def put_manifest(self, repository: str, manifest: Manifest, tag: str = "") -> None:
        """Take what the other side copies here; that is an event too."""
        await MemoryRegistry.put_manifest(self, repository, manifest)
        if tag:
            self._named(manifest.digest, tag)

    async def delete(self, repository: str, reference: str) -> bool:
        """Take what the other side deletes here."""
        assert repository == APP
        there = (APP, reference) in self.tags
        self.untag(reference)
        return there

    def _named(self, digest: Digest, name: str) -> None:
        if self.tags.get((APP, name)) != digest:
            self.tags[APP, name] = digest
            self.tasks.append(Task(is_deletion=False, candidate=Candidate(digest=digest, tags=(name,))))


async def step(source: Site, target: Site) -> None:
    """Do the oldest task of a side."""
    task = source.tasks.popleft()
    order = Order(source=APP, destination=APP, override=True, exact=True)
    copying = Copying(source, target, order, log=lambda _: None, clock=ManualClock())
    await (copying.delete if task.is_deletion else copying.copy)(task.candidate)


# A deed: on which side, what (None deletes), under which of two names, and how many tasks of which sides are done after it.
_DEEDS = st.lists(
    st.tuples(
        st.integers(0, 1), st.sampled_from(["a", "b", "c", None]), st.sampled_from(["v1", "v2"]), st.lists(st.integers(0, 1))
    ),
    max_size=8,
)


@given(deeds=_DEEDS, rest=st.lists(st.integers(0, 1), max_size=40))
def test_both_sides_end_with_the_same_tags(deeds: list[tuple[int, str | None, str, list[int]]], rest: list[int]) -> None:
    async def run() -> None:
        sites = Site(), Site()

        async def turn(side: int) -> None:
            if sites[side].tasks:
                await step(sites[side], sites[1 - side])

        for side, text, name, turns in deeds:
            if text is None:
                sites[side].untag(name)
            else:
                sites[side].tag(text, name)
            for one in turns:
                await turn(one)
        for one in rest:
            await turn(one)
        steps = 0
        while sites[0].tasks or sites[1].tasks:
            await turn(0)
            await turn(1)
            steps += 1
            assert steps < _STEPS_MAX, "it never ends"
        assert sites[0].tags == sites[1].tags, (deeds, rest)

    asyncio.run(run())
