"""Which nodes get requests: asks each node's /readyz, and decides when one goes out and when it comes back."""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from twinhull.gateway.settings import Address, Backend, GatewaySettings
from twinhull.kit.clock import Clock

_OK: Final = 200


class Answer(enum.Enum):
    """What a check found."""

    READY = "ready"
    NOT_READY = "says it is not ready"
    REFUSED = "refuses connections"
    SILENT = "does not answer"
    UNRESOLVED = "has a name that leads nowhere"


# These leave no doubt; a node that is only slow is given more time.
_CERTAIN: Final = frozenset({Answer.NOT_READY, Answer.REFUSED, Answer.UNRESOLVED})


@dataclass(slots=True)
class Standing:
    """How one node has been doing; a node that was never asked counts as well."""

    well: bool = True
    last: Answer | None = None
    good_in_a_row: int = 0
    silent_in_a_row: int = 0
    since_s: float = 0.0
    """The clock's monotonic seconds at which `well` last changed."""


class HealthBook:
    """Remembers what checks found, and decides by it; does no I/O."""

    def __init__(self, backends: Sequence[Backend], *, fall: int, rise: int, clock: Clock) -> None:
        """Begin with every node well."""
        self._fall = fall
        self._rise = rise
        self._clock = clock
        self._standings = {backend: Standing(since_s=clock.monotonic_s()) for backend in backends}

    def standing(self, backend: Backend) -> Standing:
        """Return how that node has been doing."""
        return self._standings[backend]

    def note(self, backend: Backend, answer: Answer) -> bool:
        """Take down what a check found, and tell whether the node's standing changed by it."""
        standing = self._standings[backend]
        first, standing.last = standing.last is None, answer
        if answer is Answer.READY:
            standing.good_in_a_row += 1
            standing.silent_in_a_row = 0
            well = standing.well or standing.good_in_a_row >= self._rise
        else:
            standing.good_in_a_row = 0
            standing.silent_in_a_row += answer is Answer.SILENT
            # The first check ever: nothing speaks for this node yet, so it need not fail several times.
            well = standing.well and not (first or answer in _CERTAIN or standing.silent_in_a_row >= self._fall)
        changed = well != standing.well
        if changed:
            standing.well = well
            standing.since_s = self._clock.monotonic_s()
        return changed

    def out(self) -> frozenset[Backend]:
        """Return the nodes that get no requests: those that fail, but nobody if all do, since the checks may be wrong."""
        failing = frozenset(backend for backend, standing in self._standings.items() if not standing.well)
        return failing if len(failing) < len(self._standings) else frozenset()


class Checks:
    """Asks the nodes, again and again; an async context manager that owns the connections for it."""

    def __init__(self, settings: GatewaySettings, *, clock: Clock) -> None:
        """Prepare checks for the settings' backends."""
        self._settings = settings
        self.book = HealthBook(settings.backends, fall=settings.fall, rise=settings.rise, clock=clock)
        self.addresses: dict[Backend, str | None] = {}
        """What the nodes' names resolved to; None: to nothing so far."""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Checks:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.check_timeout_s),
            # A fresh connection each time: an old one can outlive the listener that new clients would meet.
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

    async def look_once(self) -> None:
        """Ask every node once."""
        await asyncio.gather(*(self._look(backend) for backend in self._settings.backends))

    async def watch(self, backend: Backend, on_change: Callable[[], None]) -> None:
        """Ask one node for ever, and call when its standing or its address has changed."""
        while True:
            await asyncio.sleep(self._settings.check_interval_s)
            if await self._look(backend):
                on_change()

    async def _look(self, backend: Backend) -> bool:
        before = self.addresses.get(backend)
        # Until a name resolves again the node's last known address is as good as any.
        address = await resolve(backend.address, prefer=before) or before
        self.addresses[backend] = address
        answer = Answer.UNRESOLVED if address is None else await self._ask(backend, address)
        return self.book.note(backend, answer) or address != before

    async def _ask(self, backend: Backend, address: str) -> Answer:
        if self._session is None:
            raise RuntimeError("checks are used before they were opened")
        headers = {"Host": str(backend.address), "User-Agent": "twinhull-gateway"}
        try:
            async with self._session.get(f"http://{address}/readyz", headers=headers, allow_redirects=False) as response:
                return Answer.READY if response.status == _OK else Answer.NOT_READY
        except aiohttp.ClientConnectorError as error:
            return Answer.REFUSED if isinstance(error.os_error, ConnectionRefusedError) else Answer.SILENT
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer.SILENT


async def resolve(address: Address, *, prefer: str | None = None) -> str | None:
    """Return HOST:PORT with a number for the name, the preferred one if it still holds; None if the name leads nowhere."""
    if _is_number(address.host):
        return str(address)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    numbers = [
        str(Address(f"[{at[0]}]" if family == socket.AF_INET6 else str(at[0]), address.port)) for family, _, _, _, at in found
    ]
    return prefer if prefer in numbers else next(iter(numbers), None)


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
