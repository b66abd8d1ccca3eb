"""Fail points: a process dies at the one that it was told of, passes the others, and every one of them is somewhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import twinhull
from twinhull.config.load import load_settings
from twinhull.kit.fail_points import FAIL_POINTS, VARIABLE

_SOURCES = Path(twinhull.__file__).parent
_PROGRAM = (
    "from twinhull.kit.fail_points import fail_point; fail_point('blob-verified'); fail_point('write-committed'); print(1)"
)


def run(armed: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, VARIABLE: armed} if armed else os.environ
    return subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False, env=environment)


def test_process_dies_at_the_point_that_is_armed_and_nowhere_without() -> None:
    assert run("write-committed").returncode == -signal.SIGKILL
    assert run("changes-applied").stdout == run("").stdout == "1\n"


def test_every_fail_point_stands_in_one_place_of_the_program() -> None:
    found = [name for path in _SOURCES.rglob("*.py") for name in re.findall(r'fail_point\("([a-z-]+)"\)', path.read_text())]
    assert sorted(found) == sorted(FAIL_POINTS)


def test_variable_is_no_setting_that_was_spelled_wrong() -> None:
    assert load_settings(None, {VARIABLE: "write-committed"}, {}).warnings == ()
