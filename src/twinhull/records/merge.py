"""Records and how two versions of history become one: pure, commutative, associative and idempotent.

A record is a dotted version vector set: the concurrent versions of one thing, each named by its dot (origin, seq), and
a causal context that says which dots were seen. Sources: Preguiça, Baquero et al., "Dotted Version Vectors" (2010);
Almeida, Baquero et al., "Scalable and Accurate Causality Tracking for Eventually Consistent Stores" (2014/2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Final

import msgspec

from twinhull.kit.hlc import Stamp

# Per origin the highest seq that was seen. Seqs of one origin count up and each record carries the whole state, so
# having seen an origin's seq n of a record means having seen everything that origin did to it up to n.
SeenSeqs = dict[str, int]
Context = Mapping[str, int]
# What a field can hold: whatever msgpack can carry.
Value = object


class Write(msgspec.Struct, frozen=True, array_like=True):
    """One write: when and where it was made (its dot is (stamp.origin, seq)), and what its writer had seen."""

    stamp: Stamp
    seq: int
    context: SeenSeqs

    def was_seen_by(self, context: Context) -> bool:
        """Tell whether a context covers this write's dot."""
        return context.get(self.stamp.origin, 0) >= self.seq

    @property
    def dot(self) -> tuple[str, int]:
        """The write's name: its origin and that origin's sequence number."""
        return self.stamp.origin, self.seq


class Field(msgspec.Struct, frozen=True, array_like=True):
    """A field's value and the write that set it."""

    value: Value
    write: Write


class Version(msgspec.Struct, frozen=True, array_like=True):
    """The whole record as one write left it. A deletion keeps the fields and is marked."""

    write: Write
    deleted: bool
    fields: dict[str, Field]
    # Per origin, its last deletion of this thing that the writer had seen, this version's own included.
    deletions: SeenSeqs = {}


class Record(msgspec.Struct, frozen=True):
    """All concurrent versions of one thing, in the order of their dots, and the context that covers them."""

    versions: tuple[Version, ...]
    context: SeenSeqs


# A resolver picks from concurrent values of one field; it gets at least two, in the order of their stamps.
Resolver = Callable[[list[Field]], Value]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """The merge rules of one kind of record."""

    name: str
    # On a concurrent delete and write: True keeps the thing dead, False lets the write bring it back.
    delete_wins: bool
    # Fields whose concurrent values are not settled by "the latest wins".
    resolvers: Mapping[str, Resolver] = {}
    # Fields whose concurrent values are no conflict between people: joined ones, and facts about the write itself.
    quiet: frozenset[str] = frozenset()
    # Fields whose values are never shown, not even as the candidates of a conflict.
    secret: frozenset[str] = frozenset()
    # Keys of records all of whose values are never shown.
    secret_keys: frozenset[str] = frozenset()

    def hides(self, key: str, field: str) -> bool:
        """Tell whether a value must not be shown."""
        return field in self.secret or key in self.secret_keys


def latest(candidates: list[Field]) -> Value:
    """Resolve to the value with the latest stamp."""
    return candidates[-1].value


def earliest(candidates: list[Field]) -> Value:
    """Resolve to the value with the earliest stamp."""
    return candidates[0].value


def weakest(rank: Callable[[Value], int]) -> Resolver:
    """Make a resolver that picks the value of the lowest rank; of equal ones the latest."""

    def resolve(candidates: list[Field]) -> Value:
        return min(reversed(candidates), key=lambda field: rank(field.value)).value

    return resolve


def greatest(candidates: list[Field]) -> Value:
    """Resolve to the greatest number or list of the candidates; one that is neither is less than any."""
    return max(candidates, key=lambda field: _order(field.value)).value


def _order(value: Value) -> tuple[bool, list[tuple[bool, int, str]]]:
    # What peers say may be anything, and must be comparable all the same.
    parts = value if isinstance(value, list) else [value] if isinstance(value, int) else []
    return bool(parts), [(isinstance(part, str), part if isinstance(part, int) else 0, str(part)) for part in parts]


def first_if_marked(is_marked: Callable[[Value], bool]) -> Resolver:
    """Make a resolver that picks the earliest value if any of them carries the mark, else the latest."""

    def resolve(candidates: list[Field]) -> Value:
        marked = any(is_marked(field.value) for field in candidates)
        return candidates[0].value if marked else candidates[-1].value

    return resolve


def union(candidates: list[Field]) -> Value:
    """Resolve sorted lists to the sorted list of all their elements."""
    joined: list[list[Value]] = []
    for field in candidates:
        if isinstance(field.value, list):
            joined.extend(element for element in field.value if element not in joined)
    return sorted(joined)


# -- reading a record ----------------------------------------------------------------------------------------------


