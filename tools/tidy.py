"""The house rules that neither ruff nor mypy nor import-linter knows: run over every file that git has or would take.

    python -m tools.tidy             say what is untidy; exit 1 if anything is
    python -m tools.tidy --tighten   first lower the ratchet to what the code has shrunk to

Rules on Python code are in tidy_code.py, rules on text and folders in tidy_text.py. tests/unit/test_tidy.py proves each.
"""

from __future__ import annotations

import argparse
import fnmatch
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools import tidy_code, tidy_text
from tools.tidy_tree import Problem, Tree

ALLOWED: Final = Path("tools/tidy.toml")
RATCHET: Final = Path("tools/tidy_ratchet.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """One exception that tidy.toml grants."""

    rule: str
    path: str
    reason: str
    match: str = ""

    def covers(self, problem: Problem) -> bool:
        """Say whether this exception is about that problem."""
        return (
            problem.rule == self.rule
            and fnmatch.fnmatchcase(problem.path.as_posix(), self.path)
            and self.match in problem.message
        )


def allowances(tree: Tree) -> tuple[Allowance, ...]:
    """Read the exceptions; one without a reason is refused."""
    if not (tree.root / ALLOWED).is_file():
        return ()
    rows = tomllib.loads((tree.root / ALLOWED).read_text(encoding="utf-8")).get("allow", [])
    return tuple(Allowance(**row) for row in rows)


def ratchet(tree: Tree) -> dict[str, int]:
    """Read how long each overlong thing may be."""
    if not (tree.root / RATCHET).is_file():
        return {}
    return {name: int(lines) for name, lines in tomllib.loads((tree.root / RATCHET).read_text(encoding="utf-8")).items()}


def check_sizes(tree: Tree) -> list[Problem]:
    """Compare each overlong file, class and function with the ratchet: more is untidy, and so is a number that is too high."""
    recorded = ratchet(tree)
    problems: list[Problem] = []
    measured: dict[str, int] = {}
    for size in tidy_code.overlong(tree):
        measured[size.name] = size.lines
        if size.name not in recorded:
            problems.append(
                Problem(size.path, size.line, "size", f"{size.name} has {size.lines} lines, the limit is {size.limit}")
            )
        elif size.lines > recorded[size.name]:
            grown = f"{size.name} has grown from {recorded[size.name]} to {size.lines} lines"
            problems.append(Problem(size.path, size.line, "size", grown))
    for name, lines in recorded.items():
        now = measured.get(name, 0)
        if now < lines:
            shrunk = f"{name} is shorter than its {lines} lines by now: run `make fix`"
            problems.append(Problem(RATCHET, 0, "ratchet", shrunk))
    return problems


def check_ratchet_growth(tree: Tree, before: dict[str, int] | None) -> list[Problem]:
    """Refuse a ratchet that allows more in all than the last commit's; a row may move with its file."""
    after = sum(ratchet(tree).values())
    if before is None or after <= sum(before.values()):
        return []
    grown = f"allows {after} lines in all, the last commit {sum(before.values())}"
    return [Problem(RATCHET, 0, "ratchet", grown)]


def tighten(tree: Tree) -> None:
    """Lower each number of the ratchet to what is there, and drop what is within its limit; never raise or add one."""
    measured = {size.name: size.lines for size in tidy_code.overlong(tree)}
    kept = {name: min(lines, measured[name]) for name, lines in ratchet(tree).items() if name in measured}
    file = tree.root / RATCHET
    head = "".join(line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.startswith("#"))
    file.write_text(head + "".join(f'"{name}" = {lines}\n' for name, lines in sorted(kept.items())), encoding="utf-8")


def check(tree: Tree) -> list[Problem]:
    """Return all that is untidy in the tree, less what tidy.toml allows."""
    found = [*check_sizes(tree), *tidy_code.check(tree), *tidy_text.check(tree)]
    granted = allowances(tree)
    problems = [problem for problem in found if not any(allowance.covers(problem) for allowance in granted)]
    for allowance in granted:
        if not allowance.reason:
            problems.append(Problem(ALLOWED, 0, "allowance", f"{allowance.rule} for {allowance.path} has no reason"))
        if tree.has(allowance.path) and not any(allowance.covers(problem) for problem in found):
            problems.append(Problem(ALLOWED, 0, "allowance", f"nothing needs {allowance.rule} for {allowance.path} any more"))
    return sorted(problems, key=lambda problem: (problem.path, problem.line, problem.rule))


def committed_ratchet(root: Path) -> dict[str, int] | None:
    """Return the ratchet of the last commit, or None where there was none."""
    shown = subprocess.run(
        ["git", "-c", "safe.directory=*", "show", f"HEAD:{RATCHET.as_posix()}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return tomllib.loads(shown.stdout) if shown.returncode == 0 else None


def main() -> int:
    """Print what is untidy and return the exit code."""
    parser = argparse.ArgumentParser(description="Check the house rules.")
    parser.add_argument("--tighten", action="store_true", help="first lower the ratchet to what the code has shrunk to")
    options = parser.parse_args()
    tree = Tree.of_git(Path(__file__).resolve().parent.parent)
    if options.tighten:
        tighten(tree)
    problems = [*check(tree), *check_ratchet_growth(tree, committed_ratchet(tree.root))]
    for problem in problems:
        print(problem)
    print(f"tidy: {len(problems)} untidy" if problems else f"tidy: {len(tree.files)} files, nothing untidy")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
