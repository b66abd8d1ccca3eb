"""Whether a blob is garbage: the rules alone, without any I/O."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What becomes of a candidate."""

    # It is none any more: something names it, or there is nothing to remove.
    FORGET = "forget"
    # Its time has not come.
    WAIT = "wait"
    # The repository shows it no more; its bytes are looked at next.
    UNLINK = "unlink"
    # Nothing links it here: its bytes are looked at next.
    LOOK_AT_BYTES = "look at bytes"
    # Its bytes go.
    REMOVE = "remove"


def judge_in_repository(*, named: bool, linked_ms: int | None, due_ms: int) -> Verdict:
    """Judge a blob in a repository: `named` by a manifest of it, linked then (None: not at all); older than `due_ms` is old."""
    if named:
        return Verdict.FORGET
    if linked_ms is None:
        return Verdict.LOOK_AT_BYTES
    return Verdict.UNLINK if linked_ms <= due_ms else Verdict.WAIT


def judge_bytes(*, named: bool, lately: bool, released: bool) -> Verdict:
    """Judge a blob's bytes: `named` here by a manifest or link, or until `lately`; `released` by all other members."""
    if named:
        return Verdict.FORGET
    return Verdict.REMOVE if released and not lately else Verdict.WAIT
