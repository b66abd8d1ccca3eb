"""Figures: what is counted, how several processes make one answer, and that the text is what Prometheus reads."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from twinhull.kit.clock import ManualClock
from twinhull.observe.exposition import Sample, quantile, render
from twinhull.observe.families import (
    BUCKETS_S,
    FAMILIES,
    LOG_POSITION,
    PEER_LAG_BYTES,
    PEER_LAG_CHANGES,
    PEER_UP,
    TRANSFER_BYTES,
    TRANSFERS,
    Family,
    Kind,
)
from twinhull.observe.health import Readiness, livez
from twinhull.observe.metrics import CORE, REGISTRY, Metrics, clear_metrics


def values(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every series of the answer, as Prometheus' own client reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return one series of the answer."""
    return values(metrics)[name, frozenset(labels.items())]


@contextmanager
def counting(directory: Path, role: str = "http", clock: ManualClock | None = None) -> Iterator[Metrics]:
    """Count as a process of this role does."""
    metrics = Metrics(directory, role, clock or ManualClock())
    yield metrics
    metrics.close()


class TestRequests:
    def test_request_is_counted_under_harbors_and_distributions_names(self, tmp_path: Path) -> None:
        with counting(tmp_path) as metrics:
            metrics.begin(REGISTRY)
            metrics.end(REGISTRY, "manifest", "GET", 200, 0.003)
            metrics.begin(CORE)
            metrics.end(CORE, "list projects", "GET", 200, 0.02)
            assert value(metrics, "harbor_core_http_request_total", method="GET", code="200", operation="manifest") == 1
            assert value(metrics, "harbor_core_http_request_total", method="GET", code="200", operation="list projects") == 1
            assert value(metrics, "registry_http_requests_total", method="GET", code="200", handler="manifest") == 1
            duration = "registry_http_request_duration_seconds"
            assert value(metrics, f"{duration}_bucket", method="GET", handler="manifest", le="0.0025") == 0
            assert value(metrics, f"{duration}_bucket", method="GET", handler="manifest", le="0.005") == 1
            assert value(metrics, f"{duration}_bucket", method="GET", handler="manifest", le="+Inf") == 1
            assert value(metrics, f"{duration}_sum", method="GET", handler="manifest") == pytest.approx(0.003)
            assert not [
                key for key in values(metrics) if key[0].startswith("registry") and ("handler", "list projects") in key[1]
            ]

    def test_requests_being_answered_go_up_and_down(self, tmp_path: Path) -> None:
        with counting(tmp_path) as metrics:
            metrics.begin(REGISTRY)
            metrics.begin(CORE)
            assert value(metrics, "harbor_core_http_inflight_requests") == 2
            assert value(metrics, "registry_http_in_flight_requests") == 1
            metrics.end(REGISTRY, "blob", "GET", 200, 1.0)
            assert value(metrics, "registry_http_in_flight_requests") == 0

    def test_methods_that_clients_make_up_are_one(self, tmp_path: Path) -> None:
        with counting(tmp_path) as metrics:
            for number in range(50):
                metrics.begin(CORE)
                metrics.end(CORE, "unknown", f"METHOD{number}", 405, 0.001)
            assert value(metrics, "harbor_core_http_request_total", method="OTHER", code="405", operation="unknown") == 50

    def test_quantiles_are_of_the_last_minutes(self, tmp_path: Path) -> None:
        clock = ManualClock()
        labels = {"method": "GET", "operation": "x", "quantile": "0.5"}
        with counting(tmp_path, clock=clock) as metrics:

            def answer(elapsed_s: float) -> None:
                metrics.begin(CORE)
                metrics.end(CORE, "x", "GET", 200, elapsed_s)

            for _ in range(10):
                answer(20.0)
            assert 10 < value(metrics, "harbor_core_http_request_duration_seconds", **labels) <= 30
            for _ in range(2):
                clock.advance(301_000)
                metrics.flush()
            for _ in range(10):
                answer(0.002)
            assert value(metrics, "harbor_core_http_request_duration_seconds", **labels) < 0.0025
            assert value(metrics, "harbor_core_http_request_duration_seconds_count", method="GET", operation="x") == 20


