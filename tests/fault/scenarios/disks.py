"""Disks that are full, and disks that hold what was there some time ago."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.fault.scenarios.registry import scenario
from tests.support.real_node import RealNode
from tests.support.site import Act

_SMALL_DISK_MB = 128
_SOCKETS = shutil.ignore_patterns("*.sock")


def _on_small_disk(act: Act, node: RealNode) -> None:
    """Let the node, which goes on with what it has, live on a small disk until the scenario is over."""
    node.stop()
    kept = node.directory / "kept"
    node.data_dir.rename(kept)
    node.data_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK_MB}m", "tmpfs", node.data_dir], check=True)

    def leave() -> None:
        node.kill()
        subprocess.run(["umount", "--lazy", node.data_dir], check=True)

    act.afterwards(leave)
    shutil.copytree(kept, node.data_dir, symlinks=True, dirs_exist_ok=True, ignore=_SOCKETS)
    node.start()


def _fill(directory: Path) -> Path:
    """Take up all of the disk, and return the file that does."""
    ballast = directory / "ballast"
    state = os.statvfs(directory)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize))
    return ballast


@scenario("disk-full", spoils=True)
def disk_full(act: Act) -> None:
    """One office's disk is full: it takes nothing, the others go on, and with the room everything comes."""
    _on_small_disk(act, act.node("b"))
    with act.clients():
        act.go_on(1)
        act.disturb_node("b")
        ballast = _fill(act.node("b").data_dir)
        act.did("fill the disk of b")
        act.go_on(6)
        ballast.unlink()
        act.go_on(1)
    act.heal()


@scenario("disk-full-and-killed", spoils=True)
def disk_full_and_killed(act: Act) -> None:
    """A node with a full disk is killed, and has to start without room."""
    _on_small_disk(act, act.node("b"))
    with act.clients():
        act.go_on(1)
        act.disturb_node("b")
        ballast = _fill(act.node("b").data_dir)
        act.did("fill the disk of b")
        act.go_on(2)
        act.kill("b")
        act.node("b").start(wait=False)
        act.go_on(4)
        ballast.unlink()
    act.heal()


@scenario("database-of-an-hour-ago", spoils=True)
def database_of_an_hour_ago(act: Act) -> None:
    """A node's whole data directory is put back to what it was some time and many writes ago."""
    node = act.node("b")
    node.stop()
    old = node.directory / "old"
    shutil.copytree(node.data_dir, old, symlinks=True, ignore=_SOCKETS)
    node.start()
    with act.clients():
        act.go_on(5)
    act.heal()
    act.kill("b")
    shutil.rmtree(node.data_dir)
    old.rename(node.data_dir)
    act.did("put back what b had before all that")
    node.start()
    with act.clients():
        act.go_on(3)
    act.heal()


@scenario("database-file-of-an-hour-ago", spoils=True)
def database_file_of_an_hour_ago(act: Act) -> None:
    """Only a node's database is put back, under blobs that are newer than it, while the other offices are away."""
    node = act.node("b")
    node.stop()
    database = node.data_dir / "metadata.db"
    old = database.read_bytes()
    node.start()
    with act.clients():
        act.go_on(5)
    act.heal()
    act.part("b", "ac")
    act.kill("b")
    for leftover in node.data_dir.glob("metadata.db-*"):
        leftover.unlink()
    database.write_bytes(old)
    act.did("put back the database that b had before all that")
    act.forgets("b")
    node.start()
    with act.clients():
        act.go_on(3)
    act.heal()
