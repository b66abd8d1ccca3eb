"""Clients of a cluster that push, retag, delete, make accounts, take rights away and look, each in its own random order."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.images import Image
from tests.support.office import Addressed, Office
from twinhull.kit.clock import SystemClock

_SHARED_TAGS: Final = 8
_SHARED_FOR_S: Final = 20


class Clients:
    """Threads that do, each in its own random order, what clients and administrators do, until they are told to stop."""

    def __init__(self, office: Office, rng: random.Random, *, count: int, pause_s: float) -> None:
        """Take how many there are, and how long each waits after each operation."""
        self._office = office
        self._stop = threading.Event()
        self._pause_s = pause_s
        self._failures: list[BaseException] = []
        seeds = [rng.getrandbits(64) for _ in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(number, seed)) for number, seed in enumerate(seeds)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return once all have ended; a fault in a client itself is raised."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _run(self, number: int, seed: int) -> None:
        try:
            client = _Client(self._office, random.Random(seed), number)
            while not self._stop.wait(self._pause_s):
                client.step()
        except BaseException as error:  # noqa: BLE001 - raised again in `stop`
            self._failures.append(error)


class _Client:
    """One of them, and what it has pushed itself."""

    def __init__(self, office: Office, rng: random.Random, number: int) -> None:
        self._office = office
        self._rng = rng
        self._number = number
        self._clock = SystemClock()
        self._pushed = 0
        self._own: list[tuple[str, Image]] = []
        self._steps: dict[Callable[[Addressed], None], int] = {
            self._push: 24,
            self._push_shared: 12,
            self._read: 24,
            self._untag: 4,
            self._erase: 4,
            self._subject: 6,
            self._revoke: 6,
            self._meddle: 6,
            self._probe: 14,
        }

    def step(self) -> None:
        """Do one thing at one node."""
        [action] = self._rng.choices(list(self._steps), weights=list(self._steps.values()))
        action(self._rng.choice(self._office.nodes))

    def _shared(self) -> str:
        """Return a tag that all clients write and read at this time."""
        return f"shared-{int(self._clock.monotonic_s() // _SHARED_FOR_S)}-{self._rng.randrange(_SHARED_TAGS)}"

    def _push(self, node: Addressed) -> None:
        self._pushed += 1
        tag = f"c{self._number}-{self._pushed}"
        if content := self._office.push(node, tag):
            self._own.append((tag, content))

    def _push_shared(self, node: Addressed) -> None:
        """Push to a tag that all use: a new image, or one of its own anew."""
        tag = self._shared()
        if self._own and self._rng.random() < 0.5:
            # Not one that may be erased: whoever erases an image must know all its tags.
            _, content = self._own.pop(self._rng.randrange(len(self._own)))
            self._office.push(node, tag, content)
        else:
            self._office.push(node, tag)

    def _read(self, node: Addressed) -> None:
        own = self._own and self._rng.random() < 0.5
        self._office.read(node, self._rng.choice(self._own)[0] if own else self._shared())

    def _untag(self, node: Addressed) -> None:
        self._office.untag(node, self._shared())

    def _erase(self, node: Addressed) -> None:
        if self._own:
            tag, content = self._own.pop(self._rng.randrange(len(self._own)))
            self._office.erase(node, tag, content.digest)

    def _subject(self, node: Addressed) -> None:
        (self._office.new_user if self._rng.random() < 0.7 else self._office.new_robot)(node)

    def _revoke(self, node: Addressed) -> None:
        if not self._office.subjects:
            return
        subject = self._rng.choice(self._office.subjects)
        office = self._office
        of_user, of_robot = (office.weaken, office.expel, office.remove), (office.disable, office.rotate, office.remove)
        choices = of_user if subject.member_path else of_robot
        self._rng.choice(choices)(node, subject)

    def _meddle(self, node: Addressed) -> None:
        users = [subject for subject in self._office.subjects if subject.member_path]
        if users:
            self._office.meddle(node, self._rng.choice(users))

    def _probe(self, node: Addressed) -> None:
        # Who may do nothing any more is looked at seldom: a registry slows down those who come with wrong passwords.
        alive = [subject for subject in self._office.subjects if subject.strength or self._rng.random() < 0.05]
        if alive:
            self._office.probe(node, self._rng.choice(alive))


@contextmanager
def running_clients(office: Office, rng: random.Random, *, count: int = 3, pause_s: float = 0.02) -> Iterator[None]:
    """Let so many clients work for as long as the block lasts."""
    clients = Clients(office, rng, count=count, pause_s=pause_s)
    clients.start()
    try:
        yield
    finally:
        clients.stop()
