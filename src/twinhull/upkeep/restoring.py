"""Makes a node's data anew from a backup: all of it verified and in its place, or nothing of it there."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from twinhull.blobs.disk import sync_directory, translated
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.store import ALGORITHM_LABEL
from twinhull.kit.digest import Digest, algorithm_of, hex_of, new_hash, parse_digest
from twinhull.kit.errors import Conflict, DigestInvalid, Invalid
from twinhull.metadata.database import Database
from twinhull.metadata.dump import Loading, Page
from twinhull.metadata.incarnation import ELSEWHERE, move
from twinhull.upkeep.archive import BLOBS, KEYS, METADATA, TRAILER, ArchiveReader, Header, Trailer

_PIECE_BYTES: Final = 1 << 20
# What is restored lies here until it is whole. Nothing serves from a data directory that has such a folder.
UNFINISHED: Final = ".restoring"
# Moved last: without it no data directory is a node's.
_IDENTITY_FOLDER: Final = "node"
# What may be in an empty data directory: leavings of a restore or a start that came to nothing, and of the file system.
_NO_DATA: Final = frozenset({UNFINISHED, "run", "lost+found"})

# Is told how many bytes of blobs are restored.
Track = Callable[[int], None]


def restore(
    source: BinaryIO, data_dir: Path, open_database: Callable[[Path], Database], track: Track
) -> tuple[Header, Trailer]:
    """Restore the backup into the data directory, and return whose it is and what is in it.

    `open_database` is given the folder in which a database file would lie. Raises Conflict if there is anything in the
    directory or the database, Invalid if the backup is damaged, not whole, or of a newer release.
    """
    with translated(f"make {data_dir}"):
        data_dir.mkdir(parents=True, exist_ok=True)
        if any(path.name not in _NO_DATA for path in data_dir.iterdir()):
            raise Conflict(f"{data_dir} is not empty", hint="restore into an empty one, and name it with --data-dir")
        folder = data_dir / UNFINISHED
        # A restore that was killed has left it.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    try:
        archive = ArchiveReader(source)
        database = open_database(folder)
        try:
            # The rows are committed when all else has been found to be right.
            with database.write() as connection:
                loading = Loading(connection, archive.header.revision)
                trailer = _Reading(archive, _DataDirectory(folder, loading), track).run()
                loading.finish()
                move(connection, archive.header.node, ELSEWHERE)
        finally:
            database.close()
        with translated(f"move what was restored into {data_dir}"):
            shutil.rmtree(folder / "run", ignore_errors=True)
            _move_up(folder, data_dir)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return archive.header, trailer


def check(source: BinaryIO, track: Track) -> tuple[Header, Trailer]:
    """Read the whole backup and return whose it is and what is in it; raises Invalid as `restore` does, and writes nothing."""
    archive = ArchiveReader(source)
    return archive.header, _Reading(archive, _Nowhere(), track).run()


def require_finished(data_dir: Path) -> None:
    """Raise Conflict if a restore into this data directory did not come to its end."""
    if (data_dir / UNFINISHED).exists():
        raise Conflict(f"the restore into {data_dir} was cut off", hint="run `twinhull restore` again")


class _Target(Protocol):
    """Where the members of a backup go."""

    def page(self, page: Page) -> None:
        """Take rows; raises Invalid where they do not belong."""
        ...

    def key(self, name: str, content: bytes) -> None:
        """Take one of the node's keys."""
        ...

    def blob(self, digest: Digest, pieces: Iterator[bytes]) -> None:
        """Take a blob; raises DigestInvalid for other bytes."""
        ...


