"""A master behind the entrance dies: clients that came through the entrance hardly notice."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from functools import partial
from pathlib import Path

from tests.support.images import image
from tests.support.nodes import eventually, new_name
from tests.support.pushes import check_pull, push
from tests.support.registry_client import RegistryClient, Repository
from tests.support.twins import Registry, running_twins

SETTLED_PULLS = 50


def repository(registry: Registry, name: str) -> Repository:
    """Return a repository as this address shows it."""
    client = RegistryClient(addresses=[registry.address], user=registry.user, password=registry.password)
    return Repository(client=client, name=name)


def processes_of(data_dir: Path) -> list[int]:
    """Return the processes that were started for this data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(data_dir).encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def taken_out(log: Path) -> int:
    """Return how often the entrance took a node out."""
    return log.read_text(encoding="utf-8").count("node taken out")


def put_back(log: Path) -> int:
    """Return how often the entrance put a node back."""
    return log.read_text(encoding="utf-8").count("node put back")


def test_pulls_and_pushes_through_the_entrance_go_on_when_a_master_is_killed(tmp_path: Path) -> None:
    with running_twins(tmp_path) as twins:
        name, content = new_name(), image("entrance")
        push(repository(twins.entrance, name), content, "v1")
        failures: list[object] = []
        pulled = 0
        done = threading.Event()

        def pull_on() -> None:
            nonlocal pulled
            puller = repository(twins.entrance, name)
            while not done.is_set():
                try:
                    check_pull(puller, content, "v1")
                    pulled += 1
                except (OSError, AssertionError) as error:
                    failures.append(error)

        pulling = threading.Thread(target=pull_on)
        pulling.start()
        try:
            # The entrance has found both: each answers some of the pulls.
            logs = [tmp_path / "data" / "logs" / f"{node}.log" for node in ("a", "b")]
            path = f"/v2/{name}/manifests/v1"
            eventually(lambda: all(path in log.read_text(encoding="utf-8") for log in logs), what="pulls from both")
            # It took out the one that was still joining, and has it back for good once new pulls have gone through.
            entrance = tmp_path / "data" / "logs" / "gateway.log"
            eventually(lambda: taken_out(entrance) == put_back(entrance), what="both are in")
            # nginx's old workers go on for a moment after a reload, and know but one node.
            settled = [log.read_text(encoding="utf-8").count(path) for log in logs]
            eventually(
                lambda: all(
                    log.read_text(encoding="utf-8").count(path) > before + SETTLED_PULLS
                    for log, before in zip(logs, settled, strict=True)
                ),
                what="pulls from both by the new configuration",
            )
            victims = processes_of(tmp_path / "data" / "a")
            assert victims
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            before = pulled
            eventually(lambda: pulled > before + 10, what="pulls go on")
            later = []
            for number in range(3):
                # As docker does, a client tries once more what a dying node cut short.
                other_name, other = new_name(), image(f"entrance {number}")
                eventually(partial(push, repository(twins.entrance, other_name), other, "v1"), what="push")
                later.append((other_name, other))
            eventually(lambda: repository(twins.a, name).get("manifests/v1").status == 200, what="the dead one is back")
            for other_name, other in later:
                check_pull(repository(twins.a, other_name), other, "v1")
        finally:
            done.set()
            pulling.join(60)
        # A pull that was being sent by the dying node is cut; every new one is answered.
        assert len(failures) <= 3, failures
