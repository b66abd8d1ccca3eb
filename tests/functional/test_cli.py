"""The command line as people and scripts meet it: help, errors, exit codes, and what it asks of a running node."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command_line import twinhull
from twinhull.cli.main import COMMANDS, load_command


class TestHelp:
    def test_help_names_every_command(self) -> None:
        shown = twinhull("--help")
        assert shown.returncode == 0
        for name in COMMANDS:
            assert re.search(rf"^  {name} ", shown.stdout, re.MULTILINE)

    @pytest.mark.parametrize("name", sorted(COMMANDS))
    def test_every_command_loads_and_has_help(self, name: str) -> None:
        assert load_command(name).help

    @pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["cluster", "join", "--help"], ["up", "--help"]])
    def test_help_loads_nothing_heavy(self, arguments: list[str]) -> None:
        # What makes --help slow is what it imports; a limit in seconds would only measure how busy the machine is.
        program = (
            "import sys; from twinhull.cli.main import run; run(sys.argv[1:]); "
            "heavy = {'sqlalchemy', 'granian', 'aiohttp', 'cryptography', 'structlog', 'yaml', 'starlette', 'rich'}; "
            "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
        )
        ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr

    def test_cluster_has_the_commands_that_scripts_rely_on(self) -> None:
        shown = twinhull("cluster", "--help").stdout
        for name in ("invite", "join", "status", "verify", "wait", "leave", "remove", "pause", "resume"):
            assert re.search(rf"^  {name} ", shown, re.MULTILINE)


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["serv"], "error: no such command 'serv'"),
            (["serve", "--port", "1"], "error: no such option: --port"),
            (["serve", "--workers", "many"], "error: invalid value for '--workers'"),
            (["serve", "--listen", "8080"], "error: listen: '8080' is not an address"),
            (["serve", "--config", "/nowhere/harbor.yml"], "error: cannot read /nowhere/harbor.yml: No such file"),
            (["cluster", "join"], "error: missing argument 'TOKEN'"),
            (["cluster", "join", "T", "--merge", "--discard"], "error: --merge and --discard exclude each other"),
            (["cluster", "remove"], "error: missing argument 'NODE'"),
            (["reset-admin-password", "--data-dir", "/nowhere"], "error: /nowhere is not a node's data directory"),
        ],
    )
    def test_wrong_use_says_what_and_how(self, arguments: list[str], said: str) -> None:
        ran = twinhull(*arguments)
        assert ran.returncode == 2
        assert ran.stdout == ""
        first, way_out = ran.stderr.splitlines()[:2]
        assert first.startswith(said)
        assert way_out.startswith("  ")
        assert "Traceback" not in ran.stderr

    def test_unknown_key_names_the_nearest_one(self, tmp_path: Path) -> None:
        (tmp_path / "harbor.yml").write_text("hostnme: x\n")
        ran = twinhull("serve", "--config", str(tmp_path / "harbor.yml"))
        assert (ran.returncode, ran.stderr) == (
            2,
            f"error: {tmp_path / 'harbor.yml'}: unknown key hostnme\n  did you mean hostname?\n",
        )

    def test_no_command_shows_help_and_is_wrong_use(self) -> None:
        ran = twinhull()
        assert ran.returncode == 2
        assert "Commands:" in ran.stdout + ran.stderr

    def test_no_node_here_is_a_failure_with_the_way_out(self, tmp_path: Path) -> None:
        ran = twinhull("cluster", "status", "--data-dir", str(tmp_path))
        assert ran.returncode == 1
        assert (
            ran.stderr
            == f"error: no node is running in {tmp_path}\n  start it with `twinhull serve`, or name another with --data-dir\n"
        )

    def test_folder_of_two_nodes_is_told_apart(self, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / name / "run").mkdir(parents=True)
            (tmp_path / name / "run" / "agent.sock").touch()
        ran = twinhull("cluster", "status", environ={"TWINHULL_DATA_DIR": str(tmp_path)})
        assert f"--data-dir {tmp_path / 'a'} or --data-dir {tmp_path / 'b'}" in ran.stderr


@dataclass(slots=True)
class FakeAgent:
    """Answers as an agent does, and remembers what it was asked."""

    data_dir: Path
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)


class _UnixServer(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = self.socket.accept()
        return connection, ("agent", 0)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    """An agent's socket in a data directory whose path is longer than a socket's name may be."""
    data_dir = tmp_path / ("long" * 30)
    (data_dir / "run").mkdir(parents=True)
    fake = FakeAgent(data_dir)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            fake.asked.append((self.command, self.path, json.loads(body) if body else None))
            status, answer = fake.answers.get(self.path.partition("?")[0], (404, {"error": "no such thing", "hint": "look"}))
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - http.server calls them by these names

        def log_message(self, *_: object) -> None:
            pass

    folder = os.open(data_dir / "run", os.O_RDONLY)
    server = _UnixServer(f"/proc/self/fd/{folder}/agent.sock", Handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()
    os.close(folder)


MEMBERS: Final = [
    {"id": "n1", "name": "a", "address": "127.0.0.1:1", "cluster_address": "127.0.0.1:2", "state": "self"},
    {"id": "n2", "name": "b", "state": "behind", "lag_changes": 3, "lag_bytes": 912_345_678, "lag_s": 1.25, "address": None}
    | {"received_bytes_per_s": 0, "sent_bytes_per_s": 2500},
]


class TestCluster:
    def run(self, agent: FakeAgent, *arguments: str) -> subprocess.CompletedProcess[str]:
        return twinhull("cluster", *arguments, "--data-dir", str(agent.data_dir))

    def test_token_is_the_last_word(self, agent: FakeAgent) -> None:
        agent.answers["/invite"] = (200, {"token": "tw1.abc", "expires_unix_ms": 1})
        ran = self.run(agent, "invite")
        assert ran.returncode == 0
        assert ran.stdout.split()[-1] == "tw1.abc"

    def test_status_is_a_table_or_one_json_document(self, agent: FakeAgent) -> None:
        status = {"node": MEMBERS[0], "members": MEMBERS, "log_position": 42, "durability": "metadata", "conflicts": 0}
        status["alarms"] = [{"name": "peer-down", "peer": "c", "message": "c does not answer"}]
        agent.answers["/status"] = (200, status)
        shown = self.run(agent, "status").stdout
        assert "this node: a (n1), log position 42" in shown
        row = next(line for line in shown.splitlines() if line.split()[:1] == ["b"])
        assert row.split() == ["b", "behind", "3", "912.3", "MB", "1.2", "-", "-"]
        assert shown.splitlines()[-2:] == ["b: 0 B/s of blobs in, 2.5 kB/s out", "peer-down: c does not answer"]
        assert json.loads(self.run(agent, "status", "--json").stdout) == status

    def test_conflicts_are_listed_with_what_was_written_and_what_holds(self, agent: FakeAgent) -> None:
        written = [{"value": 3, "written_at": "t1", "node": "n1"}, {"value": 1, "written_at": "t2", "node": "n2"}]
        conflict = {"id": "8f", "kind": "member", "key": "p/u/bob", "field": "role", "recorded_at": "t3", "candidates": written}
        agent.answers["/conflicts"] = (200, {"conflicts": [{**conflict, "winner": 3}], "total": 1})
        lines = [
            "8f  t3  member p/u/bob: role",
            "    t1  n1: 3",
            "    t2  n2: 1",
            "    holds: 3",
            "1 conflicts nobody has seen to",
        ]
        assert self.run(agent, "conflicts").stdout.splitlines() == lines
        assert json.loads(self.run(agent, "conflicts", "--json").stdout)["total"] == 1

    def test_verify_fails_when_something_differs(self, agent: FakeAgent) -> None:
        agent.answers["/verify"] = (200, {"equal": True, "peers": [{"name": "b", "equal": True}]})
        ran = self.run(agent, "verify")
        assert (ran.returncode, ran.stdout) == (0, "b: equal\nequal\n")
        differing = [{"kind": "tag", "count": 3, "keys": ["x:1", "x:2", "x:3"], "only_here": ["x:1"], "only_there": ["x:2"]}]
        agent.answers["/verify"] = (200, {"equal": False, "peers": [{"name": "b", "equal": False, "differing": differing}]})
        ran = self.run(agent, "verify")
        lines = ["b: differs", "  tag: 3 differ", "    x:1: b lacks it", "    x:2: this node lacks it", "    x:3: not alike"]
        assert (ran.returncode, ran.stdout.splitlines()) == (1, [*lines, "not equal"])
        assert self.run(agent, "verify", "--json").returncode == 1
        faults = [{"what": "rows", "kind": "user", "key": "alice", "mended": True}]
        agent.answers["/verify"] = (
            200,
            {"equal": True, "faults": faults, "peers": [{"name": "b", "equal": True, "mended": 2}]},
        )
        ran = self.run(agent, "verify", "--repair")
        assert (ran.returncode, ran.stdout.splitlines()[0]) == (
            0,
            "  this node: query tables tell something else of user alice: mended",
        )
        assert "records mended on either side: 2" in ran.stdout
        assert agent.asked[-1] == ("POST", "/verify", {"deep": False, "repair": True})

    def test_wait_passes_its_limit_on(self, agent: FakeAgent) -> None:
        agent.answers["/wait"] = (200, {"in_sync": True})
        ran = self.run(agent, "wait", "--timeout", "7")
        assert (ran.returncode, ran.stdout) == (0, "in sync\n")
        assert agent.asked == [("GET", "/wait?timeout_s=7.0", None)]
        agent.answers["/wait"] = (200, {"in_sync": False, "peers": MEMBERS[1:]})
        ran = self.run(agent, "wait", "--timeout", "7")
        assert ran.returncode == 1
        assert ran.stdout.startswith("not in sync after 7 s\n")

    def test_peers_are_paused_resumed_and_removed_by_name(self, agent: FakeAgent) -> None:
        for path in ("/pause", "/resume"):
            agent.answers[path] = (200, {"peers": ["b"]})
        agent.answers["/remove"] = (200, {"node": "b"})
        agent.answers["/leave"] = (200, {})
        assert self.run(agent, "pause", "b").stdout == "paused: b\n"
        assert self.run(agent, "resume").stdout == "resumed: b\n"
        assert self.run(agent, "remove", "b").stdout == "removed b\n"
        assert self.run(agent, "leave").returncode == 0
        assert agent.asked == [
            ("POST", "/pause", {"peer": "b"}),
            ("POST", "/resume", {"peer": None}),
            ("POST", "/remove", {"node": "b"}),
            ("POST", "/leave", {}),
        ]

    def test_agents_refusal_is_passed_on_with_its_hint(self, agent: FakeAgent) -> None:
        ran = self.run(agent, "remove", "nobody")
        assert (ran.returncode, ran.stderr) == (1, "error: no such thing\n  look\n")
