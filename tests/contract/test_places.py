"""Where a digest is named, and what belongs to it there."""

from __future__ import annotations

from tests.support.metadata import manifest_fields
from twinhull.metadata.places import Place, places_of
from twinhull.metadata.store import Store
from twinhull.records.kinds import BLOB, MANIFEST, content_key

LAYER, OTHER, CHILD, INDEX, ALONE = ("sha256:" + character * 64 for character in "12345")


def test_place_names_all_records_and_blobs_that_it_takes_to_pull_it(store: Store) -> None:
    with store.write() as transaction:
        for repository in ("p/a", "p/b"):
            fields = manifest_fields(blobs={LAYER: 10, OTHER: 20})
            transaction.create(MANIFEST, content_key(repository, CHILD), fields, number=transaction.next_id(MANIFEST))
        index = manifest_fields(children=(CHILD,))
        transaction.create(MANIFEST, content_key("p/a", INDEX), index, number=transaction.next_id(MANIFEST))
        # As a push leaves it: the layer has a link of its own, too.
        transaction.create(BLOB, content_key("p/a", LAYER), {"size": 10, "linked_ms": 1})
        transaction.create(BLOB, content_key("p/c", ALONE), {"size": 7, "linked_ms": 1})
    with store.read() as connection:
        whole = Place(
            repository="p/a",
            records=[(MANIFEST.name, content_key("p/a", CHILD)), (MANIFEST.name, content_key("p/a", INDEX))],
            blobs=[(LAYER, 10), (OTHER, 20)],
        )
        assert places_of(connection, INDEX) == [whole]
        assert [place.repository for place in places_of(connection, CHILD)] == ["p/a", "p/b"]
        assert [(place.repository, place.records, place.blobs) for place in places_of(connection, LAYER)] == [
            (repository, [(MANIFEST.name, content_key(repository, CHILD))], [(LAYER, 10)]) for repository in ("p/a", "p/b")
        ]
        assert places_of(connection, ALONE) == [
            Place(repository="p/c", records=[(BLOB.name, content_key("p/c", ALONE))], blobs=[(ALONE, 7)])
        ]
        assert places_of(connection, "sha256:" + "9" * 64) == []
