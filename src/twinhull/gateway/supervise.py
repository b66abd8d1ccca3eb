"""Keeps one nginx running in front of the nodes: starts, restarts, and reloads it when a node or a certificate changes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import os
import pwd
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from twinhull.gateway.health import Checks
from twinhull.gateway.nginx import CURRENT, Nginx, find_nginx
from twinhull.gateway.process import NginxProcess
from twinhull.gateway.render import FILES_PER_CONNECTION, render
from twinhull.gateway.settings import Backend, GatewaySettings
from twinhull.kit.clock import Clock, SystemClock
from twinhull.kit.errors import Conflict, SettingsInvalid, Unavailable

log = structlog.get_logger(__name__)

_BACK_OFF_FIRST_S: Final = 0.1
_BACK_OFF_MAX_S: Final = 10.0
# An nginx that ran this long before it died starts again without delay.
_STABLE_AFTER_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """How the gateway sees one node."""

    url: str
    in_rotation: bool
    """Whether new requests go there."""
    well: bool
    """Whether its checks pass; a node that fails stays in rotation when all fail."""
    last_answer: str
    since_s: float
    """How long it has been like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """What a gateway is doing."""

    nginx_pid: int | None
    nginx_version: str
    restarts: int
    reloads: int
    last_error: str
    nodes: tuple[NodeStatus, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What nginx should be running with: the text, and the state of the files that the text only names."""

    text: str
    files: tuple[tuple[int, int, int], ...]
    out: frozenset[Backend]


class Gateway:
    """One entrance; `run()` serves until it is cancelled."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        run_dir: Path,
        clock: Clock | None = None,
        nginx: Path | None = None,
        output: Callable[[bytes], None] | None = None,
    ) -> None:
        """Take the settings and a directory of its own; nginx's messages go to `output` (default: this process's stderr)."""
        self._settings = settings
        self._run_dir = run_dir.absolute()
        self._clock = clock or SystemClock()
        self._binary = nginx
        self._output = output or _to_stderr
        self._checks = Checks(settings, clock=self._clock)
        self._process: NginxProcess | None = None
        self._applied: _Wanted | None = None
        self._refused: _Wanted | None = None
        self._changed = asyncio.Event()
        self._status_changed = asyncio.Condition()
        self._nginx: Nginx = CURRENT
        self._restarts = 0
        self._reloads = 0
        self._last_error = ""

    def status(self) -> GatewayStatus:
        """Return what it is doing right now."""
        out = self._applied.out if self._applied else frozenset()
        now_s = self._clock.monotonic_s()
        nodes = []
        for backend in self._settings.backends:
            standing = self._checks.book.standing(backend)
            nodes.append(
                NodeStatus(
                    url=backend.url,
                    in_rotation=backend not in out,
                    well=standing.well,
                    last_answer=standing.last.value if standing.last else "was not asked yet",
                    since_s=now_s - standing.since_s,
                )
            )
        return GatewayStatus(
            nginx_pid=self._process.pid if self._process else None,
            nginx_version=self._nginx.version_text,
            restarts=self._restarts,
            reloads=self._reloads,
            last_error=self._last_error,
            nodes=tuple(nodes),
        )

    async def wait_status(self, wanted: Callable[[GatewayStatus], bool]) -> GatewayStatus:
        """Wait until the status satisfies the condition, and return it; give a limit with asyncio.timeout."""
        async with self._status_changed:
            await self._status_changed.wait_for(lambda: wanted(self.status()))
            return self.status()

    async def run(self) -> None:
        """Serve until cancelled, then let requests finish and stop.

        Raises Unavailable if there is no nginx or it does not come up, SettingsInvalid if it refuses its configuration,
        Conflict if another gateway uses the directory. Later deaths of nginx are repaired, not raised.
        """
        self._run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        with _locked(self._run_dir):
            self._nginx = await find_nginx(self._binary)
            process = self._process = NginxProcess(self._nginx, run_dir=self._run_dir, output=self._output)
            async with self._checks as checks:
                await checks.look_once()
                await self._install(process)
                watchers = [asyncio.create_task(checks.watch(each, self._changed.set)) for each in self._settings.backends]
                for watcher in watchers:
                    watcher.add_done_callback(lambda _: self._changed.set())
                try:
                    await process.start()
                    log.info(
                        "gateway serves", listen=[str(each) for each in self._settings.listen], nginx=self._nginx.version_text
                    )
                    await self._tell()
                    await self._keep_running(process, watchers)
                finally:
                    for watcher in watchers:
                        watcher.cancel()
                    await process.stop(self._settings.stop_timeout_s)
                    await self._tell()

    async def _keep_running(self, process: NginxProcess, watchers: list[asyncio.Task[None]]) -> None:
        started_s = self._clock.monotonic_s()
        back_off_s = _BACK_OFF_FIRST_S
        exited = self._watch_exit(process)
        try:
            while True:
                # The time limit is for files: nobody tells when a certificate has been renewed.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.check_interval_s):
                        await self._changed.wait()
                self._changed.clear()
                for watcher in watchers:
                    if watcher.done():
                        watcher.result()
                if exited.done():
                    ran_s = self._clock.monotonic_s() - started_s
                    back_off_s = _BACK_OFF_FIRST_S if ran_s > _STABLE_AFTER_S else min(back_off_s * 2, _BACK_OFF_MAX_S)
                    log.error("nginx died", status=exited.result(), last_words=process.last_words(), again_in_s=back_off_s)
                    await asyncio.sleep(back_off_s)
                    await self._restart(process)
                    started_s = self._clock.monotonic_s()
                    exited = self._watch_exit(process)
                else:
                    await self._follow(process)
                await self._tell()
        finally:
            exited.cancel()

    def _watch_exit(self, process: NginxProcess) -> asyncio.Task[int]:
        exited = asyncio.create_task(process.wait_exit())
        exited.add_done_callback(lambda _: self._changed.set())
        return exited

    async def _restart(self, process: NginxProcess) -> None:
        self._restarts += 1
        try:
            await self._install(process)
            await process.start()
        except (SettingsInvalid, Unavailable) as error:
            # The caller sees that nginx is gone again, and comes back after a longer pause.
            self._last_error = str(error)

    async def _follow(self, process: NginxProcess) -> None:
        """Reload nginx if it should run with something else than it does."""
        before = self._applied.out if self._applied else frozenset()
        try:
            if not await self._install(process):
                return
        except SettingsInvalid as error:
            self._last_error = str(error)
            log.error("nginx keeps its old configuration", error=str(error))  # noqa: TRY400 - not a bug of ours, no trace
            return
        process.reload()
        self._reloads += 1
        out = self._applied.out if self._applied else frozenset()
        for backend in out - before:
            answer = self._checks.book.standing(backend).last
            log.warning("node taken out", node=backend.url, because=answer.value if answer else "")
        for backend in before - out:
            log.info("node put back", node=backend.url)

    async def _install(self, process: NginxProcess) -> bool:
        wanted = self._wanted()
        if wanted in (self._applied, self._refused):
            return False
        try:
            await process.install(wanted.text)
        except SettingsInvalid:
            self._refused = wanted
            raise
        self._applied, self._refused = wanted, None
        return True

    def _wanted(self) -> _Wanted:
        out = self._checks.book.out()
        text = render(
            self._settings,
            run_dir=self._run_dir,
            nginx=self._nginx,
            down=out,
            addresses=self._checks.addresses,
            worker_user=_worker_user(),
            open_files=_open_files(self._settings.worker_connections),
        )
        files = []
        for path in (self._settings.certificate, self._settings.key):
            with contextlib.suppress(OSError):
                stat = path.stat() if path else None
                files.append((stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) if stat else (0, 0, 0))
        return _Wanted(text, tuple(files), out)

    async def _tell(self) -> None:
        async with self._status_changed:
            self._status_changed.notify_all()


@contextlib.contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    with (run_dir / "gateway.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"another gateway runs in {run_dir}", hint="stop it, or give another --run-dir") from error
        yield


def _worker_user() -> str | None:
    """Return whom nginx's workers should be when its master is root."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
        return f"nobody {grp.getgrgid(nobody.pw_gid).gr_name}"
    except KeyError:
        return None


def _open_files(worker_connections: int) -> int:
    wanted = worker_connections * FILES_PER_CONNECTION
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _to_stderr(chunk: bytes) -> None:
    sys.stderr.buffer.write(chunk)
    sys.stderr.buffer.flush()
