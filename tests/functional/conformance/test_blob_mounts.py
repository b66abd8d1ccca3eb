"""Mounting blobs across repositories: with a source, without one, and when there is nothing to mount."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import artifact, check_absent, check_blob, digest_of, noise
from tests.support.registry_client import Answer, Repository, location_of
from tests.support.topology import Registry

BOTH = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
SOURCE = pytest.mark.parametrize("named", [True, False], ids=["source-named", "source-not-named"])


def mount(repository: Repository, digest: str, source: Repository | None) -> Answer:
    """Ask for the blob to be mounted."""
    query = [("mount", digest), *([("from", source.name)] if source else [])]
    return repository.client.request("POST", repository.path("blobs/uploads/"), query=query)


@BOTH
@SOURCE
def test_blob_of_another_repository_is_mounted(registry: Registry, algorithm: str, *, named: bool) -> None:
    source, target, content = registry.new_repository("source"), registry.new_repository("target"), noise(512)
    digest = digest_of(content, algorithm)
    source.push_blob(content, digest).expect(201)
    answer = mount(target, digest, source if named else None).expect(201)
    assert answer.header("Docker-Content-Digest") == digest, answer
    assert location_of(answer).startswith(target.path("blobs/")), answer
    assert target.client.request("GET", location_of(answer)).expect(200).body == content
    check_blob(target, content, digest)


def test_mounted_blob_outlives_its_source(registry: Registry) -> None:
    source, target, content = registry.new_repository("source"), registry.new_repository("target"), noise(512)
    digest = digest_of(content)
    source.push_blob(content, digest).expect(201)
    mount(target, digest, source).expect(201)
    source.delete(f"blobs/{digest}").expect(202)
    check_absent(source, f"blobs/{digest}")
    check_blob(target, content, digest)


def test_blob_known_by_a_manifest_only_is_mounted(registry: Registry) -> None:
    source, target, made = registry.new_repository("source"), registry.new_repository("target"), artifact()
    made.push(source)
    for content in made.blobs:
        mount(target, digest_of(content), source).expect(201)
    target.put_manifest("mounted", made.content, made.media_type).expect(201)


@BOTH
@SOURCE
def test_mount_of_an_unknown_blob_opens_an_upload(registry: Registry, algorithm: str, *, named: bool) -> None:
    source, target, content = registry.new_repository("source"), registry.new_repository("target"), noise(512)
    digest = digest_of(content, algorithm)
    answer = mount(target, digest, source if named else None).expect(202)
    check_absent(target, f"blobs/{digest}")
    target.finish(location_of(answer), digest, content).expect(201)
    check_blob(target, content, digest)


def test_mount_of_a_blob_that_was_deleted_at_its_source_opens_an_upload(registry: Registry) -> None:
    source, target, content = registry.new_repository("source"), registry.new_repository("target"), noise(512)
    digest = digest_of(content)
    source.push_blob(content, digest).expect(201)
    source.delete(f"blobs/{digest}").expect(202)
    mount(target, digest, source).expect(202)
    check_absent(target, f"blobs/{digest}")


def test_mount_from_the_repository_itself_is_no_loss(registry: Registry) -> None:
    repository, content = registry.new_repository(), noise(512)
    repository.push_blob(content, digest_of(content)).expect(201)
    mount(repository, digest_of(content), repository).expect(201)
    check_blob(repository, content, digest_of(content))
