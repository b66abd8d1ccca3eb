"""What a walk came to: a percentage, and the rows that differ, grouped by operation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tools.walk.walker import Outcome, Row

_NAMED: Final = re.compile(r"/(projects|repositories|artifacts|tags)/[^/]+")
_UNNAMED: Final = r"/\1/{}"
_NUMBER: Final = re.compile(r"/[0-9]+(?=/|$)")


def percentage(outcomes: Sequence[Outcome]) -> float:
    """Return how many of the rows that count had the same status and shape, in per cent, rounded down to a tenth."""
    counted = [outcome for outcome in outcomes if outcome.counts]
    return len([outcome for outcome in counted if not outcome.differences]) * 1000 // len(counted) / 10


def operation_of(row: Row) -> str:
    """Return method and path without query, ids and names of the walk, so that rows of one operation come together."""
    path = _NUMBER.sub("/{id}", row.path.partition("?")[0])
    return f"{row.method} {_NAMED.sub(_UNNAMED, path)}"


def render(outcomes: Sequence[Outcome], failed_steps: Sequence[str]) -> str:
    """Return the whole report."""
    counted = [outcome for outcome in outcomes if outcome.counts]
    differing = [outcome for outcome in counted if outcome.differences]
    failures = len(outcomes) - len(counted)
    lines = [
        f"{percentage(outcomes)} % of {len(counted)} rows have the same status and shape",
        f"{len(differing)} differ; {failures} more rows are failures of Harbor's own",
        "",
    ]
    lines += [f"step failed: {step}" for step in failed_steps]
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in differing:
        groups[operation_of(outcome.row)].append(outcome)
    for operation, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        lines += ["", f"{operation}  ({len(members)})"]
        for outcome in members:
            row = outcome.row
            note = f" [{row.note}]" if row.note else ""
            lines.append(f"  {row.seq} {row.auth} {row.path}{note}")
            lines += [f"      {difference}" for difference in outcome.differences]
    lines += ["", "remarks on rows that are the same otherwise:"]
    for outcome in counted:
        row = outcome.row
        lines += [
            f"  {row.seq} {row.method} {row.path[:90]}: {remark}" for remark in outcome.remarks if not outcome.differences
        ]
    return "\n".join(lines) + "\n"
