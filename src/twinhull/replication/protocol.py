"""What two masters say to each other on the stream: the frames, their encoding and their limits.

A node that wants a peer's changes dials it and sends Hello; the peer answers Welcome and then sends what the other lacks,
in order. Frames are msgpack, tagged by type; fields that a newer release adds are ignored by an older one.

A greeting says from which to which version of the protocol its sender speaks; the newest that both speak is spoken. A version
is one more when an older node would not do with what a newer one says: a new kind of frame, or a field that it must not ignore.
tests/data/wire/ holds each version's frames as they were sent.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from twinhull.kit.errors import ProtocolError
from twinhull.records.change import Change, VersionVector

OLDEST_PROTOCOL: Final = 1
# Since 2 a subscriber says which origins it holds up (`held`), and the source sends their next changes again.
NEWEST_PROTOCOL: Final = 2
# Says that a stream was closed because of what the other side sent (RFC 6455, "Reserved Status Code Ranges": 4000 to 4999).
CLOSED_FOR_CAUSE: Final = 4000
# What a connection's TLS greeting asks for (ALPN, RFC 7301) that is to carry bytes of blobs, and nothing else.
BULK_PROTOCOL: Final = "twinhull-bulk/1"
# A frame holds up to this many changes; manifests of 4 MiB may travel in it.
CHANGES_PER_FRAME_MAX: Final = 200
FRAME_BYTES_SOFT: Final = 1024 * 1024
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
# Blobs up to this size travel inside the stream instead of in a request of their own.
INLINE_BLOB_BYTES_MAX: Final = 128 * 1024
# An upload is followed by the peers once it is longer than this; what is shorter is sent when it is whole.
FOLLOWED_UPLOAD_BYTES_MIN: Final = 1024 * 1024


# What becomes the name of a file, or part of a request, is looked at before anything is made of it.
_UploadId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")]
_DigestText = Annotated[str, msgspec.Meta(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")]
_REASON_BYTES_MAX: Final = 120


class _Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """One message on the stream."""


class Hello(_Frame, frozen=True, kw_only=True, tag="hello"):
    """The subscriber says who it is and what it has."""

    # The oldest version that it speaks; a node of the first release looks at this alone.
    protocol: int
    cluster: str
    node: str
    vector: VersionVector
    # The nodes that it hears directly, so that nobody needs to pass on their changes.
    linked: list[str]
    # Under which origin it writes now, if not under its id: what it wrote before it was restored, it wants back.
    origin: str = ""
    # The newest version that it speaks; 0 from one that speaks but one.
    newest: int = 0


class Acknowledged(_Frame, frozen=True, kw_only=True, tag="ack"):
    """The subscriber has applied, durably, everything up to this vector."""

    vector: VersionVector
    linked: list[str]
    # Bytes of blobs that it knows it still lacks.
    missing_bytes: int = 0
    # The origins of which it can't take the next change, each with the reason; the source sends that change again now and then.
    held: dict[str, str] = {}


class Ping(_Frame, frozen=True, kw_only=True, tag="ping"):
    """The subscriber asks whether it has everything, and says what it has by now, wherever that came from."""

    number: int
    vector: VersionVector
    linked: list[str]
    missing_bytes: int = 0
    held: dict[str, str] = {}


class Welcome(_Frame, frozen=True, kw_only=True, tag="welcome"):
    """The source says who it is and what it has."""

    protocol: int
    cluster: str
    node: str
    vector: VersionVector
    newest: int = 0


class Changes(_Frame, frozen=True, kw_only=True, tag="changes"):
    """Changes in the order of their origins' sequences."""

    changes: list[Change]


class SnapshotPage(_Frame, frozen=True, kw_only=True, tag="snapshot"):
    """Records of a subscriber that lacks more than the log still holds; the last page carries the vector they stand for."""

    records: list[Change]
    vector: VersionVector | None = None
    # Kind and key of records that the source has and can't read: that they are not among the others says nothing of them.
    damaged: list[tuple[str, str]] = []
    # Counts the pages from 1 on: a page that is lost, or comes before another, would say that records are gone. 0: sent by a
    # release that does not count.
    number: int = 0


class Pong(_Frame, frozen=True, kw_only=True, tag="pong"):
    """What the source had when the ping arrived was sent before this frame, save what comes from its origin directly."""

    number: int
    # What the source had: a subscriber that has less does not know everything yet.
    vector: VersionVector
    # For so long, counted from when the ping was sent, the source acknowledges no write that the subscriber lacks; 0: it
    # does not wait for the subscriber, and promises nothing.
    lease_ms: int = 0
    # The nodes that the source hears directly.
    linked: list[str] = []


class UploadGrew(_Frame, frozen=True, kw_only=True, tag="upload-grew"):
    """An upload is arriving at the source and can be followed."""

    upload_id: _UploadId


class UploadEnded(_Frame, frozen=True, kw_only=True, tag="upload-ended"):
    """An upload became this blob, or was given up (digest None)."""

    upload_id: _UploadId
    digest: _DigestText | None
    size: int = 0


class InlineBlob(_Frame, frozen=True, kw_only=True, tag="blob"):
    """A small blob, whole."""

    digest: _DigestText
    content: bytes


FromSubscriber = Hello | Acknowledged | Ping
FromSource = Welcome | Changes | SnapshotPage | Pong | UploadGrew | UploadEnded | InlineBlob

