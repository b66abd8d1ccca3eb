"""Figures for Prometheus, counted in each process of the node and added up by whichever process is asked for them.

Each process counts in plain dictionaries and leaves a copy in `run/metrics` about once a second, which costs a request
less than a microsecond. The price: what other processes counted in the last second may be missing from an answer.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from twinhull.kit.clock import Clock
from twinhull.observe.exposition import Sample, histogram_samples, render, summary_samples
from twinhull.observe.families import (
    BUCKETS_S,
    CORE_DURATION,
    CORE_IN_FLIGHT,
    CORE_REQUESTS,
    CPU_SECONDS,
    FAMILIES,
    MEMORY_BYTES,
    REGISTRY_DURATION,
    REGISTRY_IN_FLIGHT,
    REGISTRY_REQUESTS,
    Family,
    Kind,
    Merge,
)

_log: Final = structlog.get_logger()
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS: Final = len(BUCKETS_S) + 1
_SLOTS_MAX: Final = 256
# The quantiles of a summary are those of the last one to two windows.
_WINDOW_S: Final = 300.0
# Without anything new, memory and CPU time are brought up to date this often.
_IDLE_FLUSH_S: Final = 15.0

RequestKey = tuple[str, str, str, int]
ValueKey = tuple[str, tuple[str, ...]]


# Which API a request belongs to. Plain texts: an enum's hash, written in Python, would double the cost of `end`.
Face = Literal["registry", "core"]
REGISTRY: Final = "registry"
CORE: Final = "core"


class _Requests(msgspec.Struct):
    """Requests of one face, operation, method and status: time and count by bucket, and the counts of a while ago."""

    total_s: float = 0.0
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * _BUCKETS)
    before: list[int] = msgspec.field(default_factory=lambda: [0] * _BUCKETS)

    def add(self, other: _Requests) -> None:
        """Take in the figures of another process."""
        self.total_s += other.total_s
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.before = [mine + its for mine, its in zip(self.before, other.before, strict=True)]


class _Figures(msgspec.Struct):
    """All that one process has counted; also the form of its file."""

    requests: list[tuple[RequestKey, _Requests]] = msgspec.field(default_factory=list)
    in_flight: dict[str, int] = msgspec.field(default_factory=dict)
    values: list[tuple[ValueKey, float]] = msgspec.field(default_factory=list)


class Metrics:
    """The figures of this process. `begin` and `end` belong to the event loop; the rest may be called from any thread."""

    def __init__(self, directory: Path, role: str, clock: Clock) -> None:
        """Take a slot in the directory; what a process of this role counted before it died is taken over and goes on."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._clock = clock
        self._slot, self._lock_descriptor = _take_slot(directory, role)
        self._lock = threading.Lock()
        self._in_flight: dict[str, int] = {REGISTRY: 0, CORE: 0}
        figures = _read(directory / f"{self._slot}.json")
        self._requests: dict[RequestKey, _Requests] = dict(figures.requests)
        self._values: dict[ValueKey, float] = {
            key: value for key, value in figures.values if key[0] in FAMILIES and FAMILIES[key[0]].kind is Kind.COUNTER
        }
        # What this process adds to the CPU time of those whose place it took.
        self._cpu_before_s = self._values.get((CPU_SECONDS.name, (self._slot,)), 0.0)
        self._earlier: dict[RequestKey, list[int]] = {}
        self._window_ends_s = clock.monotonic_s() + _WINDOW_S
        self._dirty = True
        self._flushed_s = float("-inf")

    def begin(self, face: Face) -> None:
        """Note that a request is being answered; `end` must follow."""
        self._in_flight[face] += 1

    def end(self, face: Face, operation: str, method: str, status: int, elapsed_s: float) -> None:
        """Note that it was answered; the operation is one of a fixed set of words, never anything of the client's."""
        self._in_flight[face] -= 1
        key = (face, operation, method, status)
        figures = self._requests.get(key)
        if figures is None:
            key = (face, operation, method if method in _METHODS else "OTHER", status)
            figures = self._requests.setdefault(key, _Requests())
        figures.total_s += elapsed_s
        figures.counts[bisect_left(BUCKETS_S, elapsed_s)] += 1
        self._dirty = True

    def count(self, family: Family, *labels: str, amount: float = 1) -> None:
        """Add to a counter."""
        key = _key(family, labels, Kind.COUNTER)
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount
        self._dirty = True

    def set(self, family: Family, *labels: str, to: float) -> None:
        """Set a gauge; it is gone when this process is."""
        key = _key(family, labels, Kind.GAUGE)
        if self._values.get(key) != to:
            with self._lock:
                self._values[key] = to
            self._dirty = True

    def forget(self, family: Family, *labels: str) -> None:
        """Drop a gauge, as that of a peer that was removed."""
        with self._lock:
            self._values.pop(_key(family, labels, Kind.GAUGE), None)
        self._dirty = True

    async def run(self, flush_interval_s: float) -> None:
        """Leave a copy of the figures for the other processes again and again, until cancelled; then once more."""
        try:
            while True:
                await asyncio.to_thread(self._leave, self._news())
                await asyncio.sleep(flush_interval_s)
        finally:
            self.flush()

    def flush(self) -> None:
        """Leave a copy of the figures if there is anything new; a full disk is logged and never in the way."""
        self._leave(self._news())

    def _news(self) -> bytes:
        now_s = self._clock.monotonic_s()
        if now_s >= self._window_ends_s:
            self._turn_window(now_s)
        if not self._dirty and now_s - self._flushed_s < _IDLE_FLUSH_S:
            return b""
        self._dirty = False
        self._flushed_s = now_s
        return msgspec.json.encode(self._figures())

    def _leave(self, encoded: bytes) -> None:
        if not encoded:
            return
        target = self._directory / f"{self._slot}.json"
        try:
            draft = target.with_suffix(".new")
            draft.write_bytes(encoded)
            draft.replace(target)
        except OSError as error:
            _log.warning("figures not left for other processes", error=error.strerror)

    def render(self) -> str:
        """Return the figures of all processes of the node in Prometheus' text format; reads a few small files."""
        return _render(_merged([self._figures(), *_others(self._directory, self._slot)]))

    def close(self) -> None:
        """Leave the last figures and free the slot."""
        self._dirty = True
        self.flush()
        os.close(self._lock_descriptor)

    def _turn_window(self, now_s: float) -> None:
        for key, figures in self._requests.items():
            figures.before = self._earlier.get(key, [0] * _BUCKETS)
            self._earlier[key] = list(figures.counts)
        self._window_ends_s = now_s + _WINDOW_S
        self._dirty = True

    def _figures(self) -> _Figures:
        with self._lock:
            values = dict(self._values)
        times = os.times()
        values[MEMORY_BYTES.name, (self._slot,)] = _resident_bytes()
        values[CPU_SECONDS.name, (self._slot,)] = round(self._cpu_before_s + times.user + times.system, 2)
        return _Figures(list(self._requests.items()), dict(self._in_flight), list(values.items()))


