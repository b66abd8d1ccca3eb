"""Makes the table of Harbor's operations: each with the handler that answers it and a test that asks for it.

    python -m tools.operations             say which operations have no route or no test
    python -m tools.operations --write     write docs/reference/harbor-operations.md (needs the descriptions)
    python -m tools.operations --tighten   take out of the ratchet what is there by now

Operations come from Harbor's descriptions, routes from the application as a worker makes it, tests from the calls that stand in
tests/: a method and a path next to each other.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from starlette.routing import BaseRoute, Match, Mount, Route, Router

from tools.descriptions import METHODS, ROOT, Operation, described_operations, harbor_api_dir
from twinhull.config.load import load_settings
from twinhull.harbor.places import HarborPaths
from twinhull.harbor.requests import Methods
from twinhull.node.start import initialise
from twinhull.node.worker import http_app

TABLE: Final = Path("docs/reference/harbor-operations.md")
RATCHET: Final = Path("tools/operations_ratchet.toml")
_ROW: Final = re.compile(r"\| `([A-Z]+) (/[^`]*)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|")
_RATCHET_HEAD: Final = """\
# Harbor's operations that have no route or no test yet. A list may only become shorter: `python -m tools.operations --tighten`.
"""
_TABLE_HEAD: Final = """\
# Harbor's operations

Every operation of Harbor's own descriptions: v2.2 in its two generations and its chart API, and the newest. Made by
`python -m tools.operations --write` from the routes and the tests; a test fails when an operation has no route or no test.

| operation | described in | handler | test |
| --- | --- | --- | --- |
"""
_PARAMETER: Final = re.compile(r"\{[^}]*\}")
# A value that any parameter can have: some are numbers.
_VALUE: Final = "1"
# How tests ask: `await api("GET", path)`, and helpers whose name says the method.
_METHOD_BY_HELPER: Final = {"create": "POST"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation, and where it is answered and tested; empty where it is not."""

    operation: Operation
    handler: str
    test: str

    @property
    def name(self) -> str:
        """What the operation is called."""
        return f"{self.operation.method} {self.operation.path}"


class Routes:
    """The routes of a whole worker, as it would run with an empty data directory."""

    def __init__(self, data_dir: Path) -> None:
        """Put one together in that directory."""
        settings = load_settings(None, {}, {"data_dir": str(data_dir), "admin_password": "Harbor12345"}).settings
        initialise(settings)
        routers = (_router_of(face.face) for face in http_app(settings).faces)
        self._routes = [*_routes_in(router.routes for router in routers if router is not None)]

    def handler_of(self, operation: Operation) -> str:
        """Return file and name of what answers an operation; empty if nothing does."""
        path = _asked(operation)
        scope = {"type": "http", "path": path, "root_path": "", "method": operation.method, "headers": []}
        for prefix, route in self._routes:
            if not path.startswith(prefix):
                continue
            matched, _ = route.matches({**scope, "path": path.removeprefix(prefix)})
            if matched is Match.NONE:
                continue
            if isinstance(route.endpoint, Methods):
                # The first route that has the path answers, with 405 if it does not have the method.
                handler = route.endpoint.handlers.get(operation.method)
                return f"{_file_of(handler.__module__)} `{handler.__qualname__}`" if handler is not None else ""
        return ""


def _router_of(face: object) -> Router | None:
    while isinstance(face, HarborPaths):
        face = face.face
    return face if isinstance(face, Router) else None


def _asked(operation: Operation) -> str:
    return _PARAMETER.sub(_VALUE, operation.path)


def _routes_in(groups: Iterator[Sequence[BaseRoute]], prefix: str = "") -> Iterator[tuple[str, Route]]:
    for routes in groups:
        for route in routes:
            if isinstance(route, Mount):
                yield from _routes_in(iter([route.routes]), prefix + route.path)
            elif isinstance(route, Route):
                yield prefix, route


def _file_of(module: str) -> str:
    return module.removeprefix("twinhull.").replace(".", "/") + ".py"


class Tests:
    """The calls that stand in the tests."""

    def __init__(self, folder: Path, words: Collection[str]) -> None:
        """Read all tests in a folder; a part of a path that is none of the words is a parameter's value."""
        self._tests: dict[tuple[str, str], str] = {}
        for file in sorted(folder.rglob("test_*.py")):
            for test, node, named in _nodes_of(file):
                for method, path in _calls_in(node, named):
                    asked = "/".join(part if not part or part in words else _VALUE for part in path.split("/"))
                    self._tests.setdefault((method, asked), f"{file.relative_to(folder.parent)}::{test}")

    def test_of(self, operation: Operation) -> str:
        """Return the first test that asks for an operation; empty if none does."""
        asked = _asked(operation).rstrip("/")
        found = (self._tests.get((operation.method, path)) for path in (asked.removeprefix("/api/v2.0"), asked))
        return next(filter(None, found), "")


# What names stand for, from the line on which they are given it: (line, name, path).
_Given = list[tuple[int, str, str]]


