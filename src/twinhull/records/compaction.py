"""What may be forgotten: deleted things that nobody can bring back any more. Pure.

Each node says in the log, now and then, what it has applied. Whoever has read that in the log has read all that the node
wrote before; and all that it writes later was written with those changes in sight. So once every member has said that it
has applied a deletion, no write that had not seen it is still on its way to whoever has read that, and the deletion may be
dropped there. Who makes the thing anew later says that it has seen everything dropped (`forgotten_as`): another node may
have the deletion still.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twinhull.records.change import VersionVector, covers, node_of
from twinhull.records.kinds import NODE, PROGRESS
from twinhull.records.merge import Kind, Record, is_dead

# Who was a member is never forgotten: its slot must not be given to another.
_KEPT = frozenset({NODE.name, PROGRESS.name})


def stable_vector(members: Collection[str], told: Mapping[str, VersionVector], applied: VersionVector) -> VersionVector:
    """Return up to where every member had seen everything when it last said so; empty while that can't be told.

    `told` is what each node has said, by node; `applied` is what the asking node has applied.
    """
    if not members or not all(node in told for node in members):
        return {}
    for node in members:
        own = {origin: seq for origin, seq in told[node].items() if node_of(origin) == node}
        # What it said may have come here by another way than the log, ahead of what it wrote before.
        if not covers(applied, own):
            return {}
    origins = set.intersection(*(set(told[node]) for node in members))
    return {origin: min(told[node][origin] for node in members) for origin in sorted(origins)}


def is_droppable(kind: Kind, record: Record, stable: VersionVector, before_ms: int) -> bool:
    """Tell whether a record may be dropped: it is dead, nothing of it is younger, and no write to it is on its way."""
    if kind.name in _KEPT or not is_dead(kind, record):
        return False
    return covers(stable, record.context) and all(version.write.stamp.ms < before_ms for version in record.versions)


def forgotten_as(dropped: VersionVector) -> Record | None:
    """Return what stands for a record that is not there: it may be a deletion that was dropped; None if none ever was."""
    return Record(versions=(), context=dropped) if dropped else None
