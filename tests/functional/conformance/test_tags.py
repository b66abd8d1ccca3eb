"""Tags: listed in order and in pages, moved and deleted; the catalog of repositories in pages."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import Made, artifact, check_absent
from tests.support.registry_client import Query, Repository, next_page_of
from tests.support.topology import Registry

NAMES = ("0", "1.10", "1.2", "A", "Z", "_under", "a", "a-b", "a.b", "a_b", "latest", "v1", "z" * 128)


@pytest.fixture
def tagged(repository: Repository) -> Repository:
    """Return a repository with one manifest under many tags, which were not pushed in order."""
    made = artifact()
    made.push(repository)
    for tag in reversed(NAMES):
        repository.put_manifest(tag, made.content, made.media_type).expect(201)
    return repository


def pages_of(repository: Repository, query: Query) -> list[list[str]]:
    """Return the tags of each page, following the Link headers."""
    answer = repository.get("tags/list", query=query).expect(200)
    pages = []
    while True:
        document = answer.json()
        assert isinstance(document, dict)
        assert document["name"] == repository.name
        pages.append(document["tags"])
        page = next_page_of(answer)
        if page is None:
            return pages
        answer = repository.client.request("GET", page).expect(200)


def test_tags_come_in_the_order_of_their_bytes(tagged: Repository) -> None:
    assert tagged.tags() == list(NAMES)


@pytest.mark.parametrize("n", [1, 2, 5, len(NAMES) - 1, len(NAMES), 100])
def test_pages_hold_n_tags_and_lead_to_the_next(tagged: Repository, n: int) -> None:
    pages = pages_of(tagged, [("n", str(n))])
    assert pages == [list(NAMES[start : start + n]) for start in range(0, len(NAMES), n)]


def test_no_page_is_empty_at_the_end(tagged: Repository) -> None:
    answer = tagged.get("tags/list", query=[("n", str(len(NAMES)))]).expect(200)
    assert answer.header("Link") is None


@pytest.mark.parametrize("last", ["0", "1.2", "Z", "a_b", "v1"])
def test_last_is_left_out(tagged: Repository, last: str) -> None:
    after = list(NAMES[NAMES.index(last) + 1 :])
    assert tagged.tags(query=[("last", last)]) == after
    assert tagged.tags(query=[("n", "2"), ("last", last)]) == after[:2]


def test_last_need_not_be_there(tagged: Repository) -> None:
    assert tagged.tags(query=[("last", "b")]) == ["latest", "v1", "z" * 128]
    assert tagged.tags(query=[("last", "z" * 128)]) == []


def test_n_of_zero_is_an_empty_list_without_a_link(tagged: Repository) -> None:
    answer = tagged.get("tags/list", query=[("n", "0")]).expect(200)
    document = answer.json()
    assert isinstance(document, dict)
    assert document["tags"] == []
    assert answer.header("Link") is None


@pytest.mark.parametrize("n", ["-1", "many", "1.5"])
def test_n_that_is_no_number_is_refused(tagged: Repository, n: str) -> None:
    tagged.get("tags/list", query=[("n", n)]).expect(400)


def test_huge_n_gives_the_whole_list_or_its_pages(tagged: Repository) -> None:
    assert [tag for page in pages_of(tagged, [("n", "1000000000000")]) for tag in page] == list(NAMES)


def test_repository_without_tags(repository: Repository) -> None:
    repository.get("tags/list").expect(200, 404)
    made = artifact()
    made.push(repository)
    assert repository.tags() == []


def test_deleted_tag_leaves_the_others(tagged: Repository) -> None:
    tagged.delete("manifests/latest").expect(202)
    check_absent(tagged, "manifests/latest")
    assert tagged.tags() == [name for name in NAMES if name != "latest"]
    tagged.delete("manifests/latest").refused(404, "MANIFEST_UNKNOWN")


def test_unknown_manifest_is_not_found(repository: Repository) -> None:
    made = artifact()
    check_absent(repository, "manifests/missing")
    check_absent(repository, f"manifests/{made.digest}")
    made.push(repository)
    check_absent(repository, "manifests/missing")
    for reference in ("missing", artifact().digest):
        repository.delete(f"manifests/{reference}").refused(404, "MANIFEST_UNKNOWN")


def test_tag_of_one_repository_is_not_seen_in_another(registry: Registry) -> None:
    one, other = registry.new_repository("one"), registry.new_repository("other")
    made = artifact()
    for repository, tag in ((one, "only-in-one"), (other, "only-in-other")):
        made.push(repository)
        repository.put_manifest(tag, made.content, made.media_type).expect(201)
    assert (one.tags(), other.tags()) == (["only-in-one"], ["only-in-other"])
    check_absent(other, "manifests/only-in-one")


def push_some(registry: Registry, count: int, made: Made) -> list[str]:
    """Push the manifest into new repositories and return their names in order."""
    names = []
    for _ in range(count):
        repository = registry.new_repository("catalog")
        made.push(repository)
        repository.put_manifest("v1", made.content, made.media_type).expect(201)
        names.append(repository.name)
    return sorted(names)


def test_catalog_lists_repositories_in_order_and_in_pages(registry: Registry) -> None:
    wanted = push_some(registry, 3, artifact())
    found: list[str] = []
    answer = registry.client.request("GET", "/v2/_catalog", query=[("n", "2")]).expect(200)
    while True:
        document = answer.json()
        assert isinstance(document, dict)
        assert len(document["repositories"]) <= 2
        found += document["repositories"]
        page = next_page_of(answer)
        if page is None:
            break
        answer = registry.client.request("GET", page).expect(200)
    assert set(wanted) <= set(found)
    assert found == sorted(set(found))
    query = [("n", "2"), ("last", wanted[0])]
    document = registry.client.request("GET", "/v2/_catalog", query=query).expect(200).json()
    assert isinstance(document, dict)
    assert document["repositories"][0] == found[found.index(wanted[0]) + 1]


def test_root_says_that_the_registry_is_there(registry: Registry) -> None:
    answer = registry.client.request("GET", "/v2/").expect(200)
    assert answer.header("Docker-Distribution-Api-Version") == "registry/2.0", answer
