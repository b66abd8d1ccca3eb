"""What can be replicated is listed in pages: artifacts with their tags and labels, and not what belongs to them."""

from __future__ import annotations

from typing import Final

from tests.support.metadata import manifest_fields, push
from twinhull.catalog.documents import attach_label, create_document, existing_document
from twinhull.metadata.replicable import Replicable, find_replicable, replicables_page
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import LABEL, MANIFEST, PROJECT, TAG, content_key, tag_key

APP: Final = "team/app"
SIGNATURE: Final = "sha256:" + "5" * 64
DEEPER: Final = "sha256:" + "6" * 64


def _filled(transaction: Transaction) -> list[str]:
    transaction.create(PROJECT, "team", {"owner": "admin"})
    digests = [push(transaction, text.encode(), repository=APP, tag=f"tag-of-{text}") for text in ("a", "b", "c", "d", "e")]
    push(transaction, b"elsewhere", repository="team/other", tag="v1")
    for digest, subject in ((SIGNATURE, digests[0]), (DEEPER, SIGNATURE)):
        fields = {**manifest_fields(), "subject": subject, "accessory_type": "signature.notation"}
        transaction.create(MANIFEST, content_key(APP, digest), fields, number=transaction.next_id(MANIFEST))
    target = {"digest": digests[1], "immutable": False, "pushed_ms": 1, "pushed_by": "a"}
    transaction.create(TAG, tag_key(APP, "another"), {"target": target}, number=transaction.next_id(TAG))
    label = existing_document(transaction, LABEL, create_document(transaction, LABEL, {}, name="signed off"))
    attach_label(transaction, APP, digests[2], label)
    return digests


def test_pages_follow_one_another_and_hold_what_policies_look_at(store: Store) -> None:
    with store.write() as transaction:
        digests = _filled(transaction)
    listed: list[Replicable] = []
    with store.read() as connection:
        while page := replicables_page(connection, APP, listed[-1].digest if listed else "", 2):
            assert len(page) <= 2
            listed += page
    assert [one.digest for one in listed] == sorted(digests)
    by_digest = {one.digest: one for one in listed}
    assert by_digest[digests[0]].tags == ("tag-of-a",)
    assert by_digest[digests[1]].tags == ("another", "tag-of-b")
    assert by_digest[digests[2]].labels == {"signed off"}
    assert by_digest[digests[3]].labels == frozenset()


def test_what_belongs_to_an_artifact_leads_to_it(store: Store) -> None:
    with store.write() as transaction:
        digests = _filled(transaction)
    with store.read() as connection:
        for digest in (digests[0], SIGNATURE, DEEPER):
            found = find_replicable(connection, APP, digest)
            assert found is not None
            assert found.digest == digests[0]
        assert find_replicable(connection, APP, "sha256:" + "0" * 64) is None
