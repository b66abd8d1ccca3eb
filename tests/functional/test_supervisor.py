"""Processes under supervision, with real ones: restarted, stopped in order, killed when deaf, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import stop, wait_until
from twinhull.cli.processes import BACKOFF_FIRST_S, BACKOFF_MAX_S, STABLE_AFTER_S, Backoff, is_running

LIMIT_S = 20


@dataclass(frozen=True, slots=True)
class Supervised:
    """A running supervisor and what its roles have noted."""

    process: subprocess.Popen[bytes]
    directory: Path

    def notes(self, name: str) -> list[tuple[str, int]]:
        """Return what a role noted: words and the process that noted them."""
        path = self.directory / name
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def words(self, name: str) -> list[str]:
        """Return only the words."""
        return [word for word, _ in self.notes(name)]

    def pid(self, name: str) -> int:
        """Return the process that plays the role now."""
        return self.notes(name)[-1][1]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds while the supervisor runs."""
        wait_until(condition, process=self.process, log=self.directory / "log", limit_s=LIMIT_S)


@contextmanager
def supervised(program: str, directory: Path) -> Iterator[Supervised]:
    """Start a program of tests/support/supervised.py and end it at the end."""
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.supervised", program, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    running = Supervised(process, directory)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Supervised]:
    """Two patient roles, started."""
    with supervised("patient", tmp_path) as running:
        running.wait(lambda: running.words("first") == ["start"] and running.words("second") == ["start"])
        yield running


class TestRestart:
    def test_killed_role_is_started_again_and_the_other_goes_on(self, patient: Supervised) -> None:
        first, second = patient.pid("first"), patient.pid("second")
        os.kill(second, signal.SIGKILL)
        patient.wait(lambda: patient.words("second") == ["start", "start"])
        assert patient.pid("second") != second
        assert patient.pid("first") == first
        assert is_running(str(first))
        assert "signal SIGKILL" in (patient.directory / "log").read_text()

    def test_role_that_always_dies_is_tried_again_and_again_beside_the_other(self, tmp_path: Path) -> None:
        with supervised("mortal", tmp_path) as running:
            running.wait(lambda: len(running.words("first")) >= 3)
            assert running.words("second") == ["start"]
            log = (tmp_path / "log").read_text()
            assert "cannot go on" in log
            assert "exit code 1" in log

    def test_pause_grows_to_a_ceiling_and_is_short_again_after_a_stable_life(self) -> None:
        backoff = Backoff()
        pauses = [backoff.next_s(0.1) for _ in range(10)]
        assert pauses[:3] == [BACKOFF_FIRST_S, BACKOFF_FIRST_S * 2, BACKOFF_FIRST_S * 4]
        assert pauses[-1] == BACKOFF_MAX_S
        assert backoff.next_s(STABLE_AFTER_S) == BACKOFF_FIRST_S


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_roles_are_stopped_in_their_order(self, patient: Supervised, number: signal.Signals) -> None:
        pids = [patient.pid(name) for name in ("first", "second")]
        assert stop(patient.process, number, limit_s=LIMIT_S) == 0
        noted = (patient.directory / "all").read_text().splitlines()
        assert noted[-3:] == ["first stop", "second stop", "supervisor stop"]
        assert not any(is_running(str(pid)) for pid in pids)

    def test_deaf_role_is_killed_when_the_time_is_over(self, tmp_path: Path) -> None:
        with supervised("deaf", tmp_path) as running:
            running.wait(lambda: running.words("first") == ["start"] and running.words("second") == ["start"])
            pid = running.pid("first")
            assert stop(running.process, signal.SIGTERM, limit_s=LIMIT_S) == 0
            assert not is_running(str(pid))
            assert "did not stop in time" in (tmp_path / "log").read_text()

    def test_second_signal_stops_at_once(self, tmp_path: Path) -> None:
        with supervised("deaf for long", tmp_path) as running:
            running.wait(lambda: running.words("first") == ["start"])
            running.process.send_signal(signal.SIGINT)
            running.wait(lambda: "stopping" in (tmp_path / "log").read_text())
            assert stop(running.process, signal.SIGINT, limit_s=LIMIT_S) == 0

    def test_role_gets_no_interrupt_from_the_terminal(self, patient: Supervised) -> None:
        # A terminal sends Ctrl-C to the group of the supervisor; the roles are in others.
        assert {os.getpgid(patient.pid("first")), os.getpgid(patient.pid("second"))}.isdisjoint({patient.process.pid})


class TestNothingIsLeftBehind:
    def test_roles_die_with_a_killed_supervisor_and_a_new_one_starts(self, patient: Supervised) -> None:
        pids = [patient.pid(name) for name in ("first", "second")]
        patient.process.kill()
        patient.process.wait()
        with supervised("patient", patient.directory) as successor:
            successor.wait(lambda: len(successor.words("first")) == 2)
            assert not any(is_running(str(pid)) for pid in pids)
            assert patient.words("first") == ["start", "start"]

    def test_second_supervisor_of_the_same_directory_is_refused(self, patient: Supervised) -> None:
        with supervised("patient", patient.directory) as second:
            assert second.process.wait(LIMIT_S) == 1
        assert f"in use by another twinhull, process {patient.process.pid}" in (patient.directory / "log").read_text()
        assert patient.words("supervisor") == ["start"]


class TestForks:
    def test_child_answers_fails_or_dies_and_the_caller_is_told(self, tmp_path: Path) -> None:
        with supervised("children", tmp_path) as running:
            assert running.process.wait(LIMIT_S) == 0
        assert (tmp_path / "answers").read_text().splitlines() == [
            "True",
            "JoinRefused: token was used (invite again)",
            "None",
            "TwinhullError: work failed: exit code 3 (see the messages above)",
            "TwinhullError: work failed: exit code 1 (see the messages above)",
        ]
        assert "invalid literal for int()" in (tmp_path / "log").read_text()

    def test_fork_beside_a_thread_is_refused(self, tmp_path: Path) -> None:
        with supervised("threaded", tmp_path) as running:
            assert running.process.wait(LIMIT_S) == 0
        assert "an import has started threads: MainThread, disturber" in (tmp_path / "log").read_text()