class TestValues:
    def test_counters_add_and_gauges_are_set_and_forgotten(self, tmp_path: Path) -> None:
        with counting(tmp_path, "agent") as metrics:
            metrics.count(TRANSFERS, "b", "in", "done")
            metrics.count(TRANSFER_BYTES, "b", "in", amount=1000)
            metrics.count(TRANSFER_BYTES, "b", "in", amount=24)
            metrics.set(PEER_LAG_CHANGES, "b", to=7)
            metrics.set(PEER_LAG_CHANGES, "b", to=3)
            metrics.set(PEER_UP, "c", to=1)
            metrics.forget(PEER_UP, "c")
            assert value(metrics, "twinhull_transfers_total", peer="b", direction="in", outcome="done") == 1
            assert value(metrics, "twinhull_transfer_bytes_total", peer="b", direction="in") == 1024
            assert value(metrics, "twinhull_peer_lag_changes", peer="b") == 3
            assert ("twinhull_peer_up", frozenset({("peer", "c")})) not in values(metrics)

    def test_wrong_kind_and_wrong_labels_are_refused(self, tmp_path: Path) -> None:
        with counting(tmp_path) as metrics:
            with pytest.raises(TypeError, match="twinhull_peer_up is a gauge"):
                metrics.count(PEER_UP, "b")
            with pytest.raises(TypeError, match="labels"):
                metrics.set(PEER_UP, to=1)

    def test_threads_lose_nothing(self, tmp_path: Path) -> None:
        def count_much(metrics: Metrics) -> None:
            for _ in range(500):
                metrics.count(TRANSFERS, "b", "in", "done")

        with counting(tmp_path) as metrics, ThreadPoolExecutor(8) as pool:
            list(pool.map(count_much, [metrics] * 8))
            assert value(metrics, "twinhull_transfers_total", peer="b", direction="in", outcome="done") == 4000

    def test_label_that_needs_escaping_comes_back_as_it_was(self, tmp_path: Path) -> None:
        with counting(tmp_path) as metrics:
            metrics.set(PEER_UP, 'a"b\\c\nd', to=1)
            assert value(metrics, "twinhull_peer_up", peer='a"b\\c\nd') == 1


class TestSeveralProcesses:
    def test_any_process_answers_for_all(self, tmp_path: Path) -> None:
        with counting(tmp_path) as one, counting(tmp_path) as two, counting(tmp_path, "agent") as agent:
            for metrics in (one, two, two):
                metrics.begin(CORE)
                metrics.end(CORE, "x", "GET", 200, 0.1)
            two.begin(CORE)
            for metrics, position in ((one, 5), (two, 7), (agent, 6)):
                metrics.set(LOG_POSITION, to=position)
            agent.set(PEER_LAG_BYTES, "b", to=9)
            for metrics in (one, two, agent):
                metrics.flush()
            for metrics in (one, two, agent):
                assert value(metrics, "harbor_core_http_request_total", method="GET", code="200", operation="x") == 3
                assert value(metrics, "harbor_core_http_inflight_requests") == 1
                assert value(metrics, "twinhull_log_position") == 7
                assert value(metrics, "twinhull_peer_lag_bytes", peer="b") == 9
            processes = {
                dict(labels)["process"] for name, labels in values(one) if name == "twinhull_process_resident_memory_bytes"
            }
            assert processes == {"http-0", "http-1", "agent-0"}

    def test_what_a_dead_process_counted_stays_and_what_it_measured_goes(self, tmp_path: Path) -> None:
        with counting(tmp_path) as survivor:
            with counting(tmp_path) as dead:
                dead.begin(CORE)
                dead.end(CORE, "x", "GET", 200, 0.1)
                dead.begin(CORE)
                dead.count(TRANSFERS, "b", "in", "done")
                dead.set(PEER_UP, "b", to=1)
            assert value(survivor, "harbor_core_http_request_total", method="GET", code="200", operation="x") == 1
            assert value(survivor, "twinhull_transfers_total", peer="b", direction="in", outcome="done") == 1
            assert value(survivor, "harbor_core_http_inflight_requests") == 0
            assert ("twinhull_peer_up", frozenset({("peer", "b")})) not in values(survivor)

    def test_successor_goes_on_counting_in_the_same_place(self, tmp_path: Path) -> None:
        for number in range(1, 4):
            with counting(tmp_path) as metrics:
                metrics.begin(CORE)
                metrics.end(CORE, "x", "GET", 200, 0.1)
                assert value(metrics, "harbor_core_http_request_total", method="GET", code="200", operation="x") == number
        assert sorted(path.name for path in tmp_path.iterdir()) == ["http-0.json", "http-0.lock"]

    def test_damaged_file_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "http-7.json").write_bytes(b'{"requests": [[')
        with counting(tmp_path) as metrics:
            assert value(metrics, "harbor_core_http_inflight_requests") == 0

    def test_new_life_of_the_node_counts_from_zero(self, tmp_path: Path) -> None:
        with counting(tmp_path) as metrics:
            metrics.count(TRANSFERS, "b", "in", "done")
        clear_metrics(tmp_path)
        assert list(tmp_path.iterdir()) == []

    async def test_figures_are_left_for_others_while_it_runs_and_at_the_end(self, tmp_path: Path) -> None:
        with counting(tmp_path) as one, counting(tmp_path) as two:
            running = asyncio.create_task(one.run(60))
            async with asyncio.timeout(10):
                while not (tmp_path / "http-0.json").exists():
                    await asyncio.sleep(0)
            one.count(TRANSFERS, "b", "in", "done")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert value(two, "twinhull_transfers_total", peer="b", direction="in", outcome="done") == 1


