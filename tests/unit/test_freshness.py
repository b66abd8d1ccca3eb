"""A cache keeps no answer that was read before a change and arrives after it."""

from __future__ import annotations

import pytest

from tests.support.log_cache import LogCache


@pytest.fixture
def cache() -> LogCache[str, int]:
    """A cache of two entries."""
    return LogCache(2)


def fill(cache: LogCache[str, int], key: str, value: int | None) -> None:
    cache.store(key, cache.begin(key), value)


def test_entry_is_kept_until_it_is_dropped(cache: LogCache[str, int]) -> None:
    assert cache.get("a") is None
    fill(cache, "a", 1)
    assert cache.get("a") == 1
    cache.drop("b")
    assert cache.get("a") == 1
    cache.drop("a")
    assert cache.get("a") is None
    fill(cache, "a", 2)
    cache.clear()
    assert cache.get("a") is None


def test_entry_not_used_for_the_longest_makes_room(cache: LogCache[str, int]) -> None:
    fill(cache, "a", 1)
    fill(cache, "b", 2)
    assert cache.get("a") == 1
    fill(cache, "c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    fill(cache, "a", 4)
    fill(cache, "d", 5)
    assert (cache.get("a"), cache.get("c"), cache.get("d")) == (4, None, 5)


@pytest.mark.parametrize("forget", ["drop", "clear"])
def test_what_was_being_read_is_not_stored_after_a_change(cache: LogCache[str, int], forget: str) -> None:
    token = cache.begin("a")
    other = cache.begin("b")
    if forget == "drop":
        cache.drop("a")
    else:
        cache.clear()
    cache.store("a", token, 1)
    cache.store("b", other, 2)
    assert cache.get("a") is None
    assert cache.get("b") == (2 if forget == "drop" else None)
    # What is read from now on is good again.
    fill(cache, "a", 3)
    assert cache.get("a") == 3


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_each_of_two_readings_of_one_key_is_forgotten(cache: LogCache[str, int], first_to_end: int) -> None:
    tokens = [cache.begin("a"), cache.begin("a")]
    cache.store("a", tokens.pop(first_to_end), 1)
    cache.drop("a")
    cache.store("a", tokens.pop(), 1)
    assert cache.get("a") is None


def test_reading_that_found_nothing_ends_without_a_trace(cache: LogCache[str, int]) -> None:
    fill(cache, "a", 1)
    fill(cache, "a", None)
    assert cache.get("a") == 1
