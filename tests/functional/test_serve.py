"""Nodes served by the command line: what they say, which processes they are, how they stop, what a kill leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import FIRST_LINE, LIMIT_S, Served, basic, descendants, serving, twinhull
from tests.support.processes import stop, wait_until
from tests.support.single import is_ready
from tests.support.twins import free_base_port
from twinhull.cli.processes import is_running


@pytest.fixture(scope="class")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One node for the tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("node"), environ={"TWINHULL_ADMIN_PASSWORD": "Given1234"}) as served:
        yield served


class TestServe:
    def test_given_password_is_not_shown(self, node: Served) -> None:
        assert FIRST_LINE.fullmatch(node.log.read_text().splitlines()[0] + "\n")
        assert "password of" not in node.log.read_text()
        assert "Given1234" not in node.log.read_text()

    def test_idle_node_takes_little_memory(self, node: Served) -> None:
        shares = [_share_bytes(pid) for some in node.processes().values() for pid in some]
        assert sum(shares) < 250_000_000

    def test_second_node_on_the_same_port_or_directory_is_refused(self, node: Served, tmp_path: Path) -> None:
        ran = twinhull("serve", "--data-dir", str(tmp_path / "other"), "--listen", node.address)
        assert ran.returncode == 1
        assert ran.stderr.startswith(f"error: {node.address} is in use\n")
        ran = twinhull("serve", "--data-dir", str(node.log.parent / "data"), "--listen", "127.0.0.1:0")
        assert ran.returncode == 1
        assert "is in use by another twinhull" in ran.stderr
        assert node.ready()

    def test_death_of_agent_or_worker_stops_no_serving(self, node: Served) -> None:
        for name, count in (("twinhull agent", 1), ("twinhull worker", 2)):
            victim = node.processes()[name][0]
            os.kill(victim, signal.SIGKILL)
            # A connection that a dying worker has just been given is lost with it; the next is not.
            assert node.ready() or node.ready()

            def is_replaced(name: str = name, count: int = count, victim: int = victim) -> bool:
                now = node.processes().get(name, [])
                return len(now) == count and victim not in now

            wait_until(is_replaced, process=node.process, log=node.log, limit_s=LIMIT_S)
        assert node.ready()

    def test_running_request_is_finished_at_a_stop(self, node: Served) -> None:
        # The last of this class: it stops the node.
        host, _, port = node.address.rpartition(":")
        with socket.create_connection((host, int(port)), LIMIT_S) as connection:
            head = f"PUT /v2/library/x/manifests/1 HTTP/1.1\r\nHost: {node.address}\r\nConnection: close\r\n"
            connection.sendall(f"{head}Authorization: Basic {basic('Given1234')}\r\nContent-Length: 5\r\n\r\n12".encode())
            wait_until(lambda: _running_requests(node) == 1, process=node.process, log=node.log, limit_s=LIMIT_S)
            node.process.send_signal(signal.SIGTERM)
            # New connections are refused once it is stopping; this one is answered.
            wait_until(lambda: not node.ready(), process=node.process, log=node.log, limit_s=LIMIT_S)
            connection.sendall(b"345")
            assert connection.recv(12) == b"HTTP/1.1 400"
        assert node.process.wait(LIMIT_S) == 0

    def test_stop_right_after_the_start_takes_no_time(self, tmp_path: Path) -> None:
        with serving(tmp_path, ready=False) as starting:
            # Workers are being loaded now. Were the stop lost on one, it would be killed only after 30 seconds.
            assert stop(starting.process, signal.SIGTERM, limit_s=20) == 0
            assert "Killing" not in starting.log.read_text()

    def test_password_is_made_up_and_shown_once_and_a_kill_leaves_nothing_running(self, tmp_path: Path) -> None:
        with serving(tmp_path) as killed:
            assert re.search(r"^password of admin, shown only now: \S{12,}$", killed.log.read_text(), re.MULTILINE)
            pids = [pid for some in killed.processes().values() for pid in some]
            assert len(pids) == 5
            killed.process.kill()
            killed.process.wait()
            reset = twinhull("reset-admin-password", "--data-dir", str(tmp_path / "data"))
            assert reset.returncode == 0
            with serving(tmp_path) as successor:
                assert not any(is_running(str(pid)) for pid in pids)
                assert "password of" not in successor.log.read_text()
                assert successor.get("/api/v2.0/users/current", password=reset.stdout.split()[-1])[0] == 200
                assert successor.get("/api/v2.0/users/current", password="Given1234")[0] == 401
                assert stop(successor.process, signal.SIGTERM, limit_s=LIMIT_S) == 0


class TestUp:
    def test_two_masters_are_up_find_their_data_again_and_leave_nothing(self, tmp_path: Path) -> None:
        base = free_base_port()
        with _up(tmp_path, base) as (process, log):
            shown = log.read_text()
            assert f"entrance   http://127.0.0.1:{base} " in shown
            assert re.search(r"^  password   Harbor12345$", shown, re.MULTILINE)
            assert f"docker push 127.0.0.1:{base + 1}/library/hello:1" in shown
            status = twinhull("cluster", "status", "--json", "--data-dir", str(tmp_path / "data" / "a"))
            assert sorted(member["name"] for member in json.loads(status.stdout)["members"]) == ["a", "b"]
            supervisor = (tmp_path / "data" / "b" / "run" / "lock").read_text().strip()
            os.kill(int(supervisor), signal.SIGKILL)
            wait_until(lambda: "node b ended (signal 9)" in log.read_text(), process=process, log=log, limit_s=LIMIT_S)
            wait_until(lambda: is_ready(f"127.0.0.1:{base + 2}"), process=process, log=log, limit_s=LIMIT_S)
            pids = [pid for some in descendants(process.pid).values() for pid in some]
            assert stop(process, signal.SIGINT, limit_s=LIMIT_S) == 0
            assert not any(is_running(str(pid)) for pid in pids)
        with _up(tmp_path, base) as (process, log):
            assert "unless it was another at the first start" in log.read_text()
            pids = [pid for some in descendants(process.pid).values() for pid in some]
            process.kill()
            process.wait()
            with _up(tmp_path, base):
                assert not any(is_running(str(pid)) for pid in pids)


@contextmanager
def _up(directory: Path, base: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `twinhull up` until the end of the block, which begins when it says that all is up."""
    log = directory / "log"
    log.write_bytes(b"")
    arguments = ["up", "--data-dir", str(directory / "data"), "--base-port", str(base)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "twinhull.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "Ctrl-C stops all" in log.read_text(), process=process, log=log, limit_s=2 * LIMIT_S)
        yield process, log
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _running_requests(node: Served) -> int:
    """Return how many requests the node is answering, not counting the one that asks."""
    _, content = node.get("/metrics")
    match = re.search(rb"^registry_http_in_flight_requests (\d+)$", content, re.MULTILINE)
    assert match is not None
    return int(match[1])


def _share_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no share of memory for {pid}")
