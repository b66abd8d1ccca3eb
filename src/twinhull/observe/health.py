"""Whether a node lives and whether it can serve: what Kubernetes, the gateway and people ask."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

import structlog

from twinhull.kit.clock import Clock
from twinhull.kit.errors import TwinhullError

Answer = tuple[int, Mapping[str, str]]

_log: Final = structlog.get_logger()
# What was found out is good for this long, so that many askers cost no more than one.
FRESH_S: Final = 0.5
CHECK_TIMEOUT_S: Final = 2.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


async def livez() -> Answer:
    """Return 200: whoever runs this line lives."""
    return 200, {"status": "ok"}


class Readiness:
    """Whether this process can serve: its data directory and its database answer, and it is not stopping."""

    def __init__(self, *, data_dir: Path, check_database: Callable[[], object], executor: Executor, clock: Clock) -> None:
        """Take a function that asks the database something small and raises if that fails; it runs in the executor."""
        self._data_dir = data_dir
        self._check_database = check_database
        self._executor = executor
        self._clock = clock
        self._stopping = False
        self._known: Answer | None = None
        self._known_until_s = 0.0
        self._running: dict[str, asyncio.Future[object]] = {}
        self._checking: asyncio.Task[Answer] | None = None

    def stopping(self) -> None:
        """From now on answer that no new requests should come."""
        self._stopping = True

    async def readyz(self) -> Answer:
        """Return 200, or 503 and what is wrong; names no path, address or driver's message."""
        if self._stopping:
            return 503, {"status": "stopping"}
        if self._known is not None and self._clock.monotonic_s() < self._known_until_s:
            return self._known
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return await asyncio.shield(self._checking)

    async def _check(self) -> Answer:
        checks = {"data directory": self._check_directory, "database": self._check_database}
        wrong = {}
        for name, check in checks.items():
            try:
                await asyncio.wait_for(asyncio.shield(self._started(name, check)), CHECK_TIMEOUT_S)
            except (OSError, TwinhullError, TimeoutError) as error:
                wrong[name] = _reason(error)
            except Exception as error:  # noqa: BLE001 - a driver's failure of any kind means: not ready
                wrong[name] = type(error).__name__
        if wrong and (self._known is None or self._known[0] == 200):
            _log.warning("not ready", **{name.replace(" ", "_"): why for name, why in wrong.items()})
        self._known = (503, {"status": "not ready", **wrong}) if wrong else (200, {"status": "ok"})
        self._known_until_s = self._clock.monotonic_s() + FRESH_S
        return self._known

    def _started(self, name: str, check: Callable[[], object]) -> asyncio.Future[object]:
        # A check that hangs, as on a dead network disk, is waited for again and not started again: it holds one thread.
        running = self._running.get(name)
        if running is None or running.done():
            running = self._running[name] = asyncio.get_running_loop().run_in_executor(self._executor, check)
        return running

    def _check_directory(self) -> None:
        # A full disk is no reason to take the node out: pulls go on, pushes are told so one by one.
        probe = self._data_dir / "run" / "ready"
        try:
            probe.write_bytes(b"1")
        except OSError as error:
            if error.errno not in _FULL:
                raise


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)
