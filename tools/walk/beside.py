"""Requests that stand beside the recorded ones: read from a file, and made in between them by the same walk."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tools.walk.walker import Row

BESIDE: Final = "beside"
_FILE: Final = Path(__file__).with_name("beside.txt")
_ROOT: Final = "/api/v2.0"
# `3.1 admin PUT ~/users/22 {"realname": "x"} -> 400`
_LINE: Final = re.compile(r"([0-9.]+) (\S+) ([A-Z]+) (\S+)(?: (.*))? -> ([0-9]{3})")


def read_beside() -> list[Row]:
    """Return the requests as rows of a recording that knows statuses alone."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return [_row(line) for line in lines if line and not line.startswith("#")]


def merged(rows: Sequence[Row], beside: Sequence[Row]) -> list[Row]:
    """Return all of them in the order in which they are made."""
    return sorted([*rows, *beside], key=lambda row: row.seq)


def _row(line: str) -> Row:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"{_FILE.name}: {line}")
    path = _ROOT + found[4][1:] if found[4].startswith("~") else found[4]
    return Row(
        seq=float(found[1]),
        group=BESIDE,
        auth=found[2],
        method=found[3],
        path=path,
        request_headers={"Content-Type": "application/json"} if found[5] else {},
        request_body=_body(found[5]),
        status=int(found[6]),
        headers={},
        body=None,
    )


def _body(text: str | None) -> Any:  # noqa: ANN401 - whatever JSON is, or a text that is none
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
