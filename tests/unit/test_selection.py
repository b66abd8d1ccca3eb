"""Policies pick repositories, artifacts and tags as Harbor does, and name them so at the destination."""

from __future__ import annotations

from typing import Any

import pytest

from twinhull.kit.errors import Invalid
from twinhull.mirror.selection import Candidate, Selection, destination_of, resource_name

DIGEST = "sha256:" + "a" * 64


def _filter(kind: str, value: Any, decoration: str = "") -> dict[str, Any]:  # noqa: ANN401 - a filter's value may be a list
    return {"type": kind, "value": value} | ({"decoration": decoration} if decoration else {})


def _tags(*filters: dict[str, Any], tags: tuple[str, ...]) -> tuple[str, ...] | None:
    picked = Selection(filters).pick(Candidate(digest=DIGEST, tags=tags))
    return picked.tags if picked is not None else None


@pytest.mark.parametrize(
    ("pattern", "repository", "taken"),
    [
        ("", "library/app", True),
        ("library/**", "library/a/b", True),
        ("library/*", "library/a/b", False),
        ("{library,team}/app", "team/app", True),
        ("library/app", "library/app2", False),
    ],
)
def test_repositories_are_picked_by_their_whole_name(pattern: str, repository: str, *, taken: bool) -> None:
    assert Selection([_filter("name", pattern)]).takes(repository) is taken


def test_all_filters_of_a_policy_have_to_agree() -> None:
    selection = Selection([_filter("name", "library/**"), _filter("name", "*/app")])
    assert selection.takes("library/app")
    assert not selection.takes("library/other")


def test_only_matching_tags_are_picked() -> None:
    assert _tags(_filter("tag", "v*"), tags=("v1", "latest", "v2")) == ("v1", "v2")
    assert _tags(_filter("tag", "v*", "excludes"), tags=("v1", "latest")) == ("latest",)
    assert _tags(_filter("tag", "v*", "excludes"), tags=("v1",)) is None
    assert _tags(_filter("tag", ""), tags=("v1",)) == ("v1",)


def test_untagged_artifacts_are_picked_where_the_pattern_takes_an_empty_name() -> None:
    assert _tags(tags=()) == ()
    assert _tags(_filter("tag", "**"), tags=()) == ()
    assert _tags(_filter("tag", "v*"), tags=()) is None
    assert _tags(_filter("tag", "v*", "excludes"), tags=()) == ()


def test_an_artifact_needs_all_labels_of_a_filter() -> None:
    both = Candidate(digest=DIGEST, tags=("v1",), labels=frozenset({"a", "b", "c"}))
    one = Candidate(digest=DIGEST, tags=("v1",), labels=frozenset({"a"}))
    wanted = Selection([_filter("label", ["a", "b"])])
    unwanted = Selection([_filter("label", ["a", "b"], "excludes")])
    assert wanted.pick(both) == both
    assert wanted.pick(one) is None
    assert unwanted.pick(both) is None
    assert unwanted.pick(one) == one


@pytest.mark.parametrize(
    ("resource", "kind", "picked"),
    [
        ("image", "IMAGE", True),
        ("image", "CHART", False),
        ("chart", "CHART", True),
        ("artifact", "WASM", True),
        ("", "X", True),
    ],
)
def test_a_resource_is_a_type_of_artifact(resource: str, kind: str, *, picked: bool) -> None:
    candidate = Candidate(digest=DIGEST, tags=("v1",), type=kind)
    assert (Selection([_filter("resource", resource)]).pick(candidate) is not None) is picked


def test_names_without_wildcards_need_no_listing() -> None:
    assert Selection([]).repositories is None
    assert Selection([_filter("name", "library/**")]).repositories is None
    assert Selection([_filter("name", "library/{a,b}")]).repositories == ("library/a", "library/b")
    assert Selection([_filter("name", "library/{a,b}"), _filter("name", "**/b")]).repositories == ("library/b",)


@pytest.mark.parametrize(
    ("pattern", "projects"),
    [("", None), ("**", None), ("lib*/app", None), ("library/**", ("library",)), ("{a,b}/x", ("a", "b")), ("{a,b}/**", None)],
)
def test_projects_are_known_where_the_pattern_begins_with_one(pattern: str, projects: tuple[str, ...] | None) -> None:
    assert Selection([_filter("name", pattern)]).projects == projects


@pytest.mark.parametrize(
    ("namespace", "count", "name"),
    [
        *(("", -1, "a/b/c/app"), ("", 2, "a/b/c/app"), ("n", -1, "n/app"), ("n", 0, "n/a/b/c/app")),
        *(("n", 1, "n/b/c/app"), ("n", 3, "n/app"), ("n/m", 2, "n/m/c/app")),
    ],
)
def test_a_namespace_takes_the_place_of_leading_parts(namespace: str, count: int, name: str) -> None:
    assert destination_of("a/b/c/app", namespace, count) == name


def test_more_parts_than_there_are_can_not_be_replaced() -> None:
    with pytest.raises(Invalid, match="has 1 parts"):
        destination_of("library/app", "n", 2)


def test_a_resource_is_named_with_its_items() -> None:
    assert resource_name("library/app", 2) == "library/app [2 item(s) in total]"
    assert Candidate(digest=DIGEST).items == 1
    assert Candidate(digest=DIGEST, tags=("a", "b")).items == 2