_encoder: Final = msgspec.msgpack.Encoder()
_from_subscriber: Final[msgspec.msgpack.Decoder[FromSubscriber]] = msgspec.msgpack.Decoder(FromSubscriber)
_from_source: Final[msgspec.msgpack.Decoder[FromSource]] = msgspec.msgpack.Decoder(FromSource)


def encode(frame: _Frame) -> bytes:
    """Return the frame's bytes."""
    return _encoder.encode(frame)


def decode_from_subscriber(data: bytes) -> FromSubscriber:
    """Return the frame that a subscriber sent, or raise ProtocolError."""
    try:
        return _from_subscriber.decode(data)
    except msgspec.MsgspecError as error:
        message = f"a subscriber sent a frame that cannot be read: {error}"
        raise ProtocolError(message) from error


def decode_from_source(data: bytes) -> FromSource:
    """Return the frame that a source sent, or raise ProtocolError."""
    try:
        return _from_source.decode(data)
    except msgspec.MsgspecError as error:
        message = f"a peer sent a frame that cannot be read: {error}"
        raise ProtocolError(message) from error


def closing_reason(text: str) -> bytes:
    """Return as much of the text as a closing frame has room for (RFC 6455, "Control Frames": 125 bytes, two for the code)."""
    return text.encode()[:_REASON_BYTES_MAX].decode(errors="ignore").encode()


def check_greeting(greeting: Hello | Welcome, *, cluster: str, node: str) -> int:
    """Return which version of the protocol to speak with that node of this cluster.

    Raises ProtocolError when there is none that both speak, or the greeting comes from another node or cluster.
    """
    theirs = greeting.protocol, max(greeting.protocol, greeting.newest)
    version = min(theirs[1], NEWEST_PROTOCOL)
    if version < max(theirs[0], OLDEST_PROTOCOL):
        message = (
            f"peer {node} speaks versions {theirs[0]} to {theirs[1]} of the protocol, "
            f"this node {OLDEST_PROTOCOL} to {NEWEST_PROTOCOL}"
        )
        raise ProtocolError(message, hint="upgrade the older node")
    if greeting.cluster != cluster:
        message = f"peer {node} belongs to another cluster"
        raise ProtocolError(message, hint="check the address in its node record")
    if greeting.node != node:
        message = f"peer calls itself {greeting.node[:64]!r}, but its certificate says {node}"
        raise ProtocolError(message)
    return version


# -- requests beside the stream (JSON or msgpack bodies over the same port) --------------------------------------------


class RecordQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which record a node asks its peers for before it says no."""

    kind: str
    key: str


class RecordAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The record, and those it is of no use without."""

    records: list[Change]


class HoldRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which blobs (digest and size) a peer shall have on its disk before it answers."""

    blobs: list[tuple[str, int]]


class SummaryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a node's state in short is wanted. A release that does not know this form sends all."""

    # Only what stands for each kind as a whole: one small message, while nothing differs.
    is_brief: bool = False


class SummaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A node's state in short: per kind and bucket a hash and a count, and the vector they belong to."""

    vector: VersionVector
    buckets: dict[str, dict[int, tuple[int, int]]]
    missing_blobs: int
    missing_bytes: int
    # What stands for all buckets of a kind; empty when a release sends it that does not know it.
    kinds: dict[str, int] = {}
    # How the hashes are made: those of different forms cannot be compared.
    form: int = 1


class VectorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has applied."""

    vector: VersionVector


class KeptQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which blobs another node must not remove; to be answered by a state that covers the vector."""

    digests: list[str]
    vector: VersionVector
    # What lost a name here within so many seconds counts as kept.
    quiet_s: float
    # Links (digest, repository) that the asking node would have deleted, were this not a trial.
    unlinked: list[tuple[str, str]] = []
    # Who shall answer, if not the node that is asked: it passes the question on to one that the asking node cannot reach.
    node: str = ""


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Those of the blobs that must stay, and what the answering node has applied."""

    kept: list[str]
    vector: VersionVector


class PresenceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which records (kind and key) and blobs a node is asked for."""

    records: list[tuple[str, str]]
    blobs: list[str]


class PresenceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the node lacks of them."""

    lacking_records: int
    lacking_blobs: list[str]


class KeysAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster's keys that seal secrets."""

    keys: list[bytes]


class BucketQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which bucket of the state root is looked into."""

    kind: str
    bucket: int


class BucketAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a bucket, each with the hash of its record."""

    records: dict[str, int]


class RecordsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which records (kind, key) a node wants, to mend its own by them."""

    names: list[tuple[str, str]]


class RecordsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Those of the records that are here and whole, and how many of the names they answer: the rest is to be asked again."""

    records: list[Change]
    answered: int


class RecordsOffer(msgspec.Struct, frozen=True, kw_only=True):
    """Records that the other node lacks, or has otherwise: it merges them."""

    records: list[Change]


class OfferAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the offered records changed anything."""

    changed: int


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something of a node's own that was changed behind its back, or is lost."""

    # "record", "content" (a manifest's bytes), "rows" (of the query tables) or "blob".
    what: str
    kind: str
    key: str
    is_mended: bool = False


class CheckQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a node's look through its own data: which part of it, from where on, and whether to mend what is found."""

    part: str
    after: tuple[str, str] = ("", "")
    repair: bool = False


class CheckAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the step, and where the next one goes on, if there is one."""

    faults: list[Fault]
    after: tuple[str, str] | None = None
