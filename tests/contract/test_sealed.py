"""Sealed texts in records: found wherever they stand, and sealed anew without undoing anything."""

from __future__ import annotations

from tests.support.metadata import exchange
from twinhull.kit.clock import ManualClock
from twinhull.metadata.sealed import change_texts, records_with
from twinhull.metadata.store import Store
from twinhull.records.kinds import USER, WEBHOOK


def anew(text: str) -> str:
    """Seal with another key, so to speak."""
    return text.replace("old:", "new:")


def is_old(text: str) -> bool:
    """Tell whether the old key has sealed it."""
    return text.startswith("old:")


def test_sealed_texts_are_found_in_values_and_changed_there(store: Store) -> None:
    with store.write() as transaction:
        transaction.create(USER, "ann", {"cli_secret": "old:1", "email": "e"})
        transaction.create(USER, "bob", {"cli_secret": "new:2"})
        transaction.create(USER, "eve", {"cli_secret": "old:3"})
        transaction.delete(USER, "eve")
        transaction.create(WEBHOOK, "w", {"targets": [{"auth": "old:4", "address": "a"}]})
    with store.read() as connection:
        assert records_with(connection, is_old) == [(USER.name, "ann"), (WEBHOOK.name, "w")]
    with store.write() as transaction:
        assert change_texts(transaction, USER, "ann", anew)
        assert change_texts(transaction, WEBHOOK, "w", anew)
        assert not change_texts(transaction, USER, "bob", anew)
        assert transaction.values(USER, "ann") == {"cli_secret": "new:1", "email": "e"}
        assert transaction.values(WEBHOOK, "w") == {"targets": [{"auth": "new:4", "address": "a"}]}


def test_secret_that_is_changed_while_it_is_sealed_anew_elsewhere_stays_changed(
    store: Store, peer: Store, clock: ManualClock
) -> None:
    with store.write() as transaction:
        transaction.create(USER, "ann", {"cli_secret": "old:stolen", "email": "e"})
    exchange(store, peer)
    clock.advance(1)
    with peer.write() as transaction:
        transaction.put(USER, "ann", {"cli_secret": "old:fresh"})
    clock.advance(1)
    with store.write() as transaction:
        change_texts(transaction, USER, "ann", anew)
    exchange(store, peer)
    for one in (store, peer):
        with one.write() as transaction:
            values = transaction.values(USER, "ann")
            assert values is not None
            assert values["cli_secret"] == "old:fresh"
    # What is sealed with the old key still, and so is found and sealed anew the next time.
    with store.write() as transaction:
        assert change_texts(transaction, USER, "ann", anew)
    exchange(store, peer)
    with peer.write() as transaction:
        assert (transaction.values(USER, "ann") or {})["cli_secret"] == "new:fresh"