def is_dead(kind: Kind, record: Record) -> bool:
    """Tell whether the record's thing is deleted under the kind's rule."""
    deletions = (version.deleted for version in record.versions)
    return any(deletions) if kind.delete_wins else all(deletions)


def candidates_of(kind: Kind, record: Record) -> dict[str, list[Field]]:
    """Return for each field the values that no other value's writer had seen, in the order of their stamps."""
    if len(record.versions) == 1:
        return {name: [field] for name, field in record.versions[0].fields.items()}
    by_name: dict[str, dict[tuple[str, int], Field]] = {}
    for version in _standing(kind, record):
        for name, field in version.fields.items():
            by_name.setdefault(name, {})[field.write.dot] = field
    return {name: _undominated(list(fields.values())) for name, fields in by_name.items()}


def _standing(kind: Kind, record: Record) -> Iterable[Version]:
    """Return the versions that have a say in the fields' values."""
    if is_dead(kind, record):
        return record.versions
    if not kind.delete_wins:
        return [version for version in record.versions if not version.deleted]
    # All of them live, but some may have been made anew after a deletion. What was written meanwhile to the thing that was
    # deleted has lost against the deletion, and must not creep into the new one of the same name.
    return [
        version
        for version in record.versions
        if not any(_lacks_deletions(version.deletions, other.deletions) for other in record.versions)
    ]


def _lacks_deletions(ours: Context, theirs: Context) -> bool:
    """Tell whether theirs has all of our deletions and more."""
    return ours != theirs and all(theirs.get(origin, 0) >= seq for origin, seq in ours.items())


def _undominated(fields: list[Field]) -> list[Field]:
    if len(fields) == 1:
        return fields
    kept = [
        field
        for field in fields
        if not any(field.write.was_seen_by(other.write.context) for other in fields if other is not field)
    ]
    return sorted(kept, key=lambda field: field.write.stamp)


def _resolve(kind: Kind, name: str, candidates: list[Field]) -> Value:
    if len(candidates) == 1:
        return candidates[0].value
    return kind.resolvers.get(name, latest)(candidates)


def values_of(kind: Kind, record: Record) -> dict[str, Value]:
    """Return the fields' values, concurrent ones resolved by the kind's rules."""
    return {name: _resolve(kind, name, fields) for name, fields in candidates_of(kind, record).items()}


class FieldConflict(msgspec.Struct, frozen=True, kw_only=True):
    """Concurrent values of one field that differ, in the order of their stamps, and the one that holds."""

    field: str
    winner: Value
    candidates: tuple[Field, ...]


def conflicts_of(kind: Kind, record: Record) -> list[FieldConflict]:
    """Return the fields for which concurrent writers wanted different values."""
    found = []
    for name, candidates in sorted(candidates_of(kind, record).items()):
        if name in kind.quiet or len(candidates) == 1:
            continue
        if any(field.value != candidates[0].value for field in candidates):
            winner = _resolve(kind, name, candidates)
            found.append(FieldConflict(field=name, winner=winner, candidates=tuple(candidates)))
    return found


# -- writing and merging -------------------------------------------------------------------------------------------


def created(record: Record | None, stamp: Stamp, seq: int, fields: Mapping[str, Value]) -> Record:
    """Return the record of a thing made anew, over the record of a dead one of the same name where there is one.

    It says something about every field, None where nothing is given, so that nothing of an earlier life shows through.
    """
    seen, deletions = _seen(record)
    earlier = _names(record) if record is not None else set()
    write = Write(stamp, seq, seen)
    complete = {name: Field(fields.get(name), write) for name in sorted({*earlier, *fields})}
    return Record(versions=(Version(write, deleted=False, fields=complete, deletions=deletions),), context=_next(seen, write))


def written(kind: Kind, record: Record | None, stamp: Stamp, seq: int, changed: Mapping[str, Value]) -> Record:
    """Return the record after a local write of some fields: one version that replaces all that were seen."""
    return _replaced(kind, record, stamp, seq, changed, deleted=False)


def deleted(kind: Kind, record: Record, stamp: Stamp, seq: int) -> Record:
    """Return the record after a local delete: its fields stay, so that a concurrent write can bring it back whole."""
    return _replaced(kind, record, stamp, seq, {}, deleted=True)


