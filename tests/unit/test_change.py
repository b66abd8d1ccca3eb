"""Version vectors: who has seen what, and how much is missing."""

from __future__ import annotations

import msgspec

from twinhull.records.change import Change, covers, joined, missing


def test_vector_covers_what_it_has_reached() -> None:
    assert covers({"a": 3, "b": 1}, {"a": 3})
    assert not covers({"a": 3}, {"a": 3, "b": 1})
    assert not covers({"a": 2}, {"a": 3})
    assert covers({}, {"a": 0})


def test_missing_counts_changes() -> None:
    assert missing({"a": 3}, {"a": 5, "b": 2}) == 4
    assert missing({"a": 5}, {"a": 3}) == 0


def test_joined_vector_has_the_higher_of_each() -> None:
    assert joined({"a": 3, "b": 1}, {"a": 2, "c": 4}) == {"a": 3, "b": 1, "c": 4}


def test_change_goes_over_the_wire_as_a_list_and_comes_back() -> None:
    change = Change(origin="a", seq=1, kind="manifest", key="k", record=b"\x00\xff", content=b"\x01")
    packed = msgspec.msgpack.encode(change)
    assert msgspec.msgpack.decode(packed) == ["a", 1, "manifest", "k", b"\x00\xff", b"\x01"]
    assert msgspec.msgpack.decode(packed, type=Change) == change
    # What has no content, and what an older form without one said.
    bare = msgspec.msgpack.encode(["a", 1, "tag", "k", b""])
    assert msgspec.msgpack.decode(bare, type=Change).content is None
