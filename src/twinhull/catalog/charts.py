"""Helm charts: what is in their archives, and what they say of themselves. Pure; no byte comes from or goes anywhere.

Source: Helm's documentation, "Charts": a chart is a gzipped tar of one folder with `Chart.yaml` in it.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from twinhull.kit.errors import Invalid, TooLarge

CHART_BYTES_MAX: Final = 20 * 1024 * 1024
UNPACKED_BYTES_MAX: Final = 100 * 1024 * 1024
FILE_BYTES_MAX: Final = 5 * 1024 * 1024
FILES_MAX: Final = 10_000
# Of one YAML file, with all that its aliases stand for.
VALUES_MAX: Final = 100_000
DEPTH_MAX: Final = 50
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
# SemVer 2, as Helm demands it of a chart's version; a leading "v" is let pass as Helm does.
_VERSION: Final = re.compile(r"v?(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))?(\.(0|[1-9][0-9]*))?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_VERSION_LENGTH_MAX: Final = 128
_WANTED: Final = frozenset({"Chart.yaml", "values.yaml", "README.md", "requirements.yaml"})

Json = dict[str, Any]


def unpack_chart(archive: bytes) -> dict[str, bytes]:
    """Return the files at the chart's top that say something about it, by their names.

    Raises Invalid for what is no chart, TooLarge for one that unfolds beyond all measure.
    """
    try:
        return _unpacked(archive)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise Invalid("the file is not a chart: a gzipped tar is wanted") from error


def _unpacked(archive: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=_Bounded(io.BytesIO(archive)), mode="r|") as tar:
        for number, member in enumerate(tar):
            if number > FILES_MAX:
                raise TooLarge(f"the chart has more than {FILES_MAX} files")
            parts = PurePosixPath(member.name).parts
            # The chart's own folder has any name; those of the charts in it are further down.
            if member.isfile() and len(parts) == 2 and parts[1] in _WANTED:
                if member.size > FILE_BYTES_MAX:
                    raise TooLarge(f"{parts[1]} has {member.size} bytes; up to {FILE_BYTES_MAX} are taken")
                file = tar.extractfile(member)
                found.setdefault(parts[1], file.read() if file is not None else b"")
    if "Chart.yaml" not in found:
        raise Invalid("the file is not a chart: it has no Chart.yaml")
    return found


class _Bounded(io.RawIOBase):
    """Unfolds gzip, and stops where a small archive grows without end."""

    def __init__(self, packed: io.BytesIO) -> None:
        super().__init__()
        self._packed = packed
        self._unfold = zlib.decompressobj(wbits=31)
        self._left = UNPACKED_BYTES_MAX

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        wanted = size if size >= 0 else UNPACKED_BYTES_MAX
        content = bytearray()
        while len(content) < wanted and not self._unfold.eof:
            packed = self._unfold.unconsumed_tail or self._packed.read(64 * 1024)
            if not packed:
                break
            content += self._unfold.decompress(packed, wanted - len(content))
        self._left -= len(content)
        if self._left < 0:
            raise TooLarge(f"the chart unfolds to more than {UNPACKED_BYTES_MAX} bytes")
        return bytes(content)


def metadata_of(files: Mapping[str, bytes]) -> Json:
    """Return what `Chart.yaml` says, with a name and a version that can be used, or raise Invalid."""
    document = _load(files["Chart.yaml"], "Chart.yaml")
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid(f"the chart's name {str(name)[:100]!r} is not valid: lower case letters, digits and dashes are wanted")
    if not isinstance(version, str) or len(version) > _VERSION_LENGTH_MAX or not _VERSION.fullmatch(version):
        raise Invalid(f"the chart's version {str(version)[:100]!r} is not a semantic version")
    document.setdefault("apiVersion", "v1")
    return document


def dependencies_of(files: Mapping[str, bytes]) -> list[Json]:
    """Return the charts that a chart needs: name, version, repository."""
    listed = _load(files["Chart.yaml"], "Chart.yaml").get("dependencies")
    if listed is None and "requirements.yaml" in files:
        listed = _load(files["requirements.yaml"], "requirements.yaml").get("dependencies")
    return [
        {field: str(each.get(field, "")) for field in ("name", "version", "repository")}
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict)
    ]


def tag_of_version(version: str) -> str:
    """Return the tag of a chart's version: tags have no plus sign, so Helm writes an underscore."""
    return version.replace("+", "_")


def file_name_of(metadata: Mapping[str, Any]) -> str:
    """Return the name of a chart's archive."""
    return f"{metadata['name']}-{metadata['version']}.tgz"


def values_of(files: Mapping[str, bytes]) -> Json:
    """Return a chart's values by their paths (`image.tag`); none where its `values.yaml` cannot be read."""
    try:
        return _leaves(_load(files.get("values.yaml", b"{}"), "values.yaml"))
    except Invalid:
        return {}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Json:
    found: Json = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _load(content: bytes, name: str) -> Json:
    try:
        _require_bounded(content, name)
        document = _document_in(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"{name} cannot be read as YAML") from error
    if not isinstance(document, dict):
        raise Invalid(f"{name} is not a mapping")
    return {str(key): _plain(value) for key, value in document.items()}


def _document_in(content: bytes) -> object:
    loader = _LOADER(content)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _require_bounded(content: bytes, name: str) -> None:
    """Raise Invalid for what must not be loaded: aliases multiply a small file, and a deep one kills a parser written in C."""
    # Of what has an anchor and is complete: how many values it is, unfolded.
    sizes: dict[str | None, int] = {}
    around: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(content, Loader=_LOADER):
        match event:
            case yaml.AliasEvent():
                # One that stands inside of what it means has no end.
                total += sizes.get(event.anchor, VALUES_MAX)
            case yaml.ScalarEvent():
                sizes[event.anchor] = 1
            case yaml.CollectionStartEvent():
                sizes.pop(event.anchor, None)
                around.append((event.anchor, total))
            case yaml.CollectionEndEvent():
                anchor, before = around.pop()
                sizes[anchor] = total - before
        total += 1
        if total > VALUES_MAX or len(around) > DEPTH_MAX:
            raise Invalid(f"{name} has more than {VALUES_MAX} values, or is nested more than {DEPTH_MAX} deep")


def _plain(value: object) -> object:
    """Return the value as JSON has it: dates and the like as texts."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
