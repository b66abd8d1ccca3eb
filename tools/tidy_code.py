"""Rules on Python code: sizes, names of files, where imports stand, what an __init__.py holds, no sleeping in tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.tidy_tree import Problem, Tree

FILE_LINES_MAX: Final = 400
CLASS_LINES_MAX: Final = 250
FUNCTION_LINES_MAX: Final = 60
HANDLER_LINES_MAX: Final = 40

CODE: Final = ("src", "tests", "tools")
# Rooms that parse, identify, make one call and render; their async functions are the handlers.
FACES: Final = ("registry", "harbor", "peer", "portal")
PACKAGE: Final = Path("src/twinhull")
BANNED_NAMES: Final = frozenset({"utils", "util", "common", "helpers", "helper", "misc", "manager", "core", "base"})
ALLOWED_NAMES: Final = frozenset({PACKAGE / "mirror/adapters/base.py"})
KIT: Final = frozenset({"__init__", "errors", "clock", "fail_points", "hlc", "digest", "reference"})
FOR_TYPES_ALONE: Final = "TYPE_CHECKING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Something longer than its limit."""

    path: Path
    line: int
    name: str
    lines: int
    limit: int


def python_files(tree: Tree) -> list[Path]:
    """Return every Python file of the program, its tests and its tools."""
    return [path for folder in CODE for path in tree.under(folder)]


def is_face(path: Path) -> bool:
    """Say whether a file belongs to a room that faces clients or peers."""
    return any(path.is_relative_to(PACKAGE / face) for face in FACES)


def definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Walk through functions and classes, nested ones too, with their dotted names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{prefix}{child.name}"
            yield name, child
            yield from definitions(child, f"{name}.")
        else:
            yield from definitions(child, prefix)


def limit_of(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Return how many lines a definition may have."""
    if isinstance(node, ast.ClassDef):
        return CLASS_LINES_MAX
    if isinstance(node, ast.AsyncFunctionDef) and is_face(path):
        return HANDLER_LINES_MAX
    return FUNCTION_LINES_MAX


def overlong(tree: Tree) -> Iterator[Size]:
    """Find every file, class, function and handler that is over its limit; docstrings and nested functions count."""
    for path in python_files(tree):
        name = path.as_posix()
        lines = (tree.root / path).read_bytes().count(b"\n")
        if lines > FILE_LINES_MAX:
            yield Size(path=path, line=1, name=name, lines=lines, limit=FILE_LINES_MAX)
        for inner, node in definitions(tree.parsed(path)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            limit = limit_of(path, node)
            if lines > limit:
                yield Size(path=path, line=node.lineno, name=f"{name}::{inner}", lines=lines, limit=limit)


def check_syntax(tree: Tree) -> Iterator[Problem]:
    """Want files that parse, since no other rule can look into one that does not."""
    for path in python_files(tree):
        try:
            ast.parse((tree.root / path).read_bytes())
        except SyntaxError as error:
            yield Problem(path, error.lineno or 0, "syntax", error.msg)


def check_names(tree: Tree) -> Iterator[Problem]:
    """Refuse names that say nothing of what is inside, and new files in kit/, which is a closed list."""
    for path in python_files(tree):
        words = {path.stem, *path.parent.parts}
        for word in sorted(words & BANNED_NAMES):
            if path not in ALLOWED_NAMES:
                yield Problem(path, 0, "file name", f"'{word}' says nothing of what is inside: name the duty")
        if path.parent == PACKAGE / "kit" and path.stem not in KIT:
            yield Problem(path, 0, "file name", "kit/ is a closed list; this belongs to the room that uses it")


def check_inits(tree: Tree) -> Iterator[Problem]:
    """Want a docstring and nothing else in an __init__.py."""
    for path in python_files(tree):
        if path.name != "__init__.py":
            continue
        body = tree.parsed(path).body
        if len(body) != 1 or ast.get_docstring(tree.parsed(path)) is None:
            yield Problem(path, 1, "init", "holds more or less than a docstring")


def check_imports(tree: Tree) -> Iterator[Problem]:
    """Want imports at the top of a file, where they can be seen: none inside a function, none for the type checker alone."""
    for path in python_files(tree):
        inside = {
            inner.lineno: name
            for name, node in definitions(tree.parsed(path))
            for inner in ast.walk(node)
            if isinstance(inner, (ast.Import, ast.ImportFrom))
        }
        for line, name in inside.items():
            yield Problem(path, line, "import inside", f"{name} imports: move it to the top of the file")
        for node in ast.walk(tree.parsed(path)):
            if FOR_TYPES_ALONE in (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "name", "")):
                yield Problem(path, getattr(node, "lineno", 0), "type checking", "an import for types alone hides an arrow")


def check_sleeps(tree: Tree) -> Iterator[Problem]:
    """Want tests to wait for a condition, never for time; loops that wait so are in tests/support, and sleep(0) only yields."""
    for path in tree.under("tests"):
        if path.is_relative_to("tests/support"):
            continue
        for node in ast.walk(tree.parsed(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "sleep":
                continue
            yields = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            if not yields:
                yield Problem(path, node.lineno, "sleep", "wait for the condition instead, with a deadline")


def check(tree: Tree) -> Iterator[Problem]:
    """Run every rule on code but the sizes, which tidy.py holds against the ratchet."""
    yield from check_syntax(tree)
    yield from check_names(tree)
    yield from check_inits(tree)
    yield from check_imports(tree)
    yield from check_sleeps(tree)
