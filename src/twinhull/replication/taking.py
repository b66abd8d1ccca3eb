"""What arrives from one peer brought into the database, and told to the rest of the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

from twinhull.kit.errors import ProtocolError
from twinhull.metadata.store import Store
from twinhull.records.change import Change, VersionVector
from twinhull.replication.apply import Applied, Held, PartOfAll, apply_changes, apply_page
from twinhull.replication.protocol import SnapshotPage
from twinhull.replication.threads import in_thread, to_its_end


class Receiver(Protocol):
    """What the rest of the agent does with what arrives. Called on the event loop; must not wait."""

    def applied(self, node: str, changes: list[Change], vector: VersionVector) -> None:
        """Take note that changes are in the database now, and with them everything up to this vector."""
        ...

    def upload_grew(self, node: str, upload_id: str) -> None:
        """Take note that a peer's upload can be followed."""
        ...

    def upload_ended(self, node: str, upload_id: str, digest: str | None, size: int) -> None:
        """Take note that a peer's upload became a blob, or was given up."""
        ...

    def inline_blob(self, digest: str, content: bytes) -> None:
        """Keep a small blob that came with the stream."""
        ...

    def vector(self) -> VersionVector:
        """Return what this node has applied, with all that `applied` does about it done."""
        ...

    def linked(self) -> list[str]:
        """Return the nodes this node hears directly."""
        ...

    def missing_bytes(self) -> int:
        """Return how many bytes of blobs this node lacks."""
        ...

    async def check_own_past(self, node: str, vector: VersionVector) -> None:
        """Make sure that a peer knows no more of this node's changes than this node does.

        Raises Unavailable when it does: this node writes under another origin from then on, and greets anew.
        """
        ...

    def removed(self, node: str) -> None:
        """Leave alone a node that is no member any more."""
        ...

    def turned_away(self, node: str) -> None:
        """Find out whether this node was removed: a peer says that it is no member."""
        ...

    def state_changed(self) -> None:
        """Recompute what depends on the state of all pullers."""
        ...


class Taking:
    """Applies what one peer sends, in the order in which it comes. Used on the event loop; the database waits in threads."""

    def __init__(self, node: str, store: Store, receiver: Receiver, executor: Executor) -> None:
        """Take whose changes they are, where they go, and who is told."""
        self._node = node
        self._store = store
        self._receiver = receiver
        self._executor = executor
        self.changes_applied = 0
        self._held: Mapping[str, Held] = {}
        self._seen: VersionVector = {}
        # Up to which kind and key the present snapshot has come.
        self._after = ("", "")
        self._page_number = 0
        # What was applied last and why no more could be, and the page of a snapshot that could not be taken whole.
        self._last: Applied | None = None
        self._incomplete: Applied | None = None

    def reasons(self) -> dict[str, str]:
        """Return the origins whose next change can't be taken, and why."""
        have = self._receiver.vector() if self._held else {}
        # What could not be taken from here may have come from another peer.
        return {origin: held.reason for origin, held in self._held.items() if have.get(origin, 0) <= held.seq}

    def begin(self, vector: VersionVector) -> None:
        """Note what the peer had when the stream began: what it has seen and does not send in a snapshot is gone."""
        self._seen, self._after, self._page_number = vector, ("", ""), 0

    async def changes(self, changes: list[Change]) -> VersionVector:
        """Apply changes, and return what this node has then; `require_all` says afterwards whether all could be kept."""
        # One transaction for all that are waiting: one fsync, however fast the peer writes.
        self._last = await to_its_end(self._apply(partial(apply_changes, self._store, changes, self._held)))
        self.changes_applied += len(self._last.changes)
        self._held = self._last.held
        return self._last.vector

    def require_all(self) -> None:
        """Raise what kept this node from keeping the last changes, such as a full disk; what is held back is no such thing."""
        if self._last is not None:
            self._last.require_all()

    async def page(self, page: SnapshotPage) -> VersionVector:
        """Merge a page of a snapshot, and return what this node has then.

        A snapshot says all that there is, in order: what this node has between two of its records, and the peer has seen, was
        deleted so long ago that nobody remembers the deletion, and goes here too.

        Raises SnapshotRefused at the last page if there was a record in any of them that can't be taken, and ProtocolError for
        a page that is not the next one: what is on those between would be taken for gone.
        """
        self._require_next(page)
        if self._incomplete is not None and page.vector is not None:
            self._incomplete.require_all()
        part = PartOfAll(self._after, self._seen)
        applied = await to_its_end(self._apply(partial(apply_page, self._store, page, part), page.vector or {}))
        self._after = (page.records[-1].kind, page.records[-1].key) if page.vector is None and page.records else ("", "")
        if applied.failure is not None:
            self._incomplete = applied
        return applied.vector

    def _require_next(self, page: SnapshotPage) -> None:
        is_last = page.vector is not None
        if page.number not in (0, self._page_number + 1) or (is_last and self._after == ("", "")):
            raise ProtocolError(f"page {page.number} of a snapshot came when {self._page_number + 1} was due")
        self._page_number = 0 if is_last else self._page_number + 1

    def end(self) -> None:
        """Forget what was held back: on the next stream it comes again."""
        self._held, self._last, self._incomplete = {}, None, None

    async def _apply(self, action: Callable[[], Applied], reached: VersionVector | None = None) -> Applied:
        applied = await in_thread(self._executor, action)
        self._receiver.applied(self._node, applied.changes, vector_of(applied.changes) if reached is None else reached)
        return applied


def vector_of(changes: list[Change]) -> VersionVector:
    """Return the vector that the changes reach."""
    vector: VersionVector = {}
    for change in changes:
        vector[change.origin] = max(change.seq, vector.get(change.origin, 0))
    return vector
