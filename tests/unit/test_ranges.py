"""Ranges of bytes: what is asked for, and what a chunk says it is."""

from __future__ import annotations

import pytest

from twinhull.catalog.uploads import ChunkRange
from twinhull.kit.errors import RangeInvalid
from twinhull.registry.ranges import RANGES_MAX, Part, parse_chunk_range, parse_range


class TestRange:
    @pytest.mark.parametrize(
        ("header", "part"),
        [
            ("bytes=0-0", Part(0, 1)),
            ("bytes=0-", Part(0, 2048)),
            ("bytes=500-1499", Part(500, 1000)),
            ("bytes=500-", Part(500, 1548)),
            ("bytes=-500", Part(1548, 500)),
            ("bytes=-5000", Part(0, 2048)),
            ("bytes=2000-5000", Part(2000, 48)),
            ("bytes=2047-2047", Part(2047, 1)),
            ("BYTES=1-2", Part(1, 2)),
            (" bytes=1-2 ", Part(1, 2)),
            ("bytes=0-999999999999999999", Part(0, 2048)),
        ],
    )
    def test_a_single_one(self, header: str, part: Part) -> None:
        assert parse_range(header, 2048) == [part]

    def test_several(self) -> None:
        assert parse_range("bytes=0-9, 20-29,-5", 2048) == [Part(0, 10), Part(20, 10), Part(2043, 5)]

    def test_of_several_those_beyond_the_end_are_left_out(self) -> None:
        assert parse_range("bytes=0-9,5000-", 2048) == [Part(0, 10)]

    @pytest.mark.parametrize("header", ["", "items=0-1", "0-1", "bytes 0-1", "seconds=1-2"])
    def test_another_unit_asks_for_the_whole(self, header: str) -> None:
        assert parse_range(header, 2048) == []

    @pytest.mark.parametrize(
        "header",
        [
            "bytes=2048-",
            "bytes=5000-10000",
            "bytes=-0",
            "bytes=500-0",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes=0-1,x",
            "bytes=0x1-2",
            "bytes=1-2;3-4",
            "bytes=" + "9" * 30 + "-",
        ],
    )
    def test_what_cannot_be_sent_is_refused_with_the_size(self, header: str) -> None:
        with pytest.raises(RangeInvalid) as caught:
            parse_range(header, 2048)
        assert caught.value.size_bytes == 2048

    def test_of_an_empty_blob_there_are_no_parts(self) -> None:
        assert parse_range("bytes=0-10", 0) == []
        assert parse_range("bytes=-10", 0) == []

    def test_parts_that_overlap_beyond_the_whole_are_answered_by_the_whole(self) -> None:
        assert parse_range("bytes=0-,0-", 2048) == []
        assert parse_range("bytes=0-1023,1024-", 2048) == [Part(0, 1024), Part(1024, 1024)]

    def test_too_many_parts_are_answered_by_the_whole(self) -> None:
        many = ",".join(f"{start}-{start}" for start in range(RANGES_MAX + 1))
        assert parse_range(f"bytes={many}", 2048) == []
        assert len(parse_range("bytes=" + many.rpartition(",")[0], 2048)) == RANGES_MAX

    def test_content_range_names_first_and_last_byte(self) -> None:
        assert Part(500, 1000).content_range(2048) == "bytes 500-1499/2048"


class TestChunkRange:
    def test_none_given(self) -> None:
        assert parse_chunk_range("", "512") is None

    def test_both_ends_are_included(self) -> None:
        chunk = parse_chunk_range("0-511", "512")
        assert chunk == ChunkRange(0, 511)
        assert chunk is not None
        assert chunk.length == 512

    def test_a_chunk_sent_without_a_length_is_taken(self) -> None:
        assert parse_chunk_range("1024-2047", "") == ChunkRange(1024, 2047)

    @pytest.mark.parametrize(
        "header", ["abc", "5-2", "bytes 0-3", "bytes=0-3", "0-3/4", "-3", "0-", "1" * 30 + "-2", "0-3,4-5"]
    )
    def test_what_makes_no_sense_is_refused(self, header: str) -> None:
        with pytest.raises(RangeInvalid):
            parse_chunk_range(header, "")

    def test_a_length_that_does_not_fit_is_refused(self) -> None:
        with pytest.raises(RangeInvalid, match="does not fit"):
            parse_chunk_range("0-511", "511")
