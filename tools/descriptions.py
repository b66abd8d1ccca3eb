"""Finds and reads Harbor's own descriptions of its API, which stand beside the checkout and are no part of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
VARIABLE: Final = "HARBOR_API_DIR"
# What each file describes, in the order of the table's columns.
GENERATIONS: Final[Mapping[str, str]] = {
    "swagger-v2.2.4.yaml": "2.2",
    "legacy-v2.2.4.yaml": "2.2 legacy",
    "charts-v2.2.4.yaml": "2.2 charts",
    "swagger-v2.16.yaml": "2.16",
}
RECORDING: Final = "recorded-v2.2.4.jsonl"
METHODS: Final = ("get", "head", "post", "put", "patch", "delete")
_PARAMETER: Final = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that Harbor's API does: a method at a path."""

    method: str
    # With the names of the parameters as the newest description has them.
    path: str
    # The descriptions that have it.
    generations: tuple[str, ...]

    @property
    def key(self) -> str:
        """What is the same for two descriptions of the same operation, whatever they call the parameters."""
        return key_of(self.method, self.path)


def key_of(method: str, path: str) -> str:
    """Return method and path with nameless parameters."""
    return f"{method.upper()} {_PARAMETER.sub('{}', path.rstrip('/') or '/')}"


def harbor_api_dir() -> Path | None:
    """Return the folder with the descriptions and the recording: $HARBOR_API_DIR, or ../shared/harbor-api; None without."""
    given = os.environ.get(VARIABLE)
    folder = Path(given) if given else ROOT.parent / "shared" / "harbor-api"
    return folder if folder.is_dir() else None


def described_operations(folder: Path) -> list[Operation]:
    """Return every operation of all generations, sorted by path and method."""
    found: dict[str, Operation] = {}
    for name, generation in GENERATIONS.items():
        for method, path in _operations_of(yaml.safe_load((folder / name).read_text(encoding="utf-8"))):
            key = key_of(method, path)
            earlier = found.get(key)
            generations = (*(earlier.generations if earlier else ()), generation)
            found[key] = Operation(method=method, path=path, generations=generations)
    known = (replace(operation, generations=tuple(dict.fromkeys(operation.generations))) for operation in found.values())
    return sorted(known, key=lambda operation: (operation.path, METHODS.index(operation.method.lower())))


def _operations_of(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    root = str(description["basePath"]).rstrip("/")
    for path, methods in description["paths"].items():
        for method in methods:
            if method in METHODS:
                yield method.upper(), root + path
