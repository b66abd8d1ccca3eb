"""What can be shown beside an artifact: an image's history, a chart's values, README and dependencies, an SBOM itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.charts import CHART_BYTES_MAX, dependencies_of, unpack_chart
from twinhull.catalog.contents import Contents
from twinhull.catalog.describing import CHART, IMAGE, SBOM
from twinhull.catalog.media import INDEX_TYPES, Descriptor, ParsedManifest, parse_manifest
from twinhull.kit.digest import Digest
from twinhull.kit.errors import Invalid, NotFound, TooLarge

CONFIG_BYTES_MAX: Final = 4 * 1024 * 1024
SBOM_BYTES_MAX: Final = 64 * 1024 * 1024
_JSON: Final = "application/json; charset=utf-8"
_CHART_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "values.yaml": ("values.yaml", "text/plain; charset=utf-8"),
    "readme.md": ("README.md", "text/markdown; charset=utf-8"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What is shown, and what it is."""

    content: bytes
    content_type: str


class Additions:
    """Finds what can be shown beside artifacts in their blobs."""

    def __init__(self, *, artifacts: Artifacts, contents: Contents, executor: Executor) -> None:
        """Take what knows manifests and blobs, and threads to unpack in."""
        self._artifacts = artifacts
        self._contents = contents
        self._executor = executor

    async def addition(self, repository: str, digest: str, kind: str, name: str) -> Addition:
        """Return an addition of an artifact of that type.

        Raises Invalid, in Harbor's words, for one that its type does not have, NotFound when there is no such file in it.
        """
        stored = await self._artifacts.pull(repository, Digest(digest))
        shown = name.upper()
        if stored.media_type in INDEX_TYPES:
            raise Invalid(f"addition {shown} isn't supported")
        parsed = parse_manifest(stored.content, stored.media_type)
        if kind == IMAGE:
            if name != "build_history":
                raise Invalid(f"addition {shown} isn't supported for IMAGE(manifest version 2)")
            return await self._history(repository, parsed)
        if kind == CHART:
            if name != "dependencies" and name not in _CHART_TEXTS:
                raise Invalid(f"addition {shown} isn't supported for CHART")
            return await self._of_chart(repository, parsed, name)
        if kind == SBOM and name == "sbom" and parsed.layers:
            return Addition(content=await self.read(repository, parsed.layers[0], SBOM_BYTES_MAX), content_type=_JSON)
        raise Invalid(f"the processor for artifact {kind} not found, cannot get the addition")

    async def read(self, repository: str, descriptor: Descriptor, bytes_max: int) -> bytes:
        """Return a blob's bytes, from a peer if they are not here; raises BlobUnknown, PeerUnavailable or TooLarge."""
        located = await self._contents.locate(repository, descriptor.digest)
        if located.size > bytes_max:
            raise TooLarge(f"{descriptor.digest} has {located.size} bytes; up to {bytes_max} are looked into")
        if located.source is None:
            return await self._contents.read(descriptor.digest, 0, located.size)
        content = bytearray()
        try:
            while len(content) < located.size:
                content += await located.source.read(len(content), located.size - len(content))
        finally:
            await located.source.close()
        return bytes(content)

    async def _history(self, repository: str, parsed: ParsedManifest) -> Addition:
        assert parsed.config is not None
        content = await self.read(repository, parsed.config, CONFIG_BYTES_MAX)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        history = document.get("history") if isinstance(document, dict) else None
        return Addition(content=json.dumps(history).encode(), content_type=_JSON)

    async def _of_chart(self, repository: str, parsed: ParsedManifest, name: str) -> Addition:
        if not parsed.layers:
            raise NotFound("the chart has no content")
        archive = await self.read(repository, parsed.layers[0], CHART_BYTES_MAX)
        return await asyncio.get_running_loop().run_in_executor(self._executor, _from_chart, archive, name)


def _from_chart(archive: bytes, name: str) -> Addition:
    files = unpack_chart(archive)
    if name == "dependencies":
        return Addition(content=json.dumps(dependencies_of(files)).encode(), content_type=_JSON)
    file, content_type = _CHART_TEXTS[name]
    return Addition(content=files.get(file, b""), content_type=content_type)
