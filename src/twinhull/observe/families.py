"""Every figure there is: its name, its kind, its labels, and how the figures of several processes make one."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What Prometheus calls the type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


class Merge(StrEnum):
    """How the figures of several processes make one."""

    SUM = "sum"
    LARGEST = "largest"


class Family(NamedTuple):
    """One metric and its series."""

    name: str
    kind: Kind
    doc: str
    labels: tuple[str, ...] = ()
    merge: Merge = Merge.SUM


# Bounds of duration histograms: from a cached manifest to a big layer over a thin line.
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
QUANTILES: Final = (0.5, 0.9, 0.99)

# Harbor's names (src/lib/metric/collector.go), so that boards made for Harbor go on working.
CORE_REQUESTS: Final = Family(
    "harbor_core_http_request_total", Kind.COUNTER, "Requests answered.", ("method", "code", "operation")
)
CORE_DURATION: Final = Family(
    "harbor_core_http_request_duration_seconds", Kind.SUMMARY, "Time taken by requests.", ("method", "operation")
)
CORE_IN_FLIGHT: Final = Family("harbor_core_http_inflight_requests", Kind.GAUGE, "Requests being answered.")
# The names of the CNCF distribution registry, for the requests under /v2/.
REGISTRY_REQUESTS: Final = Family(
    "registry_http_requests_total", Kind.COUNTER, "Requests of the registry API answered.", ("code", "handler", "method")
)
REGISTRY_DURATION: Final = Family(
    "registry_http_request_duration_seconds",
    Kind.HISTOGRAM,
    "Time taken by requests of the registry API.",
    ("handler", "method"),
)
REGISTRY_IN_FLIGHT: Final = Family(
    "registry_http_in_flight_requests", Kind.GAUGE, "Requests of the registry API being answered."
)
# Ours.
PEER_UP: Final = Family("twinhull_peer_up", Kind.GAUGE, "1 if the peer answers, 0 if not.", ("peer",))
PEER_PAUSED: Final = Family("twinhull_peer_paused", Kind.GAUGE, "1 if exchange with the peer is paused.", ("peer",))
PEER_SUSPECT: Final = Family(
    "twinhull_peer_suspect", Kind.GAUGE, "1 if writes do not wait for the peer, since it let one wait too long.", ("peer",)
)
PEER_LAG_CHANGES: Final = Family(
    "twinhull_peer_lag_changes", Kind.GAUGE, "Changes made here that the peer has not confirmed.", ("peer",)
)
PEER_LAG_BYTES: Final = Family(
    "twinhull_peer_lag_bytes", Kind.GAUGE, "Bytes of blobs here that the peer has not confirmed.", ("peer",)
)
PEER_LAG_SECONDS: Final = Family(
    "twinhull_peer_lag_seconds", Kind.GAUGE, "Age of the oldest change here that the peer has not confirmed.", ("peer",)
)
CHANGES_APPLIED: Final = Family("twinhull_changes_applied_total", Kind.COUNTER, "Changes of peers applied.", ("peer",))
ALARMS: Final = Family("twinhull_alarms", Kind.GAUGE, "Things that are wrong just now, by name.", ("alarm",))
CONFLICTS: Final = Family("twinhull_conflicts_total", Kind.COUNTER, "Concurrent writes of which one lost.", ("kind",))
LOG_POSITION: Final = Family("twinhull_log_position", Kind.GAUGE, "This node's last change.", merge=Merge.LARGEST)
TRANSFERS: Final = Family("twinhull_transfers_total", Kind.COUNTER, "Blob transfers ended.", ("peer", "direction", "outcome"))
TRANSFER_BYTES: Final = Family(
    "twinhull_transfer_bytes_total", Kind.COUNTER, "Bytes of blobs moved between nodes.", ("peer", "direction")
)
BLOB_BYTES: Final = Family("twinhull_blob_bytes_total", Kind.COUNTER, "Bytes of blobs moved for clients.", ("direction",))
WRITES: Final = Family(
    "twinhull_writes_total", Kind.COUNTER, "Acknowledged writes by the durability asked for and reached.", ("asked", "reached")
)
LOGINS_REFUSED: Final = Family("twinhull_logins_refused_total", Kind.COUNTER, "Logins refused.", ("reason",))
GC_CANDIDATES: Final = Family("twinhull_gc_candidates", Kind.GAUGE, "Blobs that may be garbage once their grace is over.")
GC_BLOBS: Final = Family("twinhull_gc_blobs_total", Kind.COUNTER, "Blobs removed as garbage.")
GC_BYTES: Final = Family("twinhull_gc_freed_bytes_total", Kind.COUNTER, "Bytes of blobs removed as garbage.")
GC_RUNS: Final = Family("twinhull_gc_runs_total", Kind.COUNTER, "Collections of garbage ended.", ("status",))
TASKS: Final = Family("twinhull_tasks_total", Kind.COUNTER, "Tasks of background jobs tried, by outcome.", ("job", "outcome"))
TASKS_QUEUED: Final = Family("twinhull_tasks_queued", Kind.GAUGE, "Tasks of background jobs that have not ended.", ("job",))
COMPARISONS: Final = Family(
    "twinhull_comparisons_total",
    Kind.COUNTER,
    "Comparisons with a peer by outcome: equal, mended, differs, unsettled, failed.",
    ("peer", "outcome"),
)
FAULTS: Final = Family(
    "twinhull_faults_total", Kind.COUNTER, "Own data found damaged or lost, mended or left.", ("what", "outcome")
)
SCRUBBED_BYTES: Final = Family("twinhull_scrubbed_bytes_total", Kind.COUNTER, "Bytes of stored blobs hashed again.")
STORAGE_BLOBS: Final = Family("twinhull_storage_blobs", Kind.GAUGE, "Blobs that something names.", merge=Merge.LARGEST)
STORAGE_BYTES: Final = Family(
    "twinhull_storage_bytes", Kind.GAUGE, "Bytes of blobs that something names, each counted once.", merge=Merge.LARGEST
)
STORAGE_FREE_BYTES: Final = Family(
    "twinhull_storage_free_bytes", Kind.GAUGE, "Space left where the blobs lie.", merge=Merge.LARGEST
)
MEMORY_BYTES: Final = Family("twinhull_process_resident_memory_bytes", Kind.GAUGE, "Memory of a process.", ("process",))
CPU_SECONDS: Final = Family("twinhull_process_cpu_seconds_total", Kind.COUNTER, "CPU time of a process.", ("process",))

REQUEST_FAMILIES: Final = (
    CORE_REQUESTS,
    CORE_DURATION,
    CORE_IN_FLIGHT,
    REGISTRY_REQUESTS,
    REGISTRY_DURATION,
    REGISTRY_IN_FLIGHT,
)
# What `count` and `set` take.
VALUE_FAMILIES: Final = (
    PEER_UP,
    PEER_PAUSED,
    PEER_SUSPECT,
    PEER_LAG_CHANGES,
    PEER_LAG_BYTES,
    PEER_LAG_SECONDS,
    CHANGES_APPLIED,
    ALARMS,
    CONFLICTS,
    LOG_POSITION,
    TRANSFERS,
    TRANSFER_BYTES,
    BLOB_BYTES,
    WRITES,
    LOGINS_REFUSED,
    GC_CANDIDATES,
    GC_BLOBS,
    GC_BYTES,
    GC_RUNS,
    TASKS,
    TASKS_QUEUED,
    COMPARISONS,
    FAULTS,
    SCRUBBED_BYTES,
    STORAGE_BLOBS,
    STORAGE_BYTES,
    STORAGE_FREE_BYTES,
    MEMORY_BYTES,
    CPU_SECONDS,
)
FAMILIES: Final = {family.name: family for family in (*REQUEST_FAMILIES, *VALUE_FAMILIES)}
