"""Whether lists show an artifact follows from manifests and tags alone, in whatever order they came and went."""

from __future__ import annotations

import random
from typing import Final

from sqlalchemy import select

from tests.support.metadata import derived_rows
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.store import Store
from twinhull.metadata.tables.content import manifests
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MANIFEST, TAG, content_key, tag_key

APP: Final = "library/app"
IMAGE, CHILD, INDEX, SIGNATURE, SBOM = (f"sha256:{letter * 64}" for letter in "abcde")
SIGNED_BY_TAG: Final = f"sha256-{'a' * 64}.sig"


def manifest(transaction: Transaction, digest: str, **fields: object) -> None:
    """Write a manifest down."""
    transaction.create(MANIFEST, content_key(APP, digest), {"media_type": "m", "pushed_ms": 1, **fields})


def tag(transaction: Transaction, name: str, digest: str) -> None:
    """Let a tag name a manifest."""
    write = transaction.create if transaction.values(TAG, tag_key(APP, name)) is None else transaction.put
    write(TAG, tag_key(APP, name), {"target": {"digest": digest, "pushed_ms": 1}})


def listed(store: Store) -> set[str]:
    """Return what lists show."""
    with store.read() as connection:
        return {row[0] for row in connection.execute(select(manifests.c.digest).where(manifests.c.listed))}


def belonging(store: Store) -> dict[str, str]:
    """Return what belongs to which artifact."""
    with store.read() as connection:
        query = select(manifests.c.digest, manifests.c.accessory_of).where(manifests.c.accessory_of != "")
        return {row[0]: row[1] for row in connection.execute(query)}


def test_image_of_an_index_is_listed_only_while_a_tag_names_it_or_the_index_is_away(store: Store) -> None:
    with store.write() as transaction:
        manifest(transaction, CHILD)
        manifest(transaction, INDEX, children=[CHILD])
    assert listed(store) == {INDEX}
    with store.write() as transaction:
        tag(transaction, "v1", CHILD)
    assert listed(store) == {INDEX, CHILD}
    with store.write() as transaction:
        tag(transaction, "v1", INDEX)
    assert listed(store) == {INDEX}
    with store.write() as transaction:
        transaction.delete(MANIFEST, content_key(APP, INDEX))
    assert listed(store) == {CHILD}


def test_accessory_is_listed_only_while_its_subject_is_not_there(store: Store) -> None:
    with store.write() as transaction:
        manifest(transaction, SBOM, subject=IMAGE)
        tag(transaction, "sbom", SBOM)
    assert listed(store) == {SBOM}
    with store.write() as transaction:
        manifest(transaction, IMAGE)
    assert (listed(store), belonging(store)) == ({IMAGE}, {SBOM: IMAGE})
    with store.write() as transaction:
        transaction.delete(MANIFEST, content_key(APP, IMAGE))
    assert listed(store) == {SBOM}


def test_cosigns_tag_makes_a_signature_an_accessory_and_nothing_else(store: Store) -> None:
    with store.write() as transaction:
        manifest(transaction, IMAGE)
        manifest(transaction, SIGNATURE, accessory_type="signature.cosign")
        manifest(transaction, SBOM)
        tag(transaction, SIGNED_BY_TAG, SBOM)
    assert (listed(store), belonging(store)) == ({IMAGE, SIGNATURE, SBOM}, {})
    with store.write() as transaction:
        tag(transaction, SIGNED_BY_TAG, SIGNATURE)
    assert (listed(store), belonging(store)) == ({IMAGE, SBOM}, {SIGNATURE: IMAGE})
    with store.write() as transaction:
        transaction.delete(TAG, tag_key(APP, SIGNED_BY_TAG))
    assert (listed(store), belonging(store)) == ({IMAGE, SIGNATURE, SBOM}, {})


def test_standing_is_the_same_after_any_history_as_when_made_anew(store: Store) -> None:
    chance = random.Random(7)
    facts: dict[str, dict[str, object]] = {
        IMAGE: {},
        CHILD: {},
        INDEX: {"children": [CHILD, IMAGE]},
        SIGNATURE: {"accessory_type": "signature.cosign"},
        SBOM: {"subject": INDEX},
    }
    for _ in range(60):
        with store.write() as transaction:
            for _ in range(chance.randint(1, 4)):
                digest = chance.choice([*facts])
                name = chance.choice(["v1", "v2", SIGNED_BY_TAG])
                key = content_key(APP, digest)
                step = chance.randrange(4)
                if step == 0 and transaction.values(MANIFEST, key) is None:
                    manifest(transaction, digest, **facts[digest])
                elif step == 1:
                    tag(transaction, name, digest)
                elif step == 2:
                    transaction.delete(TAG, tag_key(APP, name))
                else:
                    transaction.delete(MANIFEST, key)
        with store.read() as connection:
            before = derived_rows(connection)["manifests"]
        with store.write() as transaction:
            rebuild_projections(transaction.connection)
        with store.read() as connection:
            assert derived_rows(connection)["manifests"] == before
