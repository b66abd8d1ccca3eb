"""One nginx master process: started, reloaded, waited for and stopped, with its last words kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twinhull.gateway import tether
from twinhull.gateway.nginx import Nginx
from twinhull.kit.errors import SettingsInvalid, Unavailable

_START_LIMIT_S: Final = 15
_POLL_S: Final = 0.01
_TEST_LIMIT_S: Final = 20
_TERMINATE_LIMIT_S: Final = 5
_RELAY_BYTES: Final = 64 * 1024
_LAST_LINES: Final = 20


class NginxProcess:
    """nginx in the foreground under this process; it doesn't outlive it."""

    def __init__(self, nginx: Nginx, *, run_dir: Path, output: Callable[[bytes], None]) -> None:
        """Take what to run, where, and what to do with what it prints."""
        self._nginx = nginx
        self._run_dir = run_dir
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        # By process group; a relay ends when the last process of its group has closed the pipe.
        self._relays: dict[int, asyncio.Task[None]] = {}
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def configuration(self) -> Path:
        """Return the path of the file that nginx reads."""
        return self._run_dir / "nginx.conf"

    @property
    def pid(self) -> int | None:
        """Return the master's process id while it runs."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def install(self, text: str) -> None:
        """Make this the configuration of the next start or reload; SettingsInvalid, and no change, if nginx refuses it."""
        fresh = self._run_dir / "nginx.conf.new"
        await asyncio.to_thread(fresh.write_text, text, encoding="utf-8")
        said = await self._test(fresh)
        if said is not None:
            raise SettingsInvalid(f"nginx refuses its configuration: {said}", hint=f"see {fresh}")
        fresh.replace(self.configuration)

    async def start(self) -> None:
        """Start nginx and return when it listens; Unavailable with its last words if it doesn't come up."""
        pid_file = self._run_dir / "nginx.pid"
        pid_file.unlink(missing_ok=True)
        self._last_lines.clear()
        process = self._process = await self._spawn()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_LIMIT_S):
                while process.returncode is None:
                    # nginx writes this file once it has bound every address.
                    if _read_pid(pid_file) == process.pid:
                        return
                    await asyncio.sleep(_POLL_S)
        await self._kill()
        raise Unavailable(f"nginx did not start: {self.last_words()}")

    def reload(self) -> None:
        """Let nginx read its configuration again; requests that are running finish under the old one."""
        self._signal(signal.SIGHUP)

    async def wait_exit(self) -> int:
        """Wait until nginx is gone, and return its exit status (negative: the signal)."""
        if self._process is None:
            return 0
        status = await self._process.wait()
        # Workers outlive a master that was killed, and would keep the addresses: let them finish what they have.
        self._signal_groups(signal.SIGQUIT)
        return status

    async def stop(self, limit_s: float) -> None:
        """Stop nginx: at first by letting requests finish, after the limit by force; at once if cancelled."""
        if self._process is None:
            return
        try:
            for number, patience_s in ((signal.SIGQUIT, limit_s), (signal.SIGTERM, _TERMINATE_LIMIT_S)):
                self._signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience_s):
                        await self._process.wait()
                        return
        finally:
            await self._kill()

    def last_words(self) -> str:
        """Return what nginx complained about last, on one line."""
        complaints = [line for line in self._last_lines if "[emerg]" in line or "[alert]" in line or "[crit]" in line]
        unique = dict.fromkeys(line.partition("] ")[2] or line for line in complaints or self._last_lines)
        return "; ".join(unique) or "it said nothing"

    def _command(self, configuration: Path, *more: str) -> tuple[str, ...]:
        return (str(self._nginx.binary), "-p", f"{self._run_dir}/", "-e", "stderr", "-c", str(configuration), *more)

    async def _spawn(self) -> asyncio.subprocess.Process:
        # A pipe of our own: asyncio's would make it wait for every process that holds the other end, and workers may
        # outlive their master.
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid())),
                *self._command(self.configuration),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=writing,
                # A session of its own: Ctrl-C in a terminal reaches all of ours, and nginx would drop its connections.
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._relays[process.pid] = asyncio.create_task(self._pass_on(reading))
        return process

    async def _test(self, configuration: Path) -> str | None:
        process = await asyncio.create_subprocess_exec(
            *self._command(configuration, "-t", "-q"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_TEST_LIMIT_S):
                _, said = await process.communicate()
        except TimeoutError:
            said = b"the test of the configuration took too long"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return None if process.returncode == 0 else said.decode(errors="replace").strip()

    async def _pass_on(self, descriptor: int) -> None:
        stream = asyncio.StreamReader()
        with os.fdopen(descriptor, "rb") as pipe:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
            try:
                while chunk := await stream.read(_RELAY_BYTES):
                    self._last_lines.extend(chunk.decode(errors="replace").splitlines()[-_LAST_LINES:])
                    self._output(chunk)
            finally:
                transport.close()

    async def _kill(self) -> None:
        self._signal_groups(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()
        await asyncio.gather(*self._relays.values())
        self._relays.clear()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)

    def _signal_groups(self, number: signal.Signals) -> None:
        for group, relay in list(self._relays.items()):
            if relay.done():
                del self._relays[group]
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
