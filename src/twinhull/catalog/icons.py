"""Icons of artifacts: a drawn one for each type, and those that people push with their own types of artifacts."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Final

from twinhull.catalog.contents import Contents
from twinhull.catalog.describing import CHART, CNAB, COSIGN, IMAGE, NYDUS, WASM
from twinhull.kit.digest import parse_digest
from twinhull.kit.errors import BlobUnknown, DigestInvalid, NotFound, Unsupported
from twinhull.metadata.artifacts import repositories_with_icon
from twinhull.metadata.store import Store

ICON_BYTES_MAX: Final = 1024 * 1024
_SIDE: Final = 36
# By type of artifact or of what belongs to one, the last for all others: under which digest Harbor's clients ask for the
# picture, and the hue in which it is drawn here.
_DRAWN: Final[Mapping[str, tuple[str, tuple[int, int, int]]]] = {
    IMAGE: ("sha256:0048162a053eef4d4ce3fe7518615bef084403614f8bca43b40ae2e762e11e06", (0, 121, 184)),
    CHART: ("sha256:61cf3a178ff0f75bf08a25d96b75cf7355dc197749a9f128ed3ef34b0df05518", (15, 22, 137)),
    CNAB: ("sha256:089bdda265c14d8686111402c8ad629e8177a1ceb7dcd0f7f39b6480f623b3bd", (96, 60, 160)),
    WASM: ("sha256:badd7693bcaf115be202748241dd0ea6ee3b0524bfab9ac22d1e1c43721afec6", (101, 79, 240)),
    COSIGN: ("sha256:20401d5b3a0f6dbc607c8d732eb08471af4ae6b19811a4efce8c6a724aed2882", (40, 140, 90)),
    NYDUS: ("sha256:dfcb6617cd9c144358dc1b305b87bbe34f0b619f1e329116e6aee2e41f2e34cf", (200, 120, 30)),
    "": ("sha256:da834479c923584f4cbcdecc0dac61f32bef1d51e8aae598cf16bd154efab49f", (110, 110, 110)),
}
ICONS: Final[Mapping[str, str]] = {kind: digest for kind, (digest, _) in _DRAWN.items()}
_HUES: Final[Mapping[str, tuple[int, int, int]]] = dict(_DRAWN.values())
_SIGNATURES: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Icon:
    """A picture."""

    content: bytes
    content_type: str


class Icons:
    """Finds icons."""

    def __init__(self, *, store: Store, executor: Executor, contents: Contents) -> None:
        """Take the metadata, threads to read it in, and what reads blobs."""
        self._store = store
        self._executor = executor
        self._contents = contents

    async def icon(self, digest: str, visible: frozenset[str] | None) -> Icon:
        """Return the icon of that digest, if it is drawn here or an artifact in one of these projects has it, or NotFound."""
        hue = _HUES.get(digest)
        if hue is not None:
            return Icon(content=draw(hue), content_type="image/png")
        missing = NotFound(f"the icon {digest[:100]} not found")
        try:
            wanted = parse_digest(digest)
        except (DigestInvalid, Unsupported):
            raise missing from None

        def is_somewhere() -> bool:
            with self._store.read() as connection:
                return bool(repositories_with_icon(connection, wanted, in_projects=visible))

        if not await asyncio.get_running_loop().run_in_executor(self._executor, is_somewhere):
            raise missing
        try:
            content = await self._contents.read(wanted, 0, ICON_BYTES_MAX)
        except BlobUnknown:
            raise missing from None
        kind = next((kind for signature, kind in _SIGNATURES if content.startswith(signature)), None)
        if kind is None:
            raise missing
        return Icon(content=content, content_type=kind)


@cache
def draw(hue: tuple[int, int, int]) -> bytes:
    """Return a small picture in this colour, a stack of three layers, as PNG."""
    rows = b"".join(b"\0" + b"".join(_pixel(x, y, hue) for x in range(_SIDE)) for y in range(_SIDE))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 6, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _pixel(x: int, y: int, hue: tuple[int, int, int]) -> bytes:
    half = _SIDE // 2
    for layer, top in enumerate((8, 15, 22)):
        if abs(x - half) * 2 + abs(y - top) * 4 <= 30:
            return bytes((*hue, 255 - 50 * layer))
    return b"\0\0\0\0"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
