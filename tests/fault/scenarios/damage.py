"""Files and rows that are changed behind a node's back: found, never passed on, and put right from a peer."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.fault.scenarios.registry import scenario
from tests.support.images import Image
from tests.support.pushes import check_pull
from tests.support.real_node import RealNode
from tests.support.single import twinhull
from tests.support.site import Act

_IMAGES: Final = 8
_LIMIT_S: Final = 60


def _pushed(act: Act) -> dict[str, Image]:
    """Return images that all nodes have, bytes included."""
    images = {}
    for number in range(_IMAGES):
        content = act.office.push(act.nodes[number % len(act.nodes)], f"v{number}", act.office.new_image(20_000))
        if content is None:
            content = act.office.push(act.node("a"), f"v{number}")
        assert content is not None
        images[f"v{number}"] = content
    act.heal()
    return images


def _command(node: RealNode, *words: str) -> str:
    command = [str(twinhull()), *words, "--data-dir", str(node.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def _damage_blobs(act: Act, names: str, images: dict[str, Image], damage: Callable[[Path], None], how: str) -> None:
    for name in names:
        for content in images.values():
            damage(act.node(name).blob_path(content.blobs[1].digest))
    act.did(f"{how} {len(images)} blobs on {' and '.join(names)}")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    # The file that is there, as a disk rots, and not another one in its place.
    with path.open("r+b") as file:
        file.write(content)


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@scenario("blobs-flipped")
def blobs_flipped(act: Act) -> None:
    """A byte of each of several blobs is flipped on one node: a scrub finds them, and peers have the good ones."""
    images = _pushed(act)
    _damage_blobs(act, "b", images, _flip, "flip a byte of")
    act.did(_command(act.node("b"), "scrub", "--pace", "0").splitlines()[0])
    for tag, content in images.items():
        check_pull(act.node("b").repository(act.office.repository), content, tag)
    act.heal()


@scenario("blobs-flipped-on-two-of-three")
def blobs_flipped_on_two_of_three(act: Act) -> None:
    """The same blobs rot on two nodes at once: both take them from the third, and neither from the other."""
    images = _pushed(act)
    _damage_blobs(act, "bc", images, _flip, "flip a byte of")
    for name in "bc":
        act.did(_command(act.node(name), "scrub", "--pace", "0").splitlines()[0])
    act.heal()


@scenario("blobs-truncated")
def blobs_truncated(act: Act) -> None:
    """Blobs lose half of their bytes on one node, while clients pull: nobody is given half a blob."""
    images = _pushed(act)
    _damage_blobs(act, "b", images, _truncate, "truncate")
    with act.clients():
        for tag, content in images.items():
            check_pull(act.node("b").repository(act.office.repository), content, tag)
        act.did(_command(act.node("b"), "cluster", "verify", "--repair").splitlines()[-1])
    act.heal()


@scenario("blobs-deleted")
def blobs_deleted(act: Act) -> None:
    """Files of blobs are deleted on one node, while clients pull: it serves them all the same, and has them again."""
    images = _pushed(act)
    _damage_blobs(act, "b", images, Path.unlink, "delete")
    with act.clients():
        for tag, content in images.items():
            check_pull(act.node("b").repository(act.office.repository), content, tag)
        act.did(_command(act.node("b"), "cluster", "verify", "--repair").splitlines()[-1])
    act.heal()


def _change_rows(act: Act, name: str, *statements: str) -> None:
    with closing(sqlite3.connect(act.node(name).data_dir / "metadata.db", timeout=30)) as connection, connection:
        for statement in statements:
            changed = connection.execute(statement, {"repository": act.office.repository, "project": act.office.project})
            assert changed.rowcount > 0, statement
            act.did(f"{changed.rowcount} rows at {name}: {statement}")


@scenario("records-changed")
def records_changed(act: Act) -> None:
    """Bytes of records are overwritten in one node's database: they are found, and the good ones come from a peer."""
    _pushed(act)
    _change_rows(act, "b", "UPDATE records SET record = zeroblob(40) WHERE kind = 'tag' AND key LIKE :repository || '%'")
    act.did(_command(act.node("b"), "cluster", "verify", "--repair").splitlines()[-1])
    act.heal()


@scenario("records-deleted")
def records_deleted(act: Act) -> None:
    """Records are deleted from one node's database, with what its queries read: they come back from a peer."""
    _pushed(act)
    _change_rows(
        act,
        "b",
        "DELETE FROM records WHERE kind IN ('tag', 'manifest') AND key LIKE :repository || '%'",
        "DELETE FROM tags WHERE repository = :repository",
    )
    act.did(_command(act.node("b"), "cluster", "verify", "--repair").splitlines()[-1])
    act.heal()


@scenario("right-given-by-hand")
def right_given_by_hand(act: Act) -> None:
    """Somebody makes a guest a project's administrator in one node's tables: it does not last, and reaches nobody."""
    subjects = [act.office.new_user(act.node("a")) for _ in range(3)]
    for subject in subjects:
        assert subject is not None
        assert act.office.weaken(act.node("a"), subject) == "done"
    act.heal()
    _change_rows(act, "b", "UPDATE members SET role = 1 WHERE project = :project AND role = 3")
    act.did(_command(act.node("b"), "cluster", "verify", "--repair").splitlines()[-1])
    act.heal()
