"""Logs: their form, the request's id, and that nothing secret gets in, whatever name or shape it comes under."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from twinhull.config.settings import LogSettings
from twinhull.config.values import LogFormat, LogLevel, Secret
from twinhull.kit.clock import ManualClock
from twinhull.observe.log import REQUEST_ID, AccessLog, configure_logging, redact

NOON_MS = 1_700_000_000_123


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def configured(level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.JSON) -> io.StringIO:
    """Return the stream to which all logs go from now on."""
    stream = io.StringIO()
    configure_logging(LogSettings(level=level, format=form), ManualClock(NOON_MS), stream=stream, fields={"node": "a"})
    return stream


class TestLines:
    def test_json_line_has_time_level_message_and_fields(self) -> None:
        stream = configured()
        structlog.get_logger().info("blob stored", digest="sha256:1", size_bytes=3, where=Path("/x"))
        assert json.loads(stream.getvalue()) == {
            "time": "2023-11-14T22:13:20.123Z",
            "level": "info",
            "message": "blob stored",
            "node": "a",
            "digest": "sha256:1",
            "size_bytes": 3,
            "where": "/x",
        }

    def test_console_line_is_for_people(self) -> None:
        stream = configured(form=LogFormat.CONSOLE)
        structlog.get_logger().warning("peer is gone", peer="b")
        line = stream.getvalue()
        assert "peer is gone" in line
        assert "peer=b" in line
        assert not line.startswith("{")

    def test_lines_below_the_level_are_dropped(self) -> None:
        stream = configured(LogLevel.WARNING)
        structlog.get_logger().info("no")
        logging.getLogger("lib").info("no")
        assert stream.getvalue() == ""

    def test_standard_librarys_logs_take_the_same_way(self) -> None:
        stream = configured()
        logging.getLogger("lib").warning("worker %s is gone", 3)
        line = json.loads(stream.getvalue())
        assert (line["level"], line["message"], line["node"]) == ("warning", "worker 3 is gone", "a")

    def test_request_id_is_in_each_line_of_the_request(self) -> None:
        stream = configured()
        token = REQUEST_ID.set("r1")
        structlog.get_logger().info("one")
        REQUEST_ID.reset(token)
        structlog.get_logger().info("two")
        one, two = map(json.loads, stream.getvalue().splitlines())
        assert one["request_id"] == "r1"
        assert "request_id" not in two

    def test_traceback_is_there_without_local_variables(self) -> None:
        for form in (LogFormat.JSON, LogFormat.CONSOLE):
            stream = configured(form=form)
            hidden = "hunter2-in-a-local"
            try:
                raise ValueError(len(hidden))
            except ValueError:
                structlog.get_logger().exception("failed")
            assert "ValueError: 18" in stream.getvalue()
            assert hidden not in stream.getvalue().replace('hidden = "hunter2-in-a-local"', "")

    def test_odd_values_never_fail_a_line(self) -> None:
        stream = configured()
        structlog.get_logger().info("odd", surrogate="\ud800", set_={1}, bytes_=b"\xff", none=None, keys={(1, 2): 3})
        assert json.loads(stream.getvalue())["message"] == "odd"

    def test_line_break_in_a_value_makes_no_second_line(self) -> None:
        stream = configured()
        structlog.get_logger().info("x", name='a\n{"level":"error"}')
        assert len(stream.getvalue().splitlines()) == 1


class TestRedaction:
    @pytest.mark.parametrize(
        "field",
        [
            "password",
            "new_password",
            "Authorization",
            "token",
            "refresh-token",
            "secret",
            "cookie",
            "Set-Cookie",
            "private_key",
        ],
    )
    def test_field_with_a_secrets_name_is_hidden(self, field: str) -> None:
        assert redact(None, "", {"event": "x", field: "hunter2"})[field] == "***"

    @pytest.mark.parametrize("field", ["tokens_issued", "digest", "passwordless", "key", "secretary"])
    def test_other_fields_are_shown(self, field: str) -> None:
        assert redact(None, "", {"event": "x", field: "shown"})[field] == "shown"

    @pytest.mark.parametrize(
        "value",
        [
            Secret("hunter2"),
            {"headers": [(b"authorization", b"Basic aHVudGVyMg=="), ("Cookie", "sid=hunter2")]},
            {"user": {"password": "hunter2"}},
            ["x", {"secret": "hunter2"}],
            "curl -H 'Authorization: Bearer hunter2hunter2'",
            b"proxy said Basic aHVudGVyMg== is wrong",
            "cannot connect to postgresql+psycopg://me:hunter2@db/reg",
            {"a": {"b": {"c": {"d": {"e": {"password": "hunter2"}}}}}},
        ],
    )
    def test_secret_is_hidden_by_type_place_and_look(self, value: object) -> None:
        shown = repr(redact(None, "", {"event": "x", "value": value}))
        assert "hunter2" not in shown
        assert "aHVudGVyMg" not in shown

    def test_secret_in_an_exception_is_hidden(self) -> None:
        stream = configured()
        try:
            raise OSError("no route to postgresql://u:hunter2@h/d")
        except OSError:
            structlog.get_logger().exception("failed")
        assert "u:***@h" in stream.getvalue()
        assert "hunter2" not in stream.getvalue().replace("raise OSError", "").replace('u:hunter2@h/d")', "")


@pytest.fixture
def written(tmp_path: Path) -> Iterator[TextIO]:
    """A file to write lines to."""
    with (tmp_path / "log").open("w+", encoding="utf-8") as file:
        yield file


def access_log(file: TextIO, form: LogFormat = LogFormat.JSON) -> AccessLog:
    """Return an access log that writes to the file."""
    return AccessLog(LogSettings(format=form), ManualClock(NOON_MS), stream=file)


class TestAccessLog:
    async def test_line_says_who_asked_for_what_and_got_what(self, written: TextIO) -> None:
        log = access_log(written)
        log.write("GET", "/v2/library/app/manifests/1", 200, 0.0012, 512, "192.0.2.1", "alice", "r1")
        log.flush()
        assert json.loads(Path(written.name).read_text()) == {
            "time": "2023-11-14T22:13:20.123Z",
            "level": "info",
            "message": "request",
            "method": "GET",
            "path": "/v2/library/app/manifests/1",
            "status": 200,
            "elapsed_ms": 1.2,
            "sent_bytes": 512,
            "client": "192.0.2.1",
            "user": "alice",
            "request_id": "r1",
        }

    async def test_console_line_is_for_people(self, written: TextIO) -> None:
        log = access_log(written, LogFormat.CONSOLE)
        log.write("GET", "/v2/", 401, 0.0004, 0, "192.0.2.1", "", "r2")
        log.flush()
        line = Path(written.name).read_text()
        assert line == "2023-11-14T22:13:20.123Z 401 GET /v2/ 0.4 ms 0 B from 192.0.2.1 by - request r2\n"

    async def test_lines_are_written_by_themselves_after_a_moment(self, written: TextIO) -> None:
        log = access_log(written)
        log.write("GET", "/", 200, 0.0, 0, "c", "u", "r")
        async with asyncio.timeout(5):
            while not os.fstat(written.fileno()).st_size:
                await asyncio.sleep(0)
        assert Path(written.name).read_text().count("\n") == 1

    @pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
    async def test_client_cannot_forge_a_line(self, written: TextIO, form: LogFormat) -> None:
        log = access_log(written, form)
        evil = 'x"\n{"message":"request","user":"admin"}\r\x1b[2J\ud800é'
        log.write("GET", evil, 200, 0.0, 0, evil, evil, evil)
        log.flush()
        lines = Path(written.name).read_text().splitlines()
        assert len(lines) == 1
        assert lines[0].isprintable()
        if form is LogFormat.JSON:
            assert json.loads(lines[0])["user"] == evil

    async def test_nothing_is_written_when_it_is_off(self, written: TextIO) -> None:
        log = AccessLog(LogSettings(access=False), ManualClock(), stream=written)
        log.write("GET", "/", 200, 0.0, 0, "c", "u", "r")
        log.flush()
        assert Path(written.name).read_text() == ""

    async def test_stuck_reader_is_not_waited_for(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with os.fdopen(reader, "rb"), os.fdopen(writer, "w") as stream:
            log = AccessLog(LogSettings(format=LogFormat.JSON), ManualClock(), stream=stream)
            for _ in range(2000):
                log.write("GET", "/" + "x" * 100, 200, 0.0, 0, "c", "u", "r")
            log.flush()
            assert log.lost_lines > 0
