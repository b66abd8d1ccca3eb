"""Runs `twinhull gc` on a node, and plants garbage in nodes without pushing it piece by piece."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.single import twinhull
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import Digest, digest_of
from twinhull.metadata import garbage
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.records.kinds import BLOB, content_key

_LIMIT_S: Final = 120
_LINKS_AT_ONCE: Final = 500


def run_gc(data_dir: Path, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 - whatever JSON is
    """Return what `twinhull gc --json` prints for the node, after checking its exit code."""
    command = [str(twinhull()), "gc", *arguments, "--json", "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
    assert done.returncode == code, done
    return json.loads(done.stdout)


@contextmanager
def opened_store(data_dir: Path) -> Iterator[Store]:
    """Open the metadata of a running node, as one more of its processes does."""
    identity = json.loads((data_dir / "node" / "identity.json").read_bytes())
    database = SqliteDatabase(data_dir / "metadata.db", run_dir=data_dir / "run")
    try:
        yield Store(database, node=identity["node"], slot=identity["slot"], clock=SystemClock())
    finally:
        database.close()


def plant_blobs(data_dirs: Sequence[Path], contents: Sequence[bytes], *, age_s: float) -> list[Digest]:
    """Put files of blobs into the nodes' stores, as old as that."""
    then_s = SystemClock().unix_ms() / 1000 - age_s
    digests = []
    for content in contents:
        digest = digest_of(content)
        algorithm, _, name = digest.partition(":")
        for data_dir in data_dirs:
            path = data_dir / "blobs" / algorithm / name[:2] / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (then_s, then_s))
        digests.append(digest)
    return digests


def plant_links(store: Store, repository: str, digests: Sequence[Digest], *, size: int, age_s: float) -> None:
    """Link blobs that no manifest names, as an upload does that nobody went on with so long ago."""
    linked_ms = store.clock.unix_ms() - int(age_s * 1000)
    for start in range(0, len(digests), _LINKS_AT_ONCE):
        with store.write() as transaction:
            for digest in digests[start : start + _LINKS_AT_ONCE]:
                transaction.create(BLOB, content_key(repository, digest), {"size": size, "linked_ms": linked_ms})


def age_candidates(store: Store, *, age_s: float) -> None:
    """Let the grace of all candidates have begun so long ago."""
    with store.write() as transaction:
        connection = transaction.connection
        garbage.begin_grace(connection, store.clock.unix_ms())
        digests = garbage.candidates_after(connection, "", 1_000_000)
        since_ms = store.clock.unix_ms() - int(age_s * 1000)
        for digest in digests:
            for repository in ("", *(home for _, home in garbage.links_among(connection, [digest]))):
                garbage.begin_grace_again(connection, [(digest, repository)], since_ms)
