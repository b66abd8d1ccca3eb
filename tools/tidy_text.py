"""Rules on text and folders: no address of a machine or registry, ARCHITECTURE.md is true, documents are well-formed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from tools.tidy_tree import Problem, Tree

PACKAGE: Final = Path("src/twinhull")
ARCHITECTURE: Final = Path("ARCHITECTURE.md")

# Hosts of package registries. Written so that this file does not name one itself.
REGISTRIES: Final = (
    r"pypi(?=\.)\.org",
    r"pythonhosted(?=\.)\.org",
    r"npmjs(?=\.)\.(?:org|com)",
    r"yarnpkg(?=\.)\.com",
    r"proxy\.golang(?=\.)\.org",
    r"sum\.golang(?=\.)\.org",
    r"crates(?=\.)\.io",
    r"deb\.debian(?=\.)\.org",
    r"repo1?\.maven(?=\.)\.",
)
REGISTRY: Final = re.compile("|".join(REGISTRIES))
# What package managers write when they note where something came from.
SOURCE_NOTE: Final = re.compile(
    r"^\s*(?:--(?:extra-)?index-url|--find-links)\b|\"resolved\": \"http|^source = \{ registry|^registry ?=.*http"
)
MACHINE_PATH: Final = re.compile(r"(?<![\w.~$}<-])/(?:work|root|workspace|home/[a-z]\w*|Users/\w+)/")
ISSUE: Final = re.compile(r"\bissue #?\d", re.IGNORECASE)

FENCE: Final = re.compile(r"^\s*(?:```|~~~)")
INLINE_CODE: Final = re.compile(r"`([^`\s]+)`")
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
DECISION_NAME: Final = re.compile(r"(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md")
DECISION_HEADINGS: Final = ("## Context", "## Decision", "## Consequences")
NEWS_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\.(?:added|changed|fixed|removed|security)\.md")
DECISION_LINES_MAX: Final = 80
# What ends like this, or begins with a folder of ours, is meant as a path.
PATH_SUFFIXES: Final = frozenset({".py", ".md", ".in", ".j2", ".mako"})
NOT_A_PATH: Final = re.compile(r"[<>*…{}$=()\[\]@%?:,]|^[/.~-]")


def check_addresses(tree: Tree) -> Iterator[Problem]:
    """Refuse the name of a package registry's host, of a folder of one machine, and an issue's number."""
    here = f"{tree.root.as_posix()}/"
    for path in tree.files:
        for number, line in enumerate((tree.text(path) or "").splitlines(), start=1):
            if REGISTRY.search(line) or SOURCE_NOTE.search(line):
                yield Problem(path, number, "registry host", "the address of a package registry is the machine's business")
            if MACHINE_PATH.search(line) or here in line:
                yield Problem(path, number, "machine path", "this path holds on one machine only")
            if ISSUE.search(line):
                yield Problem(path, number, "issue number", "say it so that it is understood without the tracker")


def rooms(tree: Tree) -> list[str]:
    """Return the names of the folders, and of the single modules, that stand directly in the package."""
    names: set[str] = set()
    for path in tree.files:
        if not path.is_relative_to(PACKAGE):
            continue
        first, *rest = path.relative_to(PACKAGE).parts
        if rest:
            names.add(f"{first}/")
        elif first.endswith(".py") and first != "__init__.py":
            names.add(first)
    return sorted(names)


def prose(text: str) -> Iterator[tuple[int, str, bool]]:
    """Walk through a document's lines: number, line, and whether it stands in a fenced block or a table."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if FENCE.match(line):
            fenced = not fenced
            continue
        yield number, line, fenced or line.lstrip().startswith("|")


def check_architecture(tree: Tree) -> Iterator[Problem]:
    """Want a row for every room in ARCHITECTURE.md's tables or drawings, and every path that it names to exist."""
    if ARCHITECTURE not in tree.files:
        return
    text = tree.text(ARCHITECTURE) or ""
    rows = [line for _, line, is_row in prose(text) if is_row]
    for room in rooms(tree):
        shown = re.compile(rf"(?:^|[\s|`(])(?:src/twinhull/)?{re.escape(room)}")
        if not any(shown.search(row) for row in rows):
            yield Problem(ARCHITECTURE, 0, "architecture", f"`{room}` has no row in a table or drawing")
    for number, line, _ in prose(text):
        for token in INLINE_CODE.findall(line):
            if is_meant_as_path(tree, token) and not exists(tree, token):
                yield Problem(ARCHITECTURE, number, "architecture", f"`{token}` does not exist")


