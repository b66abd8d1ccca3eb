"""The mutants as they are written down, and how one is put into a copy of the tree."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CATALOGUE: Final = Path(__file__).with_name("mutants.toml")
# All that the tests of a mutant need.
_COPIED: Final = ("src", "tests", "tools", "pyproject.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule that is taken out."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied_to(self, source: str) -> str:
        """Return the source without the rule; raises ValueError unless its text stands there once."""
        found = source.count(self.old)
        if found != 1:
            message = (
                f"{self.name!r}: its text stands {found} times in {self.file}, not once; write it anew in {CATALOGUE.name}"
            )
            raise ValueError(message)
        return source.replace(self.old, self.new)


def read_mutants() -> list[Mutant]:
    """Return all mutants."""
    listed = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**one, "tests": tuple(one["tests"])}) for one in listed]


def copy_tree(target: Path) -> None:
    """Copy what tests need."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def put_into(tree: Path, mutant: Mutant) -> Callable[[], None]:
    """Take the rule out of a copy of the tree; return what puts it back."""
    file = tree / mutant.file
    source = file.read_text(encoding="utf-8")
    file.write_text(mutant.applied_to(source), encoding="utf-8")
    return lambda: _put_back(file, source)


def _put_back(file: Path, source: str) -> None:
    file.write_text(source, encoding="utf-8")