class TestExposition:
    def test_quantile_lies_in_the_right_bucket(self) -> None:
        counts = [0] * (len(BUCKETS_S) + 1)
        assert math.isnan(quantile(counts, 0.5))
        counts[4] = 10
        assert BUCKETS_S[3] < quantile(counts, 0.5) <= BUCKETS_S[4]
        counts[-1] = 1000
        assert quantile(counts, 0.99) == BUCKETS_S[-1]

    def test_numbers_are_written_exactly(self) -> None:
        family = Family("x", Kind.GAUGE, "X.")
        written = render([(family, [Sample((), number) for number in (0.1, 1e15, 12345678901, float("inf"), float("nan"))])])
        assert written.splitlines()[2:] == ["x 0.1", "x 1000000000000000.0", "x 12345678901", "x +Inf", "x NaN"]

    def test_every_family_is_named_by_the_rules(self) -> None:
        for family in FAMILIES.values():
            assert family.doc.endswith(".")
            assert family.name.startswith(("harbor_core_", "registry_http_", "twinhull_"))
            assert family.kind is not Kind.COUNTER or family.name.endswith("_total")


class TestHealth:
    @pytest.fixture
    def pool(self) -> Iterator[ThreadPoolExecutor]:
        """A few threads."""
        with ThreadPoolExecutor(2) as pool:
            yield pool

    async def test_who_answers_lives(self) -> None:
        assert await livez() == (200, {"status": "ok"})

    async def test_ready_when_directory_and_database_answer(self, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
        (tmp_path / "run").mkdir()
        ready = Readiness(data_dir=tmp_path, check_database=lambda: None, executor=pool, clock=ManualClock())
        assert await ready.readyz() == (200, {"status": "ok"})
        ready.stopping()
        assert await ready.readyz() == (503, {"status": "stopping"})

    async def test_failing_database_takes_the_node_out_and_back(self, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
        (tmp_path / "run").mkdir()
        clock = ManualClock()
        broken = [True]

        def check() -> None:
            if broken[0]:
                raise RuntimeError("password=hunter2 wrong")

        ready = Readiness(data_dir=tmp_path, check_database=check, executor=pool, clock=clock)
        assert await ready.readyz() == (503, {"status": "not ready", "database": "RuntimeError"})
        broken[0] = False
        assert (await ready.readyz())[0] == 503
        clock.advance(600)
        assert (await ready.readyz())[0] == 200

    async def test_lost_directory_is_named(self, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
        ready = Readiness(data_dir=tmp_path / "gone", check_database=lambda: None, executor=pool, clock=ManualClock())
        status, body = await ready.readyz()
        assert status == 503
        assert body["data directory"] == os.strerror(2)

    async def test_many_askers_cost_one_check(self, tmp_path: Path, pool: ThreadPoolExecutor) -> None:
        (tmp_path / "run").mkdir()
        checks: list[int] = []
        ready = Readiness(data_dir=tmp_path, check_database=lambda: checks.append(1), executor=pool, clock=ManualClock())
        await asyncio.gather(*(ready.readyz() for _ in range(50)))
        await ready.readyz()
        assert len(checks) == 1
