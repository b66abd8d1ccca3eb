"""The tag parameter: a manifest pushed by digest under many tags at once."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import Made, check_absent, check_pullable, image, index
from tests.support.registry_client import Answer, Repository

BOTH = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


def tags_of(answer: Answer) -> list[str]:
    """Return the tags that the answer says were accepted."""
    return sorted(tag.strip() for value in answer.all_headers("OCI-Tag") for tag in value.split(","))


def push(repository: Repository, made: Made, tags: list[str]) -> Answer:
    """Push the manifest, whose blobs and children are there, under these tags."""
    return repository.put_manifest(made.digest, made.content, made.media_type, query=[("tag", tag) for tag in tags])


@BOTH
def test_every_manifest_of_an_index_gets_its_tags(repository: Repository, algorithm: str) -> None:
    made = index([image(algorithm=algorithm), image(algorithm=algorithm)], algorithm=algorithm)
    made.push_blobs(repository)
    wanted = {}
    for number, one in enumerate(made.everything()):
        tags = [f"m{number}", f"n{number}"]
        answer = push(repository, one, tags).expect(201)
        assert tags_of(answer) == tags, answer
        assert answer.header("Docker-Content-Digest") == one.digest, answer
        wanted[number] = (one, tags)
    assert repository.tags() == sorted(tag for _, tags in wanted.values() for tag in tags)
    for one, tags in wanted.values():
        check_pullable(repository, one, [one.digest, *tags])


@BOTH
def test_tagged_manifest_lives_from_push_to_delete(repository: Repository, algorithm: str) -> None:
    made = image(algorithm=algorithm)
    made.push_blobs(repository)
    push(repository, made, ["one", "two"]).expect(201)
    repository.delete("manifests/one").expect(202)
    check_absent(repository, "manifests/one")
    check_pullable(repository, made, ["two", made.digest])
    repository.delete(f"manifests/{made.digest}").expect(202)
    check_absent(repository, "manifests/two")
    assert repository.tags() == []


def test_at_least_ten_tags_are_taken_at_once(repository: Repository) -> None:
    # Distribution specification, "Pushing Manifests": registries should support at least ten.
    made, tags = image(), [f"tag-{number:02}-{'x' * 100}" for number in range(10)]
    made.push_blobs(repository)
    assert tags_of(push(repository, made, tags).expect(201)) == tags
    assert repository.tags() == tags


def test_a_tag_twice_is_one_tag(repository: Repository) -> None:
    made = image()
    made.push_blobs(repository)
    assert set(tags_of(push(repository, made, ["same", "same"]).expect(201))) == {"same"}
    assert repository.tags() == ["same"]


def test_tag_moves_from_one_manifest_to_another(repository: Repository) -> None:
    first, second = image(), image(algorithm="sha512")
    for made in (first, second):
        made.push_blobs(repository)
        push(repository, made, ["moving"]).expect(201)
        check_pullable(repository, made, ["moving"])
    check_pullable(repository, first, [first.digest])


@pytest.mark.parametrize("bad", ["", ".hidden", "-dash", "x" * 129, "a/b", "a b", "a,b", "a\r\nX-Evil: 1", "käse"])
def test_one_invalid_tag_refuses_the_push(repository: Repository, bad: str) -> None:
    made = image()
    made.push_blobs(repository)
    answer = push(repository, made, ["good", bad]).expect(400)
    assert set(answer.codes) & {"TAG_INVALID", "MANIFEST_INVALID", "NAME_INVALID"}, answer
    assert answer.header("X-Evil") is None, answer
    for reference in ("good", made.digest):
        check_absent(repository, f"manifests/{reference}")


@pytest.mark.parametrize("count", [150, 1000])
def test_too_many_tags_are_refused_whole_or_taken_whole(repository: Repository, count: int) -> None:
    made, tags = image(), [f"tag-{number:04}" for number in range(count)]
    made.push_blobs(repository)
    answer = push(repository, made, tags).expect(201, 400, 413, 414, 431)
    if answer.status == 201:
        assert tags_of(answer) == tags
    else:
        check_absent(repository, f"manifests/{made.digest}")


def test_push_without_tags_says_nothing_of_tags(repository: Repository) -> None:
    made = image()
    made.push_blobs(repository)
    assert push(repository, made, []).expect(201).header("OCI-Tag") is None
