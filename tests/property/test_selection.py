"""Laws of what replication policies pick: filters only take away, and names stay names."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twinhull.kit.reference import parse_repository
from twinhull.mirror.selection import Candidate, Selection, destination_of

_PART = st.text("abc", min_size=1, max_size=3)
_PATTERN = st.text("abc*?{},/[]", max_size=8)
_LABELS = st.lists(_PART, max_size=3)
_DECORATION = st.sampled_from(["", "matches", "excludes"])


def _named(kind: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), "value": value, "decoration": _DECORATION})


_FILTERS = st.lists(
    _named("name", _PATTERN) | _named("tag", _PATTERN) | _named("label", _LABELS) | _named("resource", st.just("image")),
    max_size=4,
)
_CANDIDATES = st.builds(
    Candidate,
    digest=st.just("sha256:" + "a" * 64),
    tags=st.lists(_PART, max_size=4, unique=True).map(tuple),
    labels=_LABELS.map(frozenset),
    type=st.sampled_from(["", "IMAGE", "CHART"]),
)
_REPOSITORIES = st.lists(_PART, min_size=2, max_size=5).map("/".join)


@given(filters=_FILTERS, candidate=_CANDIDATES)
def test_what_is_picked_is_part_of_what_was_there_and_picked_again(filters: list[dict[str, Any]], candidate: Candidate) -> None:
    selection = Selection(filters)
    picked = selection.pick(candidate)
    if picked is not None:
        assert set(picked.tags) <= set(candidate.tags)
        assert bool(picked.tags) == bool(candidate.tags)
        assert selection.pick(picked) == picked


@given(filters=_FILTERS, more=_FILTERS, candidate=_CANDIDATES, repository=_REPOSITORIES)
def test_another_filter_never_adds(
    filters: list[dict[str, Any]], more: list[dict[str, Any]], candidate: Candidate, repository: str
) -> None:
    few, many = Selection(filters + more), Selection(filters)
    if few.takes(repository):
        assert many.takes(repository)
    if (picked := few.pick(candidate)) is not None:
        wider = many.pick(candidate)
        assert wider is not None
        assert set(picked.tags) <= set(wider.tags)


@given(filters=_FILTERS, repository=_REPOSITORIES)
def test_what_a_policy_takes_is_among_the_names_and_projects_that_it_is_said_to_take(
    filters: list[dict[str, Any]], repository: str
) -> None:
    selection = Selection(filters)
    if selection.takes(repository):
        assert selection.repositories is None or repository in selection.repositories
        assert selection.projects is None or repository.partition("/")[0] in selection.projects


@given(repository=_REPOSITORIES, namespace=_PART, count=st.integers(-1, 1))
def test_a_name_at_the_destination_is_a_name_with_the_same_end(repository: str, namespace: str, count: int) -> None:
    name = destination_of(repository, namespace, count)
    assert parse_repository(name) == name
    assert name.split("/")[0] == namespace
    assert name.split("/")[-1] == repository.rsplit("/", maxsplit=1)[-1]