def is_meant_as_path(tree: Tree, token: str) -> bool:
    """Tell a path of this repository from the other things that stand in backticks."""
    if NOT_A_PATH.search(token):
        return False
    first = token.split("/", 1)[0]
    ours = {path.parts[0] for path in tree.files if len(path.parts) > 1} | {room.rstrip("/") for room in rooms(tree)}
    return Path(token).suffix in PATH_SUFFIXES or ("/" in token and first in ours)


def exists(tree: Tree, token: str) -> bool:
    """Say whether a file or folder ends in this path, or the file names what follows the dot: `registry/manifests.put`."""
    wanted = "/" + token.rstrip("/")
    for path in tree.files:
        if f"/{path.as_posix()}".endswith(wanted) or f"{wanted}/" in f"/{path.parent.as_posix()}/":
            return True
    file, dot, attribute = wanted.rpartition(".")
    if not dot:
        return False
    named = [path for path in tree.files if f"/{path.as_posix()}".endswith(f"{file}.py")]
    return any(attribute in names_in(tree.parsed(path)) for path in named)


def names_in(module: ast.Module) -> set[str]:
    """Return the functions, methods, classes and constants that a module defines."""
    defined = {
        node.name for node in ast.walk(module) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    return defined | {node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def check_documents(tree: Tree) -> Iterator[Problem]:
    """Want one title, closed fences, links that lead somewhere and no stray blanks; and an original for each translation."""
    for path in tree.files:
        if path.suffix == ".md":
            yield from check_form(path, tree.text(path) or "")
            yield from check_links(tree, path)
            if path.name.endswith(".zh.md") and path.with_name(path.name.replace(".zh.md", ".md")) not in tree.files:
                yield Problem(path, 0, "document", "is a translation of a document that is not there")


def check_form(path: Path, text: str) -> Iterator[Problem]:
    """Look at one document's form; a news fragment is a paragraph and has no title."""
    lines = text.splitlines()
    titles = [number for number, line, is_row in prose(text) if line.startswith("# ") and not is_row]
    if titles != ([] if is_fragment(path) else [1]):
        yield Problem(path, 1, "document", "begins with its one title, `# …` (a news fragment has none)")
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield Problem(path, len(lines), "document", "ends with one newline")
    if sum(1 for line in lines if FENCE.match(line)) % 2:
        yield Problem(path, 0, "document", "has a fence that is not closed")
    for number, line in enumerate(lines, start=1):
        if line != line.rstrip():
            yield Problem(path, number, "document", "blanks at the end of the line")


def check_links(tree: Tree, path: Path) -> Iterator[Problem]:
    """Follow the relative links of a document to a file or folder of this tree."""
    for number, line, _ in prose(tree.text(path) or ""):
        for target in LINK.findall(line):
            file = target.split("#", 1)[0]
            if file and not re.match(r"[a-z]+:", target) and not (tree.root / path.parent / file).exists():
                yield Problem(path, number, "document", f"the link to {target} leads nowhere")


def is_fragment(path: Path) -> bool:
    """Say whether a file is a news fragment."""
    return path.is_relative_to("news") and path.name != "README.md"


def check_decisions(tree: Tree) -> Iterator[Problem]:
    """Want each decision as one page of known form under docs/decisions/NNNN-what-was-decided.md, each number used once."""
    decisions = [path for path in tree.files if path.is_relative_to("docs/decisions") and path.name != "README.md"]
    for path in decisions:
        if not DECISION_NAME.fullmatch(path.name):
            yield Problem(path, 0, "decision", "is named NNNN-what-was-decided.md")
        text = tree.text(path) or ""
        for heading in DECISION_HEADINGS:
            if heading not in text.splitlines():
                yield Problem(path, 0, "decision", f"lacks '{heading}'")
        if text.count("\n") > DECISION_LINES_MAX:
            yield Problem(path, 0, "decision", f"is one page: {DECISION_LINES_MAX} lines")
    for before, path in pairwise(sorted(decisions)):
        if before.name[:4] == path.name[:4]:
            yield Problem(path, 0, "decision", f"has the number of {before.name}")


def check_news(tree: Tree) -> Iterator[Problem]:
    """Want the name of a news fragment to say what sort of news it is."""
    for path in tree.files:
        if is_fragment(path) and not NEWS_NAME.fullmatch(path.name):
            yield Problem(path, 0, "news", "is named what-changed.{added,changed,fixed,removed,security}.md")


def check(tree: Tree) -> Iterator[Problem]:
    """Run every rule on text and folders."""
    yield from check_addresses(tree)
    yield from check_architecture(tree)
    yield from check_documents(tree)
    yield from check_decisions(tree)
    yield from check_news(tree)
