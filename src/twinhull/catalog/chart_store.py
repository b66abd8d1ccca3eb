"""Helm charts by name and version, as ChartMuseum's clients know them; what is stored are the same OCI artifacts.

A chart `app` of version 1.0.0+b in the project `team` is the artifact `team/app:1.0.0_b`, as `helm push` makes it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from twinhull.blobs.store import BlobStore
from twinhull.catalog.additions import Additions
from twinhull.catalog.charts import (
    CHART_BYTES_MAX,
    Json,
    dependencies_of,
    file_name_of,
    metadata_of,
    tag_of_version,
    unpack_chart,
    values_of,
)
from twinhull.catalog.contents import Contents
from twinhull.catalog.describing import CHART, CHART_CONFIG
from twinhull.catalog.media import OCI_IMAGE, Descriptor, parse_manifest
from twinhull.catalog.peers import Peers
from twinhull.catalog.pushing import Push, Pushed, Pushing
from twinhull.catalog.repositories import Repositories
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import Invalid, ManifestUnknown, NotFound
from twinhull.kit.reference import parse_repository, parse_tag
from twinhull.metadata.artifact_parts import Tag, contents_of, tags_of_artifacts
from twinhull.metadata.artifacts import Artifact, Key, decoded, list_artifacts
from twinhull.metadata.filtering import Exact, Slice, Wanted
from twinhull.metadata.store import Store

CHART_LAYER: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROVENANCE_LAYER: Final = "application/vnd.cncf.helm.chart.provenance.v1.prov"
PROVENANCE_BYTES_MAX: Final = 1024 * 1024
# An index names no more than so many versions; helm reads it whole.
VERSIONS_MAX: Final = 20_000
_AT_ONCE: Final = 500
_SIGNED: Final = re.compile(rb"^(name|version): *['\"]?([^'\"\r\n]+?)['\"]? *$", re.MULTILINE)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartVersion:
    """A version of a chart that is stored."""

    artifact: Artifact
    # What its Chart.yaml says.
    metadata: Mapping[str, Any]
    archive: Descriptor
    provenance: Descriptor | None
    tag: str

    @property
    def name(self) -> str:
        """The chart's name."""
        return str(self.metadata["name"])

    @property
    def version(self) -> str:
        """The version."""
        return str(self.metadata["version"])

    @property
    def path(self) -> str:
        """Where the archive is, relative to the project's index: below its folder when the repository is not called as it."""
        folder = self.artifact.repository.partition("/")[2]
        return "/".join(([] if folder == self.name else [folder]) + [file_name_of(self.metadata)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What is in a chart's archive: the files at its top by name, what it needs, and its values by their paths."""

    files: Mapping[str, bytes]
    dependencies: Sequence[Json]
    values: Json


class ChartStore:
    """The charts of projects."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: BlobStore,
        executor: Executor,
        peers: Peers,
        contents: Contents,
        pushing: Pushing,
        repositories: Repositories,
        additions: Additions,
    ) -> None:
        """Take the metadata and the bytes, threads to work in, and what pushes, deletes and reads artifacts."""
        self._store = store
        self._blobs = blobs
        self._executor = executor
        self._peers = peers
        self._contents = contents
        self._pushing = pushing
        self._repositories = repositories
        self._additions = additions

    # -- reading ---------------------------------------------------------------------------------------------------

    async def versions(self, project: str, name: str = "") -> list[ChartVersion]:
        """Return the charts of a project, or all versions of one, newest first."""
        await self._peers.settle()

        def read() -> list[ChartVersion]:
            with self._store.read() as connection:
                return list(_versions(connection, project, name))

        return await self._run(read)

    async def version(self, project: str, name: str, version: str) -> ChartVersion:
        """Return one version of a chart, or raise NotFound."""
        found = next((each for each in await self.versions(project, name) if each.version == version), None)
        if found is None:
            raise NotFound(f"chart {name}-{version} not found")
        return found

    async def file(self, project: str, path: str) -> tuple[ChartVersion, bytes]:
        """Return a version with its archive, or with `.prov` behind the path its provenance, or raise NotFound."""
        wanted = path.removesuffix(".prov")
        found = next((each for each in await self.versions(project) if each.path == wanted), None)
        if found is None:
            raise NotFound(f"chart file {path[:200]} not found")
        descriptor = found.provenance if path.endswith(".prov") else found.archive
        if descriptor is None:
            raise NotFound(f"chart file {path[:200]} not found")
        return found, await self._additions.read(found.artifact.repository, descriptor, CHART_BYTES_MAX)

    async def unpacked(self, found: ChartVersion) -> Unpacked:
        """Return what is in a chart, or raise Invalid or TooLarge where somebody pushed what is none."""
        archive = await self._additions.read(found.artifact.repository, found.archive, CHART_BYTES_MAX)

        def unpack() -> Unpacked:
            files = unpack_chart(archive)
            return Unpacked(files=files, dependencies=dependencies_of(files), values=values_of(files))

        return await self._run(unpack)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def upload(self, project: str, archive: bytes, provenance: bytes | None, *, pushed_by: str) -> Pushed:
        """Store a packaged chart; a version that is there already is replaced, as in Harbor.

        Raises Invalid or TooLarge for what is no chart, ProjectUnknown, and what a push raises.
        """
        metadata = await self._run(lambda: metadata_of(unpack_chart(archive)))
        repository = parse_repository(f"{project}/{metadata['name']}")
        layers = [(CHART_LAYER, archive), *([(PROVENANCE_LAYER, provenance)] if provenance is not None else [])]
        return await self._push(repository, metadata, layers, pushed_by=pushed_by)

    async def sign(self, project: str, provenance: bytes, *, pushed_by: str) -> Pushed:
        """Put a provenance file beside the version of the chart that it is about; raises Invalid or NotFound."""
        said = {name.decode(): value.decode("utf-8", "replace") for name, value in _SIGNED.findall(provenance)}
        if len(provenance) > PROVENANCE_BYTES_MAX or not {"name", "version"} <= said.keys():
            raise Invalid("the file is not the provenance of a chart")
        found = await self.version(project, said["name"], said["version"])
        archive = await self._additions.read(found.artifact.repository, found.archive, CHART_BYTES_MAX)
        layers = [(CHART_LAYER, archive), (PROVENANCE_LAYER, provenance)]
        pushed = await self._push(found.artifact.repository, found.metadata, layers, pushed_by=pushed_by)
        if pushed.digest != found.artifact.digest:
            await self._forget_unsigned(found)
        return pushed

    async def delete(self, found: Sequence[ChartVersion]) -> int:
        """Delete versions of charts, and return the last change number; raises TagImmutable."""
        seq = 0
        for each in found:
            seq = await self._repositories.delete_artifact(each.artifact.repository, each.artifact.digest, chart=each.version)
        return seq

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _push(
        self, repository: str, metadata: Mapping[str, Any], layers: Sequence[tuple[str, bytes]], *, pushed_by: str
    ) -> Pushed:
        tag = parse_tag(tag_of_version(str(metadata["version"])))
        parts = [(CHART_CONFIG, json.dumps(metadata).encode()), *layers]
        described = await self._run(lambda: [self._store_blob(repository, *part) for part in parts])
        manifest = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": described[0], "layers": described[1:]}
        content = json.dumps(manifest).encode()
        return await self._pushing.push(
            Push(
                repository=repository,
                reference=tag,
                content=content,
                content_type=OCI_IMAGE,
                pushed_by=pushed_by,
                chart=str(metadata["version"]),
            )
        )

    def _store_blob(self, repository: str, media_type: str, content: bytes) -> dict[str, object]:
        digest = digest_of(content)
        self._contents.check_project_now(repository)
        self._blobs.put(digest, content)
        self._contents.link_now(repository, digest, len(content))
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    async def _forget_unsigned(self, before: ChartVersion) -> None:
        """Delete what a chart was before it was signed, unless another tag names it still."""
        artifact = before.artifact

        def is_named() -> bool:
            with self._store.read() as connection:
                return bool(tags_of_artifacts(connection, [artifact.key]))

        if not await self._run(is_named):
            try:
                await self._repositories.delete_artifact(artifact.repository, artifact.digest)
            except ManifestUnknown:
                return

    async def _run(self, action: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, action)


def _versions(connection: Connection, project: str, name: str) -> Iterator[ChartVersion]:
    wanted = Wanted(conditions={"type": Exact(CHART), "tags": Exact("*")})
    found, _ = list_artifacts(connection, project=project, wanted=wanted, part=Slice(limit=VERSIONS_MAX))
    tags: dict[Key, list[Tag]] = {}
    contents: dict[str, bytes] = {}
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        tags |= tags_of_artifacts(connection, [artifact.key for artifact in some])
        contents |= contents_of(connection, [artifact.digest for artifact in some])
    seen: set[tuple[str, str]] = set()
    for artifact in found:
        metadata = _metadata(artifact, tags.get(artifact.key, []))
        layers = parse_manifest(contents[artifact.digest], artifact.media_type).layers
        archive = next((layer for layer in layers if layer.media_type == CHART_LAYER), None)
        names = str(metadata.get("name")), str(metadata.get("version"))
        if archive is None or names in seen or (name and names[0] != name):
            continue
        seen.add(names)
        provenance = next((layer for layer in layers if layer.media_type == PROVENANCE_LAYER), None)
        tag = tags[artifact.key][0].name
        yield ChartVersion(artifact=artifact, metadata=metadata, archive=archive, provenance=provenance, tag=tag)


def _metadata(artifact: Artifact, tags: Sequence[Tag]) -> dict[str, Any]:
    """Return what the chart says of itself; where this node has not read it yet, what repository and tag say."""
    known = decoded(artifact.attributes)
    if isinstance(known.get("name"), str) and isinstance(known.get("version"), str):
        return known
    version = tags[0].name.replace("_", "+") if tags else ""
    return {"apiVersion": "v2", "name": artifact.repository.rpartition("/")[2], "version": version}