def clear_metrics(directory: Path) -> None:
    """Forget what earlier lives of the node counted; for the supervisor, before any process counts."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.suffix in {".json", ".lock", ".new"}:
            path.unlink(missing_ok=True)


def _key(family: Family, labels: tuple[str, ...], kind: Kind) -> ValueKey:
    if family.kind is not kind or len(labels) != len(family.labels):
        raise TypeError(f"{family.name} is a {family.kind} with labels {family.labels}")
    return family.name, labels


def _take_slot(directory: Path, role: str) -> tuple[str, int]:
    for number in range(_SLOTS_MAX):
        descriptor = os.open(directory / f"{role}-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return f"{role}-{number}", descriptor
    raise RuntimeError(f"more than {_SLOTS_MAX} processes count as {role}")


def _read(path: Path) -> _Figures:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Figures)
    except FileNotFoundError:
        return _Figures()
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("figures of another process not readable", path=path.name, error=str(error))
        return _Figures()


def _others(directory: Path, own_slot: str) -> Iterator[_Figures]:
    for path in sorted(directory.glob("*.json")):
        if path.stem == own_slot:
            continue
        figures = _read(path)
        if not _is_held(path.with_suffix(".lock")):
            # Its process is gone: what it counted stays true, what it measured does not.
            figures.in_flight = {}
            figures.values = [
                (key, value) for key, value in figures.values if key[0] in FAMILIES and FAMILIES[key[0]].kind is Kind.COUNTER
            ]
        yield figures


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _merged(all_figures: list[_Figures]) -> _Figures:
    requests: dict[RequestKey, _Requests] = {}
    in_flight: dict[str, int] = defaultdict(int)
    values: dict[ValueKey, float] = {}
    for figures in all_figures:
        for key, one in figures.requests:
            requests.setdefault(key, _Requests()).add(one)
        for face, number in figures.in_flight.items():
            in_flight[face] += number
        for value_key, value in figures.values:
            largest = value_key[0] in FAMILIES and FAMILIES[value_key[0]].merge is Merge.LARGEST
            known = values.get(value_key, 0.0)
            values[value_key] = max(known, value) if largest else known + value
    return _Figures(sorted(requests.items()), dict(in_flight), sorted(values.items()))


def _render(figures: _Figures) -> str:
    by_name: dict[str, list[Sample]] = defaultdict(list)
    for (name, labels), value in figures.values:
        if name in FAMILIES:
            by_name[name].append(Sample(tuple(zip(FAMILIES[name].labels, labels, strict=False)), value))
    by_name[CORE_IN_FLIGHT.name].append(Sample((), sum(figures.in_flight.values())))
    by_name[REGISTRY_IN_FLIGHT.name].append(Sample((), figures.in_flight.get(REGISTRY, 0)))
    durations: dict[RequestKey, _Requests] = {}
    for (face, operation, method, status), one in figures.requests:
        number, code = sum(one.counts), str(status)
        by_name[CORE_REQUESTS.name].append(Sample((("method", method), ("code", code), ("operation", operation)), number))
        if face == REGISTRY:
            labels_here = (("code", code), ("handler", operation), ("method", method))
            by_name[REGISTRY_REQUESTS.name].append(Sample(labels_here, number))
        durations.setdefault((face, operation, method, 0), _Requests()).add(one)
    for (face, operation, method, _), one in durations.items():
        recent = [now - then for now, then in zip(one.counts, one.before, strict=True)]
        core_labels = (("method", method), ("operation", operation))
        by_name[CORE_DURATION.name] += summary_samples(core_labels, one.counts, one.total_s, recent)
        if face == REGISTRY:
            registry_labels = (("handler", operation), ("method", method))
            by_name[REGISTRY_DURATION.name] += histogram_samples(registry_labels, one.counts, one.total_s)
    return render((family, by_name[family.name]) for family in FAMILIES.values())
