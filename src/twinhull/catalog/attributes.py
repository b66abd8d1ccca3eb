"""Attributes of artifacts whose configuration was not here yet when they were pushed: read when somebody wants to see them.

The blobs of one push may have been sent to different nodes, so the node that took the manifest may lack the configuration.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from twinhull.catalog.additions import Additions
from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.describing import CONFIG_BYTES_MAX, UNKNOWN, describe
from twinhull.catalog.media import INDEX_TYPES, parse_manifest
from twinhull.kit.digest import Digest
from twinhull.kit.errors import TwinhullError
from twinhull.metadata.artifacts import Artifact

REMEMBERED_MAX: Final = 2000
_AT_ONCE: Final = 8


class Attributes:
    """Reads what is not in the records."""

    def __init__(self, *, artifacts: Artifacts, additions: Additions) -> None:
        """Take what knows manifests, and what reads blobs."""
        self._artifacts = artifacts
        self._additions = additions
        self._remembered: OrderedDict[str, str] = OrderedDict()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def missing(self, found: Sequence[Artifact]) -> dict[str, str]:
        """Return the attributes, JSON objects by digest, of those artifacts whose record has none and that have some.

        What can't be read now is left out; does not raise.
        """
        wanted = [artifact for artifact in found if _may_have_some(artifact)]
        texts = await asyncio.gather(*(self._of(artifact) for artifact in wanted))
        return {artifact.digest: text for artifact, text in zip(wanted, texts, strict=True) if text}

    async def _of(self, artifact: Artifact) -> str:
        known = self._remembered.get(artifact.digest)
        if known is not None:
            self._remembered.move_to_end(artifact.digest)
            return known
        try:
            async with self._slots:
                text = await self._read(artifact)
        except TwinhullError:
            return ""
        self._remembered[artifact.digest] = text
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return text

    async def _read(self, artifact: Artifact) -> str:
        stored = await self._artifacts.pull(artifact.repository, Digest(artifact.digest))
        parsed = parse_manifest(stored.content, stored.media_type)
        if parsed.config is None or parsed.config.size > CONFIG_BYTES_MAX:
            return ""
        config = await self._additions.read(artifact.repository, parsed.config, CONFIG_BYTES_MAX)
        return describe(parsed, config).attributes


def _may_have_some(artifact: Artifact) -> bool:
    return not artifact.attributes and artifact.type != UNKNOWN and artifact.media_type not in INDEX_TYPES
