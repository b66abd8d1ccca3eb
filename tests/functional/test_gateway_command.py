"""`twinhull gateway`, the command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import LIMIT_S, NGINXES, free_port, fresh_answers, name_of, nodes, wait_gone
from twinhull.cli.main import run
from twinhull.gateway.certificate import self_signed
from twinhull.kit.clock import SystemClock


@pytest.mark.parametrize("nginx", NGINXES, ids=name_of)
def test_printed_configuration_is_one_that_nginx_takes(
    nginx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{nginx.parent}:{os.environ['PATH']}")
    certificate, key = self_signed([], tmp_path, SystemClock())
    file = tmp_path / "gateway.toml"
    file.write_text(f'backend = ["127.0.0.1:1", "[::1]:2"]\ncert = "{certificate.name}"\nkey = "{key.name}"\n')
    options = [
        "--listen",
        "127.0.0.1:1",
        "--tls-listen",
        "[::1]:1",
        "--redirect",
        "--affinity",
        "ip",
        "--run-dir",
        str(tmp_path),
    ]
    assert run(["gateway", "--config", str(file), *options, "--print"]) == 0
    printed = tmp_path / "printed.conf"
    printed.write_text(capsys.readouterr().out)
    tried = subprocess.run(
        [nginx, "-t", "-e", "stderr", "-p", tmp_path, "-c", printed], check=False, capture_output=True, text=True
    )
    assert "test is successful" in tried.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--listen", ":80"], "needs a node"),
        (["--backend", "a:1", "--listen", ":80", "--affinity", "moon"], "one of none, ip"),
        (["--backend", "a:1", "--listen", ":80", "--config", "/nonexistent.toml"], "can't be read"),
    ],
)
def test_wrong_options_are_a_usage_error(capsys: pytest.CaptureFixture[str], options: list[str], complaint: str) -> None:
    assert run(["gateway", *options]) == 2
    assert complaint in capsys.readouterr().err


@contextlib.asynccontextmanager
async def command(nginx: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command until the test is done with it; it has said that it serves."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "twinhull.cli.main", "gateway", *options),
        env={**os.environ, "PATH": f"{nginx.parent}:{os.environ['PATH']}"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            assert b"gateway serves" in await process.stderr.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("nginx", NGINXES, ids=name_of)
async def test_nginx_ends_with_a_gateway_that_is_killed(nginx: Path, tmp_path: Path) -> None:
    port = free_port()
    async with nodes("a") as [node]:
        options = ["--backend", node.url, "--listen", f"127.0.0.1:{port}", "--run-dir", str(tmp_path)]
        async with command(nginx, *options) as process:
            assert await fresh_answers(f"http://127.0.0.1:{port}/x", 2) == ["a", "a"]
            pid = int((tmp_path / "nginx.pid").read_text())
            process.kill()
            await wait_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_command_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with (
        nodes("a") as [node],
        command(NGINXES[0], "--backend", node.url, "--listen", f"127.0.0.1:{free_port()}") as process,
    ):
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
    assert list(tmp_path.iterdir()) == []
