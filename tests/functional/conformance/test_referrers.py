"""Subjects and their referrers: who names whom, in either order, filtered, in pages, and gone when deleted."""

from __future__ import annotations

import pytest

from tests.functional.conformance.content import (
    ARTIFACT_ONE,
    ARTIFACT_TWO,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Made,
    artifact,
    check_life,
    check_pullable,
    digest_of,
    image,
    index,
    noise,
)
from tests.support.registry_client import Answer, Query, Repository, next_page_of

BOTH = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


def entries_of(answer: Answer) -> list[dict[str, object]]:
    """Return the descriptors of a page of referrers, after checking the page itself."""
    assert answer.header("Content-Type") == OCI_INDEX, answer
    document = answer.json()
    assert isinstance(document, dict)
    assert document["schemaVersion"] == 2
    assert document["mediaType"] == OCI_INDEX
    entries = document["manifests"]
    assert isinstance(entries, list), answer
    return entries


def referrers_of(repository: Repository, digest: str, query: Query = ()) -> dict[str, dict[str, object]]:
    """Return all referrers by digest, over all pages."""
    answer = repository.get(f"referrers/{digest}", query=query).expect(200)
    found = {str(entry["digest"]): entry for entry in entries_of(answer)}
    while page := next_page_of(answer):
        answer = repository.client.request("GET", page).expect(200)
        found |= {str(entry["digest"]): entry for entry in entries_of(answer)}
    return found


def check_referrers(repository: Repository, digest: str, wanted: list[Made], query: Query = ()) -> None:
    """Check that exactly these manifests are listed, each by its full descriptor."""
    found = referrers_of(repository, digest, query)
    assert set(found) == {made.digest for made in wanted}
    for made in wanted:
        assert found[made.digest] == {**made.descriptor, **made.reported}


def push_with_subject(repository: Repository, made: Made, subject: str, tag: str | None = None) -> None:
    """Push the manifest by digest, then by tag if there is one; both must be answered with the subject."""
    made.push(repository)
    for reference in (made.digest, *([tag] if tag else [])):
        answer = repository.put_manifest(reference, made.content, made.media_type).expect(201)
        assert answer.header("OCI-Subject") == subject, answer


@BOTH
def test_artifacts_with_a_subject_are_its_referrers(repository: Repository, algorithm: str) -> None:
    subject = image(algorithm=algorithm)
    subject.push(repository)
    plain = image(algorithm=algorithm, extra={"subject": subject.descriptor})
    one = artifact(subject=subject, annotations={"org.example.note": "hello"}, algorithm=algorithm)
    two = artifact(subject=subject, artifact_type=ARTIFACT_TWO, algorithm=algorithm)
    push_with_subject(repository, plain, subject.digest)
    for made, tag in ((one, "one"), (two, "two")):
        push_with_subject(repository, made, subject.digest, tag if algorithm == "sha256" else None)
    check_referrers(repository, subject.digest, [plain, one, two])
    assert plain.reported["artifactType"] == OCI_CONFIG


def test_index_with_a_subject_is_a_referrer(repository: Repository) -> None:
    subject = index([image(), image()])
    subject.push(repository)
    annotations = {"org.example.note": "hello"}
    typed = index([artifact()], subject=subject, artifact_type=ARTIFACT_ONE, annotations=annotations)
    untyped = index([artifact()], subject=subject, annotations=annotations)
    for made in (typed, untyped):
        push_with_subject(repository, made, subject.digest, "tagged")
    check_referrers(repository, subject.digest, [typed, untyped])
    # Distribution specification 1.1, "Listing Referrers": an index without artifactType is listed without one.
    assert "artifactType" not in referrers_of(repository, subject.digest)[untyped.digest]


def test_filter_by_artifact_type(repository: Repository) -> None:
    subject = image()
    subject.push(repository)
    plain = image(extra={"subject": subject.descriptor})
    one, two = artifact(subject=subject), artifact(subject=subject, artifact_type=ARTIFACT_TWO)
    untyped = index([artifact()], subject=subject)
    for made in (plain, one, two, untyped):
        push_with_subject(repository, made, subject.digest)
    for kind, wanted in ((ARTIFACT_ONE, [one]), (ARTIFACT_TWO, [two]), (OCI_CONFIG, [plain]), ("application/none", [])):
        query = [("artifactType", kind)]
        answer = repository.get(f"referrers/{subject.digest}", query=query).expect(200)
        applied = [name.strip() for value in answer.all_headers("OCI-Filters-Applied") for name in value.split(",")]
        assert applied == ["artifactType"], answer
        check_referrers(repository, subject.digest, wanted, query)
    assert repository.get(f"referrers/{subject.digest}").header("OCI-Filters-Applied") is None


