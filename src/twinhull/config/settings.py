"""All that a node can be told, frozen, each setting with its unit in its name, its default and what it is for.

A setting's path (`durability.ack_timeout_s`) is its place in these classes. It is written the same way under
`twinhull:` in harbor.yml, as TWINHULL_DURABILITY_ACK_TIMEOUT_S in the environment, and some are command line options.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from twinhull.config.bandwidth import parse_limits
from twinhull.config.values import (
    PORT_MAX,
    Address,
    DurabilityLevel,
    LogFormat,
    LogLevel,
    Networks,
    OnPeerLoss,
    Secret,
    parse_value,
)
from twinhull.kit.errors import SettingsInvalid

MIB: Final = 1024 * 1024
# The cluster port lies this far above the one for clients, unless it is set: one number to remember for two ports.
CLUSTER_PORT_OFFSET: Final = 200
_NO_SECRET: Final = Secret("")
_LISTEN: Final = Address("127.0.0.1", 8080)
_LOOPBACK: Final = Networks.parse("127.0.0.0/8,::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the metadata lie."""

    url: Annotated[Secret, "`postgresql+psycopg://…`; empty for SQLite in the data directory"] = _NO_SECRET
    connections_max: Annotated[int, "connections that each process may hold to PostgreSQL"] = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """How peers find and reach this node."""

    advertise: Annotated[str, "`HOST:PORT` that peers dial; empty for `cluster_listen`, or this host's name"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DurabilitySettings:
    """What the answer to a write waits for."""

    level: Annotated[DurabilityLevel, "`local` disk, `metadata` at every reachable peer, or `full`: bytes too"] = (
        DurabilityLevel.METADATA
    )
    ack_timeout_s: Annotated[float, "a peer that is silent for longer is suspect and not waited for"] = 2.0
    on_peer_loss: Annotated[OnPeerLoss, "`degrade`: answer and raise the alarm; `refuse`: answer 503"] = OnPeerLoss.DEGRADE
    full_copies: Annotated[int, "peers that must hold all bytes at level `full`"] = 1

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        _check(self.ack_timeout_s > 0, "durability.ack_timeout_s must be more than 0")
        _check(self.full_copies >= 1, "durability.full_copies must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """Bytes of blobs on their way to peers."""

    limits: Annotated[str, "`PEER=MB_PER_SECOND@HH:MM-HH:MM`, several by commas, `*` for every other peer; empty: no limit"] = (
        ""
    )

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        parse_limits(self.limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """The most that one request, page, pool or queue may take."""

    manifest_size_bytes: Annotated[int, "largest manifest taken"] = 4 * MIB
    upload_size_bytes: Annotated[int, "largest blob taken; 0 for no limit"] = 0
    body_size_bytes: Annotated[int, "largest body of any other request"] = 1 * MIB
    page_size: Annotated[int, "entries of a page when the client names no number"] = 10
    page_size_max: Annotated[int, "entries of a page at most, in Harbor's API"] = 100
    registry_page_size_max: Annotated[int, "tags, repositories or referrers of a page at most, under /v2/"] = 1000
    executor_threads: Annotated[int, "threads of an HTTP worker for database and disk"] = 16
    connection_backlog: Annotated[int, "connections that may wait to be accepted"] = 1024
    requests_running_max: Annotated[int, "requests that one HTTP worker runs at a time"] = 1024
    upload_idle_s: Annotated[float, "an upload session untouched for this long is removed"] = 7 * 24 * 3600.0

    def __post_init__(self) -> None:
        """Refuse what would let nothing through."""
        for setting in fields(self):
            least = 0 if setting.name == "upload_size_bytes" else 1
            _check(getattr(self, setting.name) >= least, f"limits.{setting.name} must be at least {least}")
        _check(self.page_size <= self.page_size_max, "limits.page_size must not be more than limits.page_size_max")
        _check(self.connection_backlog >= 128, "limits.connection_backlog must be at least 128")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """Background work."""

    workers_max: Annotated[int, "background jobs that run at a time"] = 10

    def __post_init__(self) -> None:
        """Refuse what would run nothing."""
        _check(self.workers_max >= 1, "jobs.workers_max must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class GcSettings:
    """Collecting garbage: blobs that nothing names any more."""

    interval_s: Annotated[float, "how often garbage is collected; 0: only when asked for"] = 24 * 3600.0
    # A push may take hours over a thin line, and its first blobs are named by its last request.
    grace_s: Annotated[float, "what was pushed, mounted, asked for or unnamed within this time stays"] = 24 * 3600.0
    delete_untagged: Annotated[bool, "collections by schedule delete manifests without a tag too"] = False
    walk_interval_s: Annotated[float, "how often every file is looked at for blobs that no record knows; 0: never"] = (
        7 * 24 * 3600.0
    )

    def __post_init__(self) -> None:
        """Refuse what would never end."""
        for setting in ("interval_s", "grace_s", "walk_interval_s"):
            _check(getattr(self, setting) >= 0, f"gc.{setting} must not be less than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySettings:
    """Finding and mending what differs between nodes, or was changed behind a node's back."""

    interval_s: Annotated[float, "how often each peer is compared with; 0: only when asked for"] = 600.0
    own_interval_s: Annotated[float, "how often a node looks through its own records, tables and blobs' sizes; 0: never"] = (
        24 * 3600.0
    )

    def __post_init__(self) -> None:
        """Refuse what would never end."""
        for setting in ("interval_s", "own_interval_s"):
            _check(getattr(self, setting) >= 0, f"verify.{setting} must not be less than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSettings:
    """Hashing stored blobs again, to find what has rotted."""

    interval_s: Annotated[float, "how often all blobs are hashed; 0: only when asked for"] = 30 * 24 * 3600.0
    pace_mb_s: Annotated[float, "MB in a second that a scrub reads; 0: as fast as it goes"] = 20.0

    def __post_init__(self) -> None:
        """Refuse what would never end."""
        for setting in ("interval_s", "pace_mb_s"):
            _check(getattr(self, setting) >= 0, f"scrub.{setting} must not be less than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionSettings:
    """Forgetting what every member of the cluster has seen: deletions, and old changes."""

    interval_s: Annotated[float, "how often; 0: never"] = 3600.0
    # A node that is restored from a backup younger than this hears of everything that was deleted since.
    keep_deletions_s: Annotated[float, "deletions younger than this are kept"] = 30 * 24 * 3600.0
    keep_changes: Annotated[int, "so many of the newest changes are kept whoever has them"] = 50_000

    def __post_init__(self) -> None:
        """Refuse what would forget too soon."""
        _check(self.interval_s >= 0, "compaction.interval_s must not be less than 0")
        _check(self.keep_deletions_s >= 0, "compaction.keep_deletions_s must not be less than 0")
        # Each process keeps its caches right by the changes that it has not seen; it drops them all when it lags by thousands.
        _check(self.keep_changes >= 10_000, "compaction.keep_changes must be at least 10000")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written to standard error, and how."""

    level: Annotated[LogLevel, "`debug`, `info`, `warning`, `error` or `critical`"] = LogLevel.INFO
    format: Annotated[LogFormat, "`console` for people, `json` for machines, `auto`: by whether it is a terminal"] = (
        LogFormat.AUTO
    )
    access: Annotated[bool, "a line for each request"] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSettings:
    """What Prometheus can read."""

    enabled: Annotated[bool, "serve /metrics"] = True
    flush_interval_s: Annotated[float, "how old the figures of another process of this node may be"] = 1.0

    def __post_init__(self) -> None:
        """Refuse what would keep the disk busy."""
        _check(self.flush_interval_s >= 0.1, "metrics.flush_interval_s must be at least 0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One node's settings, checked and complete."""

    data_dir: Annotated[Path, "everything the node keeps"] = Path("data")
    name: Annotated[str, "what people call this node; empty for the host's name"] = ""
    listen: Annotated[Address, "`HOST:PORT` for clients; port 0 takes a free one"] = _LISTEN
    cluster_listen: Annotated[Address | None, "`HOST:PORT` for peers; by default the port for clients + 200"] = None
    workers: Annotated[int, "HTTP worker processes"] = 2
    external_url: Annotated[str, "the cluster's one address as people type it; empty: what each client used"] = ""
    harbor_version: Annotated[str, "the Harbor release that clients are told; they choose their words by it"] = "v2.16.0"
    version_shown: Annotated[str, "what stands behind it; empty: Twinhull's own version"] = ""
    admin_password: Annotated[Secret, "the administrator's first password; empty: one is generated and shown once"] = _NO_SECRET
    trusted_proxies: Annotated[Networks, "networks whose X-Forwarded-* headers are believed"] = _LOOPBACK
    stop_timeout_s: Annotated[float, "how long running requests may go on after a stop was asked for"] = 30.0
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    durability: DurabilitySettings = field(default_factory=DurabilitySettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    gc: GcSettings = field(default_factory=GcSettings)
    verify: VerifySettings = field(default_factory=VerifySettings)
    scrub: ScrubSettings = field(default_factory=ScrubSettings)
    compaction: CompactionSettings = field(default_factory=CompactionSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)

    def __post_init__(self) -> None:
        """Refuse what no node could run with."""
        _check(1 <= self.workers <= 64, "workers must be from 1 to 64")
        _check(self.stop_timeout_s >= 1, "stop_timeout_s must be at least 1")
        _check(
            not self.external_url or self.external_url.startswith(("http://", "https://")),
            f"external_url {self.external_url!r} must begin with http:// or https://",
        )
        url = self.database.url.reveal()
        _check(
            not url or url.startswith(("sqlite:///", "postgresql+psycopg://")),
            "database.url must begin with postgresql+psycopg:// or be empty",
        )
        if self.cluster.advertise:
            Address.parse(self.cluster.advertise)

    @property
    def node_name(self) -> str:
        """Return the name, or this host's when none is set."""
        return self.name or socket.gethostname()

    @property
    def database_url(self) -> Secret:
        """Return the SQLAlchemy URL of the metadata database."""
        return self.database.url or Secret(f"sqlite:///{self.data_dir.absolute() / 'metadata.db'}")

    @property
    def cluster_address(self) -> Address:
        """Return where peers reach this node's agent: as set, or derived from the address for clients."""
        if self.cluster_listen is not None:
            return self.cluster_listen
        shifted = self.listen.port + CLUSTER_PORT_OFFSET
        return self.listen.with_port(shifted if shifted <= PORT_MAX else self.listen.port - CLUSTER_PORT_OFFSET)

    @property
    def advertised_address(self) -> Address:
        """Return the address that peers are told to dial."""
        if self.cluster.advertise:
            return Address.parse(self.cluster.advertise)
        address = self.cluster_address
        return Address(socket.gethostname(), address.port) if address.is_everywhere else address

    @property
    def run_dir(self) -> Path:
        """Return the folder for what lives only as long as the processes: sockets, locks, shared pages, metrics."""
        return self.data_dir / "run"

    @property
    def metrics_dir(self) -> Path:
        """Return the folder in which the node's processes leave their figures."""
        return self.run_dir / "metrics"


class SettingInfo(NamedTuple):
    """One setting, as documentation and readers of settings need it."""

    path: str
    kind: Any
    default: object
    doc: str

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return "TWINHULL_" + self.path.replace(".", "_").upper()


def setting_infos(group: type = Settings, prefix: str = "") -> Iterator[SettingInfo]:
    """Return every setting there is, in order."""
    hints = get_type_hints(group, include_extras=True)
    for item in fields(group):
        kind = hints[item.name]
        if get_origin(kind) is Annotated:
            inner, doc = get_args(kind)
            default = None if item.default is MISSING else item.default
            yield SettingInfo(prefix + item.name, inner, default, doc)
        else:
            yield from setting_infos(kind, f"{prefix}{item.name}.")


SETTINGS: Final[Mapping[str, SettingInfo]] = {info.path: info for info in setting_infos()}


def build_settings(values: Mapping[str, object]) -> Settings:
    """Return settings with these values by path, text or already parsed, and defaults elsewhere; or raise SettingsInvalid."""
    groups: dict[str, dict[str, Any]] = {"": {}}
    for path, raw in values.items():
        group, _, name = path.rpartition(".")
        try:
            groups.setdefault(group, {})[name] = parse_value(SETTINGS[path].kind, raw)
        except SettingsInvalid as error:
            raise SettingsInvalid(f"{path}: {error.message}", hint=error.hint) from error
    hints = get_type_hints(Settings)
    top = groups.pop("")
    return Settings(**top, **{name: hints[name](**given) for name, given in groups.items()})


def _check(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence at each call
    if not holds:
        raise SettingsInvalid(message)