def _replaced(
    kind: Kind, record: Record | None, stamp: Stamp, seq: int, changed: Mapping[str, Value], *, deleted: bool
) -> Record:
    seen, deletions = _seen(record)
    write = Write(stamp, seq, seen)
    fields: dict[str, Field] = {}
    if record is not None:
        for name, candidates in candidates_of(kind, record).items():
            value = _resolve(kind, name, candidates)
            kept = next((field for field in reversed(candidates) if field.value == value), None)
            # A joined value is nobody's own: this write is the first to say it.
            fields[name] = kept if kept is not None else Field(value, write)
        # A field that only a version without a say has is gone; this write has seen it, and says so.
        fields.update({name: Field(None, write) for name in _names(record) if name not in fields})
    fields.update({name: Field(value, write) for name, value in changed.items()})
    if deleted:
        deletions = _next(deletions, write)
    return Record(versions=(Version(write, deleted, fields, deletions),), context=_next(seen, write))


def _names(record: Record) -> set[str]:
    """Return the names of all fields that any version has."""
    return {name for version in record.versions for name in version.fields}


def _seen(record: Record | None) -> tuple[SeenSeqs, SeenSeqs]:
    """Return which writes, and which deletions among them, somebody has seen who has seen the record."""
    if record is None:
        return {}, {}
    deletions: SeenSeqs = {}
    for version in record.versions:
        deletions = _joined(deletions, version.deletions)
    return record.context, deletions


def _next(seqs: SeenSeqs, write: Write) -> SeenSeqs:
    return {**seqs, write.stamp.origin: write.seq}


def _joined(ours: SeenSeqs, theirs: SeenSeqs) -> SeenSeqs:
    if not theirs:
        return ours
    return {origin: max(ours.get(origin, 0), theirs.get(origin, 0)) for origin in {*ours, *theirs}}


def merge(ours: Record, theirs: Record) -> Record:
    """Return the record that has seen what either side has seen.

    A version stays if the other side has it too, or has not seen it yet.
    """
    if ours == theirs:
        return ours
    our_dots = {version.write.dot: version for version in ours.versions}
    their_dots = {version.write.dot: version for version in theirs.versions}
    kept = {
        dot: version
        for mine, others, context in ((our_dots, their_dots, theirs.context), (their_dots, our_dots, ours.context))
        for dot, version in mine.items()
        if dot in others or not version.write.was_seen_by(context)
    }
    return Record(versions=tuple(kept[dot] for dot in sorted(kept)), context=_joined(ours.context, theirs.context))


# -- stored and sent form ------------------------------------------------------------------------------------------

_FORM: Final = 1


def encode(record: Record) -> bytes:
    """Return the record's bytes: msgpack of [form, context, versions], each write named once per version.

    A version is [writes, deleted, fields], and then its deletions where there are any. Equal records have equal bytes:
    contexts, fields and versions are sorted.
    """
    versions = []
    for version in record.versions:
        writes: dict[tuple[str, int], int] = {version.write.dot: 0}
        listed = [version.write]
        fields = {}
        for name in sorted(version.fields):
            field = version.fields[name]
            index = writes.setdefault(field.write.dot, len(listed))
            if index == len(listed):
                listed.append(field.write)
            fields[name] = (index, field.value)
        packed = [(*write.stamp, write.seq, _sorted(write.context)) for write in listed]
        deletions = (_sorted(version.deletions),) if version.deletions else ()
        versions.append((packed, version.deleted, fields, *deletions))
    return _ENCODER.encode((_FORM, _sorted(record.context), versions))


def _sorted(seqs: SeenSeqs) -> SeenSeqs:
    return dict(sorted(seqs.items())) if len(seqs) > 1 else seqs


def decode(encoded: bytes) -> Record:
    """Return the record of these bytes, or raise msgspec.DecodeError or ValueError if they are none."""
    form, context, packed_versions = _DECODER.decode(encoded)
    if form != _FORM:
        message = f"record form {form} is unknown to this release"
        raise ValueError(message)
    versions = []
    for packed in packed_versions:
        writes = [Write(Stamp(ms, counter, origin), seq, seen) for ms, counter, origin, seq, seen in packed.writes]
        if not all(index < len(writes) for index, _ in packed.fields.values()) or not writes[0].was_seen_by(context):
            message = "record names writes that it does not have"
            raise ValueError(message)
        fields = {name: Field(value, writes[index]) for name, (index, value) in packed.fields.items()}
        versions.append(Version(writes[0], packed.deleted, fields, packed.deletions))
    return Record(versions=tuple(versions), context=context)


# So that one more still fits into what databases call a big integer.
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_PackedWrite = tuple[_Count, _Count, str, _Count, dict[str, _Count]]


class _PackedVersion(msgspec.Struct, frozen=True, array_like=True):
    writes: Annotated[list[_PackedWrite], msgspec.Meta(min_length=1)]
    deleted: bool
    fields: dict[str, tuple[_Count, Value]]
    deletions: dict[str, _Count] = {}


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(
    tuple[int, dict[str, _Count], Annotated[list[_PackedVersion], msgspec.Meta(min_length=1)]]
)