@BOTH
def test_subject_that_is_missing_is_no_error(repository: Repository, algorithm: str) -> None:
    descriptor = {"mediaType": OCI_MANIFEST, "digest": digest_of(noise(20), algorithm), "size": 123}
    made = artifact(subject=descriptor)
    push_with_subject(repository, made, str(descriptor["digest"]), "tagged")
    check_pullable(repository, made, [made.digest, "tagged"])
    check_referrers(repository, str(descriptor["digest"]), [made])
    repository.head(f"manifests/{descriptor['digest']}").expect(404)


def test_referrer_pushed_before_its_subject_is_found(repository: Repository) -> None:
    subject = image()
    made = artifact(subject=subject)
    push_with_subject(repository, made, subject.digest)
    subject.push(repository)
    check_referrers(repository, subject.digest, [made])


def test_manifest_without_subject_is_answered_without_one(repository: Repository) -> None:
    made = image()
    made.push_blobs(repository)
    assert repository.put_manifest("v1", made.content, made.media_type).expect(201).header("OCI-Subject") is None


@BOTH
def test_nothing_refers_to_what_is_unknown(repository: Repository, algorithm: str) -> None:
    # Never 404: a client would fall back to the referrers tag schema.
    digest = digest_of(noise(20), algorithm)
    check_referrers(repository, digest, [])
    image().push(repository)
    check_referrers(repository, digest, [])


def test_deleted_referrer_is_listed_no_more(repository: Repository) -> None:
    subject = image()
    subject.push(repository)
    one, two = artifact(subject=subject), artifact(subject=subject)
    for made in (one, two):
        push_with_subject(repository, made, subject.digest)
    repository.delete(f"manifests/{one.digest}").expect(202)
    check_referrers(repository, subject.digest, [two])


def test_deleting_the_subject_keeps_its_referrers(repository: Repository) -> None:
    # The specification leaves this open; what was not deleted stays, and comes into use when the subject is pushed again.
    subject = image()
    subject.push(repository)
    made = artifact(subject=subject)
    push_with_subject(repository, made, subject.digest)
    repository.delete(f"manifests/{subject.digest}").expect(202)
    check_pullable(repository, made, [made.digest])
    check_referrers(repository, subject.digest, [made])


def test_pushing_a_referrer_again_lists_it_once(repository: Repository) -> None:
    subject = image()
    subject.push(repository)
    made = artifact(subject=subject)
    for _ in range(3):
        push_with_subject(repository, made, subject.digest, "tagged")
    assert len(entries_of(repository.get(f"referrers/{subject.digest}").expect(200))) == 1


def test_referrers_of_referrers(repository: Repository) -> None:
    subject = image()
    signature = artifact(subject=subject)
    countersignature = artifact(subject=signature)
    for made in (subject, signature, countersignature):
        made.push(repository)
    check_referrers(repository, subject.digest, [signature])
    check_referrers(repository, signature.digest, [countersignature])


def test_referrers_belong_to_their_repository(repository: Repository) -> None:
    other = Repository(client=repository.client, name=f"{repository.name}/other")
    subject = image()
    made = artifact(subject=subject)
    for one in (subject, made):
        one.push(repository)
    subject.push(other)
    check_referrers(repository, subject.digest, [made])
    check_referrers(other, subject.digest, [])


def test_many_referrers_come_completely(repository: Repository) -> None:
    subject = image()
    subject.push(repository)
    wanted = []
    # Annotations make the list longer than the 4 MiB that a client takes as one manifest.
    for _ in range(12):
        made = artifact(subject=subject, annotations={"org.example.long": "A" * 400_000})
        made.push(repository)
        wanted.append(made)
    check_referrers(repository, subject.digest, wanted)
    answer = repository.get(f"referrers/{subject.digest}").expect(200)
    assert len(answer.body) <= 4 * 1024 * 1024


def test_filter_holds_on_every_page(repository: Repository) -> None:
    subject = image()
    subject.push(repository)
    wanted = []
    for number in range(24):
        kind = ARTIFACT_ONE if number % 2 else ARTIFACT_TWO
        made = artifact(subject=subject, artifact_type=kind, annotations={"org.example.long": "A" * 400_000})
        made.push(repository)
        wanted += [made] if kind == ARTIFACT_ONE else []
    check_referrers(repository, subject.digest, wanted, [("artifactType", ARTIFACT_ONE)])


def test_artifact_with_subject_lives_from_push_to_delete(repository: Repository) -> None:
    subject = image()
    subject.push(repository)
    check_life(repository, artifact(subject=subject), "signature")
    check_referrers(repository, subject.digest, [])
