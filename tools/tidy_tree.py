"""What tidy's rules look at: the files that git has or would take, and the problems found in them."""

from __future__ import annotations

import ast
import fnmatch
import subprocess
from dataclasses import dataclass, field
from pathlib import Path, PurePath


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is untidy; printed as a line that editors and terminals can jump to."""

    path: PurePath
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        """Return path:line: rule: message."""
        where = f"{self.path.as_posix()}:{self.line}" if self.line else self.path.as_posix()
        return f"{where}: {self.rule}: {self.message}"


@dataclass(frozen=True, slots=True)
class Tree:
    """A work tree: its root, and the files in it by their paths from there."""

    root: Path
    files: tuple[Path, ...]
    _parsed: dict[Path, ast.Module] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of_git(cls, root: Path) -> Tree:
        """List what git tracks in the work tree, and what is new there and not ignored; CalledProcessError outside git."""
        listed = subprocess.run(
            # safe.directory: CI's clone may belong to another user.
            ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        names = sorted(set(filter(None, listed.stdout.split("\0"))))
        return cls(root, tuple(Path(name) for name in names if (root / name).is_file()))

    @classmethod
    def of_folder(cls, root: Path) -> Tree:
        """List every file under a folder."""
        return cls(root, tuple(sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())))

    def under(self, folder: str, suffix: str = ".py") -> list[Path]:
        """Return the files with that suffix in a folder or below."""
        return [path for path in self.files if path.is_relative_to(folder) and path.suffix == suffix]

    def has(self, pattern: str) -> bool:
        """Say whether a file is there under that name or pattern."""
        return any(fnmatch.fnmatchcase(path.as_posix(), pattern) for path in self.files)

    def text(self, path: Path) -> str | None:
        """Return a file's text, or None if it is not text."""
        content = (self.root / path).read_bytes()
        if b"\0" in content:
            return None
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return None

    def parsed(self, path: Path) -> ast.Module:
        """Return the syntax tree of a Python file, or an empty one if it does not parse: a rule of its own says so."""
        if path not in self._parsed:
            try:
                self._parsed[path] = ast.parse((self.root / path).read_bytes(), filename=str(path))
            except SyntaxError:
                self._parsed[path] = ast.Module(body=[], type_ignores=[])
        return self._parsed[path]
