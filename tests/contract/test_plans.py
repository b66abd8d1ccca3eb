"""What reads all records, or pages of them, does so along an index: no sorting in memory, however many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event

from tests.support.metadata import Opened
from twinhull.kit.clock import ManualClock
from twinhull.metadata import members
from twinhull.metadata.garbage import stored_blobs
from twinhull.metadata.store import Store
from twinhull.records.kinds import TAG


def page_of_blobs(store: Store) -> None:
    """Read a page of the blobs that records name."""
    with store.read() as connection:
        members.named_blobs_page(connection, "sha256:5", 10)


def how_many_blobs(store: Store) -> None:
    """Count all blobs that records name."""
    with store.read() as connection:
        stored_blobs(connection)


READS: dict[str, Callable[[Store], object]] = {
    "state root": Store.state_root,
    "bucket": lambda store: store.bucket(TAG.name, 3),
    "snapshot": lambda store: store.records_after(TAG.name, "a", 10),
    "blobs": page_of_blobs,
    "how many blobs": how_many_blobs,
}


@pytest.mark.parametrize("opened", ["sqlite"], indirect=True)
@pytest.mark.parametrize("read", READS)
def test_nothing_is_sorted_in_memory(opened: Opened, read: str) -> None:
    store = Store(opened.database, node="n", slot=0, clock=ManualClock())
    said: list[tuple[str, object]] = []
    with store.read() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *call: said.append((call[2], call[3])))
    READS[read](store)
    asked = [(statement, values) for statement, values in said if "FROM" in statement]
    assert asked
    with store.read() as connection:
        for statement, values in asked:
            plan = [row[3] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, values)]  # type: ignore[arg-type]
            # What two parts give is bounded before they are brought together.
            steps = plan[:-1] if "COMPOUND QUERY" in plan else plan
            assert not [step for step in steps if "TEMP B-TREE" in step], (statement, plan)