def _nodes_of(file: Path) -> Iterator[tuple[str, ast.Call | ast.Tuple, _Given]]:
    """Return the calls and tuples of a file, each with the test that it stands in and the paths that have names there."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    constants = _given_in(module.body, [])
    for top in module.body:
        name = top.name if isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else ""
        inner = top.body if isinstance(top, ast.ClassDef) else [top]
        for each in inner:
            given = (
                _given_in(ast.walk(each), constants) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) else constants
            )
            for node in ast.walk(each):
                if isinstance(node, ast.Call | ast.Tuple):
                    yield name, node, given


def _given_in(nodes: Iterable[ast.AST], known: _Given) -> _Given:
    """Return the paths that are given a name among these nodes, and what was known before."""
    found = list(known)
    assignments = (node for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None)
    for node in sorted(assignments, key=lambda one: one.lineno):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and node.value is not None:
                found.append((node.lineno, target.id, _text_in(node.value, found)))
    return found


def _calls_in(node: ast.Call | ast.Tuple, named: _Given) -> Iterator[tuple[str, str]]:
    """Return what is asked for there: a method and a path next to each other, or a path given to a helper of known method."""
    given = node.args if isinstance(node, ast.Call) else node.elts
    helper = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
    if helper in _METHOD_BY_HELPER and given and (path := _path_in(given[0], named)):
        yield _METHOD_BY_HELPER[helper], path
    for first, second in pairwise(given):
        if isinstance(first, ast.Constant) and str(first.value).lower() in METHODS and (path := _path_in(second, named)):
            yield str(first.value), path


def _text_in(node: ast.expr, named: _Given) -> str:
    """Return a text with marks where something is filled in that is not known; empty if it is none."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return next((text for line, name, text in reversed(named) if name == node.id and line <= node.lineno), "")
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_in(part, named) or "{}" for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text_in(node.value, named)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        first, second = _text_in(node.left, named), _text_in(node.right, named)
        return first + second if first and second else ""
    return ""


def _path_in(node: ast.expr, named: _Given) -> str:
    """Return the path that is written there or has a name there; empty if it is none."""
    text = _text_in(node, named)
    path = text.partition("?")[0].rstrip("/")
    return path if path.startswith("/") else ""


def table_rows(root: Path) -> list[Row]:
    """Return the table as it stands in the docs."""
    rows = []
    for method, path, generations, handler, test in _ROW.findall((root / TABLE).read_text(encoding="utf-8")):
        operation = Operation(method=method, path=path, generations=tuple(generations.strip().split(", ")))
        rows.append(Row(operation=operation, handler=handler.strip(), test=test.strip().strip("`")))
    return rows


def look_up(operations: Sequence[Operation], root: Path) -> list[Row]:
    """Return each operation with the handler that answers it and a test that asks for it."""
    words = {part for operation in operations for part in operation.path.split("/") if not part.startswith("{")}
    tests = Tests(root / "tests", words)
    with tempfile.TemporaryDirectory() as directory:
        routes = Routes(Path(directory))
        return [
            Row(operation=operation, handler=routes.handler_of(operation), test=tests.test_of(operation))
            for operation in operations
        ]


def render(rows: Sequence[Row]) -> str:
    """Return the page."""
    lines = [
        f"| `{row.name}` | {', '.join(row.operation.generations)} | {row.handler} | {f'`{row.test}`' if row.test else ''} |"
        for row in rows
    ]
    return _TABLE_HEAD + "\n".join(lines) + "\n"


def missing(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the operations that have no route, and those that have no test."""
    return {
        "without_route": [row.name for row in rows if not row.handler],
        "without_test": [row.name for row in rows if not row.test],
    }


def allowed(root: Path) -> dict[str, list[str]]:
    """Return what the ratchet lets pass."""
    found = tomllib.loads((root / RATCHET).read_text(encoding="utf-8"))
    return {name: [str(entry) for entry in found.get(name, [])] for name in ("without_route", "without_test")}


def write_ratchet(root: Path, lists: dict[str, list[str]]) -> None:
    """Write the ratchet."""
    text = _RATCHET_HEAD
    for name, entries in lists.items():
        text += f"\n{name} = [\n" + "".join(f'    "{entry}",\n' for entry in entries) + "]\n"
    (root / RATCHET).write_text(text, encoding="utf-8")


def main() -> int:
    """Do what the options say; return 1 if something is missing that the ratchet does not know."""
    parser = argparse.ArgumentParser(description="Harbor's operations, their routes and tests")
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--tighten", action="store_true", help="lower the ratchet")
    options = parser.parse_args()
    folder = harbor_api_dir()
    operations = described_operations(folder) if folder else [row.operation for row in table_rows(ROOT)]
    rows = look_up(operations, ROOT)
    if options.write:
        if folder is None:
            print("Harbor's descriptions are not here: set HARBOR_API_DIR", file=sys.stderr)
            return 1
        (ROOT / TABLE).write_text(render(rows), encoding="utf-8")
    lacking = missing(rows)
    known = allowed(ROOT) if (ROOT / RATCHET).is_file() else lacking
    if options.tighten:
        write_ratchet(ROOT, {name: [entry for entry in entries if entry in known[name]] for name, entries in lacking.items()})
    fresh = 0
    for name, entries in lacking.items():
        print(f"{name}: {len(entries)} of {len(rows)}")
        for entry in entries:
            new = entry not in known[name]
            fresh += new
            print(f"  {entry}{'   (new)' if new else ''}")
    return 1 if fresh else 0


if __name__ == "__main__":
    sys.exit(main())