class _DataDirectory:
    """A data directory that is being made."""

    def __init__(self, folder: Path, loading: Loading) -> None:
        self._keys = folder / _IDENTITY_FOLDER
        self._blobs = FilesystemBlobs(folder)
        self._loading = loading
        self._count = 0

    def page(self, page: Page) -> None:
        """Write the rows."""
        self._loading.add(page)

    def key(self, name: str, content: bytes) -> None:
        """Write the file, for this user alone."""
        with translated(f"restore {KEYS}{name}"):
            self._keys.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(self._keys / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    def blob(self, digest: Digest, pieces: Iterator[bytes]) -> None:
        """Store the blob as an upload is."""
        self._count += 1
        with self._blobs.start_upload(f"restore-{self._count}", {ALGORITHM_LABEL: algorithm_of(digest)}) as upload:
            for piece in pieces:
                upload.append([piece])
            upload.commit(digest)


class _Nowhere:
    """Looks at everything and keeps nothing."""

    def page(self, page: Page) -> None:
        """Let the rows go: they could be read."""

    def key(self, name: str, content: bytes) -> None:
        """Let the key go."""

    def blob(self, digest: Digest, pieces: Iterator[bytes]) -> None:
        """Hash the bytes."""
        state = new_hash(algorithm_of(digest))
        for piece in pieces:
            state.update(piece)
        if state.hexdigest() != hex_of(digest):
            raise DigestInvalid(f"content has digest {state.hexdigest()}, not {digest}")


class _Reading:
    """One reading of a backup from its first member to its last."""

    def __init__(self, archive: ArchiveReader, target: _Target, track: Track) -> None:
        self._archive = archive
        self._target = target
        self._track = track
        self._count = 0
        self._bytes = 0
        self._rotten: set[str] = set()

    def run(self) -> Trailer:
        """Hand all members to the target, and return the trailer once they are found to be those that it says."""
        try:
            while True:
                name, content = self._archive.next()
                if isinstance(content, bytes):
                    if name == TRAILER:
                        return self._checked(content)
                    self._take_small(name, content)
                else:
                    self._take_blob(name, content)
        except (tarfile.TarError, EOFError) as error:
            raise Invalid(f"the backup is damaged or ends too early: {error}", hint="use another backup") from error

    def _take_small(self, name: str, content: bytes) -> None:
        key = name.removeprefix(KEYS)
        if name.startswith(METADATA):
            try:
                page = msgspec.msgpack.decode(content, type=Page)
            except msgspec.MsgspecError as error:
                raise Invalid(f"the backup's {name[:100]} cannot be read", hint="use another backup") from error
            self._target.page(page)
        elif not name.startswith(KEYS) or "/" in key or key in ("", ".", ".."):
            raise Invalid(f"the backup has a member {name[:100]!r} that has no place")
        else:
            self._target.key(key, content)

    def _take_blob(self, name: str, content: BinaryIO) -> None:
        algorithm, _, name_of_bytes = name.removeprefix(BLOBS).partition("/")
        digest = parse_digest(f"{algorithm}:{name_of_bytes}")
        self._count += 1
        try:
            self._target.blob(digest, self._pieces(content))
        except DigestInvalid:
            # Peers have the right bytes, if the backup knew that these are not.
            self._rotten.add(digest)

    def _pieces(self, content: BinaryIO) -> Iterator[bytes]:
        while piece := content.read(_PIECE_BYTES):
            self._bytes += len(piece)
            self._track(self._bytes)
            yield piece

    def _checked(self, content: bytes) -> Trailer:
        try:
            trailer = msgspec.json.decode(content, type=Trailer)
        except msgspec.MsgspecError as error:
            raise Invalid("the backup's checksums cannot be read", hint="use another backup") from error
        found = {name: checksum for name, checksum in self._archive.checksums.items() if name != TRAILER}
        differing = sorted({*trailer.checksums.items()} ^ {*found.items()})
        if differing:
            raise Invalid(f"the backup is damaged: {differing[0][0]} is not as it was written", hint="use another backup")
        if self._rotten - set(trailer.rotten):
            raise Invalid(f"the backup is damaged: blob {min(self._rotten)} has other bytes", hint="use another backup")
        if (self._count, self._bytes) != (trailer.blobs, trailer.blob_bytes):
            raise Invalid(f"the backup has {self._count} blobs, not {trailer.blobs}", hint="use another backup")
        return trailer


def _move_up(folder: Path, data_dir: Path) -> None:
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _IDENTITY_FOLDER):
        path.rename(data_dir / path.name)
        sync_directory(data_dir)
    folder.rmdir()
    sync_directory(data_dir)
