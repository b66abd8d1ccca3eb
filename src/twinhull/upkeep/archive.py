"""What a backup is: a tar whose members stand in this order, written and read as a stream.

| member | what |
| --- | --- |
| `twinhull-backup.json` | `Header`: whose backup it is, and of which form |
| `metadata/00000000.msgpack`, … | pages of rows (metadata/dump.py) |
| `node/…` | the node's keys and certificates |
| `blobs/<algorithm>/<hex>`, … | the bytes of the blobs that the metadata name, as far as they were here |
| `checksums.json` | `Trailer`: SHA-256 of every member but the blobs, whose names are their digests; and how many there are |
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import BinaryIO, Final, Self, cast

import msgspec

from twinhull.kit.errors import Invalid

FORM: Final = 1
HEADER: Final = "twinhull-backup.json"
TRAILER: Final = "checksums.json"
METADATA: Final = "metadata/"
KEYS: Final = "node/"
BLOBS: Final = "blobs/"
# Only blobs are bigger; what is bigger must not fill the memory.
_SMALL_BYTES_MAX: Final = 64 << 20


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Whose backup it is."""

    form: int
    cluster: str
    node: str
    name: str
    created_ms: int
    # Of the tables that the rows are from.
    revision: str


class Trailer(msgspec.Struct, frozen=True, kw_only=True):
    """What the backup has if it is whole."""

    checksums: dict[str, str]
    blobs: int
    blob_bytes: int
    # Blobs that had not arrived here yet, and those whose bytes were not those of their digest: peers have them.
    missing: int
    rotten: list[str]


class _Outlet:
    """A sink that can be left: a tar that is given up writes its end all the same when it is forgotten."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink: BinaryIO | None = sink

    def write(self, content: bytes) -> int:
        """Pass the bytes on, or drop them."""
        return len(content) if self._sink is None else self._sink.write(content)

    def leave(self) -> None:
        """Pass nothing on any more."""
        self._sink = None


class ArchiveWriter:
    """Writes members one after the other, within a `with` block that ends after `finish`."""

    def __init__(self, sink: BinaryIO) -> None:
        """Take where the bytes go; it is written to and never sought in."""
        self._outlet = _Outlet(sink)
        sink_of_tar = cast("BinaryIO", self._outlet)
        self._tar = tarfile.open(fileobj=sink_of_tar, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see `finish`
        self.checksums: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Write nothing more, whatever happened."""
        self._outlet.leave()

    def add(self, name: str, content: bytes) -> None:
        """Write a member whose checksum the trailer will have."""
        self.checksums[name] = hashlib.sha256(content).hexdigest()
        self.add_stream(name, len(content), io.BytesIO(content))

    def add_stream(self, name: str, size: int, content: BinaryIO) -> None:
        """Write a member of so many bytes."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        self._tar.addfile(member, content)

    def finish(self, trailer: Trailer) -> None:
        """Write the trailer, and the end of the tar."""
        content = msgspec.json.encode(trailer)
        self.add_stream(TRAILER, len(content), io.BytesIO(content))
        self._tar.close()


class ArchiveReader:
    """Reads members in their order."""

    def __init__(self, source: BinaryIO) -> None:
        """Take where the bytes come from, and read the header; raises Invalid if that is no backup, or of a newer form."""
        try:
            self._tar = tarfile.open(fileobj=source, mode="r|")  # noqa: SIM115 - nothing to close but the source
            first = self._tar.next()
            content = self._small(first) if first is not None and first.name == HEADER else b""
            self.header = msgspec.json.decode(content, type=Header)
        except (tarfile.TarError, msgspec.MsgspecError, EOFError) as error:
            raise Invalid("this is no backup of Twinhull", hint="name a file that `twinhull backup` wrote") from error
        if self.header.form != FORM:
            raise Invalid(f"the backup is of form {self.header.form}, which this release does not know", hint="use a newer one")
        self.checksums = {HEADER: hashlib.sha256(content).hexdigest()}

    def next(self) -> tuple[str, BinaryIO | bytes]:
        """Return the next member: a blob's name and stream, or the name and content of anything else.

        Raises Invalid where the file ends too early, TarError where it is no tar.
        """
        member = self._tar.next()
        if member is None:
            raise Invalid("the backup ends too early", hint="it was not written to its end; use another one")
        if not member.isreg():
            raise Invalid(f"the backup has a member {member.name[:100]!r} that is no file")
        if member.name.startswith(BLOBS):
            stream = self._tar.extractfile(member)
            assert stream is not None
            return member.name, stream  # type: ignore[return-value]  # a reader of a regular file
        content = self._small(member)
        self.checksums[member.name] = hashlib.sha256(content).hexdigest()
        return member.name, content

    def _small(self, member: tarfile.TarInfo) -> bytes:
        if member.size > _SMALL_BYTES_MAX:
            raise Invalid(f"the backup has a member {member.name[:100]!r} that is too big")
        stream = self._tar.extractfile(member)
        content = stream.read() if stream is not None else b""
        if len(content) != member.size:
            raise Invalid("the backup ends too early", hint="it was not written to its end; use another one")
        return content
