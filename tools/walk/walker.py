"""Walks the recording: makes its requests in order, and what it leaves out in between, and compares the answers."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Final

from tools.walk.client import JSON_TYPE, Client, Reply, path_of, with_digest
from tools.walk.compare import differences
from tools.walk.images import BODIES, CONTENTS, DIGESTS, IMAGES
from tools.walk.names import Names, numbers_in
from twinhull.kit.clock import SystemClock

STEPS: Final = Path(__file__).with_name("steps.toml")
# How the recording writes several headers of one name.
_BETWEEN_COOKIES: Final = " || "
CSRF: Final = "x-harbor-csrf-token"
_STEP: Final = re.compile(r"(\S+) ([A-Z]+) (\S+)(?: (\{.*\}))?(?: => ([0-9]+))?")
_PUSH: Final = re.compile(r"push (\S+) (\S+):(\S+) (\S+)")
_LEARN: Final = re.compile(r"learn (\S+) ([0-9]+) (.*)")
_WAIT: Final = re.compile(r"wait (\S+) (\S+) (\w+)=(\S+)")
_WAIT_S: Final = 60.0
_LOOK_S: Final = 0.05
_PASSWORD: Final = re.compile(r"/api/v2\.0/users/([0-9]+)/password")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request of the recording, and what Harbor answered."""

    # Whole in the recording; what stands beside it lies in between.
    seq: float
    group: str
    auth: str
    method: str
    path: str
    request_headers: Mapping[str, str]
    request_body: Any
    status: int
    headers: Mapping[str, str]
    body: Any
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one row went."""

    row: Row
    status: int
    # In words; empty when status and shape are the same.
    differences: tuple[str, ...]
    # What a client might notice, and the walk does not count: another error code, a header that is not there.
    remarks: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """Whether the row is judged: Harbor's own failures are not."""
        return self.row.status < 500


def read_recording(file: Path) -> list[Row]:
    """Return the rows in their order."""
    return [Row(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


class Walker:
    """Makes the requests of a recording to one node."""

    def __init__(self, client: Client, *, peer: str) -> None:
        """Take the node, and the address of another registry for what was replicated."""
        steps = tomllib.loads(STEPS.read_text(encoding="utf-8"))
        self._client = client
        self._steps = sorted((int(seq), lines) for seq, lines in steps["before"].items())
        self._wrong_password = frozenset(steps["wrong_password"])
        self._names = Names(DIGESTS, {"http://127.0.0.3:80": f"http://{peer}"})
        self._csrf = ""
        self._clock = SystemClock()
        # Steps that did not do what they should: later rows then differ because of them.
        self.failed_steps: list[str] = []
        # By the recording's id of the upload session.
        self._sent: dict[str, int] = {}

    def walk(self, rows: list[Row]) -> Iterator[Outcome]:
        """Make all requests; return how each went."""
        for row in rows:
            while self._steps and self._steps[0][0] <= row.seq:
                for line in self._steps.pop(0)[1]:
                    self._step(line)
            yield self._outcome(row, self._request(row))

    # -- requests --------------------------------------------------------------------------------------------------

    def _request(self, row: Row) -> Reply:
        upload = self._names.upload_of(row.path)
        path = self._upload_path(row, *upload) if upload else self._names.path(row.path)
        headers = {name: self._names.text(value) for name, value in row.request_headers.items()}
        token = row.request_headers.get("X-Harbor-CSRF-Token", "")
        if len(token) > len("bad") and headers["X-Harbor-CSRF-Token"] == token:
            # It was handed out in a row that is not there.
            headers["X-Harbor-CSRF-Token"] = self._csrf
        headers |= self._client.authorization(row.auth, wrong=row.seq in self._wrong_password)
        content = self._content(row, headers)
        if upload and row.method == "PATCH":
            self._sent[upload[1]] = self._sent.get(upload[1], 0) + len(content or b"")
        if row.method == "PUT" and "/manifests/" in path:
            headers["Content-Type"] = IMAGES["small"].media_type
        reply = self._client.send(row.method, path, headers, content)
        self._learn(row, reply)
        return reply

    def _content(self, row: Row, headers: dict[str, str]) -> bytes | None:
        if row.request_body is None:
            return None
        if isinstance(row.request_body, str):
            return BODIES.get(row.request_body, row.request_body.encode())
        headers.setdefault("Content-Type", JSON_TYPE)
        return json.dumps(self._names.body(row.request_body, row.path)).encode()

    def _upload_path(self, row: Row, repository: str, session: str, query: str) -> str:
        """Return where an upload goes on, after doing what the recording left out of it."""
        if session not in self._names.uploads:
            started = self._client.send("POST", f"/v2/{repository}/blobs/uploads/", self._client.authorization(row.auth), b"")
            self._names.uploads[session] = started.header("Location")
        digest = self._names.text(query.rpartition("digest=")[2].replace("%3A", ":")) if "digest=" in query else ""
        content = CONTENTS.get(digest, b"")
        if row.method == "PUT" and content and row.request_body == "<0 bytes>" and not self._sent.get(session):
            headers = self._client.authorization(row.auth) | {"Content-Type": "application/octet-stream"}
            sent = self._client.send("PATCH", path_of(self._names.uploads[session]), headers, content)
            self._names.uploads[session] = sent.header("Location") or self._names.uploads[session]
        location = path_of(self._names.uploads[session])
        return with_digest(location, digest) if digest else location

    def _step(self, line: str) -> None:
        if pushed := _PUSH.fullmatch(line):
            try:
                self._client.push(pushed[1], pushed[2], pushed[3], IMAGES[pushed[4]])
            except RuntimeError as error:
                self.failed_steps.append(f"{line}: {error}")
            return
        if wanted := _WAIT.fullmatch(line):
            self._wait(line, wanted[1], wanted[2], {wanted[3]: wanted[4]})
            return
        learned = _LEARN.fullmatch(line)
        step = _STEP.fullmatch(learned[3] if learned else line)
        if step is None:
            raise ValueError(f"{STEPS.name}: {line}")
        row = Row(
            seq=0,
            group="",
            auth=step[1],
            method=step[2],
            path=step[3],
            request_headers={},
            request_body=json.loads(step[4]) if step[4] else None,
            status=0,
            # What a schedule started stands beside the schedule, not below it.
            headers={"location": f"{step[3].rstrip('/').removesuffix('/schedule')}/{step[5]}"} if step[5] else {},
            body=None,
        )
        reply = self._request(row)
        found = reply.json() if learned else []
        if reply.status >= 400 or (learned and not found):
            self.failed_steps.append(f"{line}: {reply.status} {reply.content[:200]!r}")
        elif learned:
            self._names.learn(learned[1], int(learned[2]), int(found[0]["id"]))

    def _wait(self, line: str, who: str, path: str, wanted: Mapping[str, str]) -> None:
        """Ask until what is found, or the first of a list, has this field; a step that failed when it never has."""
        until_s = self._clock.monotonic_s() + _WAIT_S
        while True:
            reply = self._client.send("GET", self._names.path(path), self._client.authorization(who))
            found = reply.json()
            first = found[0] if isinstance(found, list) and found else found
            if isinstance(first, dict) and all(str(first.get(name)) == value for name, value in wanted.items()):
                return
            if self._clock.monotonic_s() > until_s:
                self.failed_steps.append(f"{line}: {reply.status} {reply.content[:200]!r}")
                return
            time.sleep(_LOOK_S)

    # -- answers ---------------------------------------------------------------------------------------------------

    def _learn(self, row: Row, reply: Reply) -> None:
        body = reply.json()
        if row.headers.get("location") and reply.header("Location"):
            self._names.learn_location(row.headers["location"], reply.header("Location"))
        elif row.headers.get("location") and isinstance(body, dict) and "id" in body:
            for collection, number in numbers_in(row.headers["location"]):
                self._names.learn(collection, number, int(body["id"]))
        if reply.status < 300:
            self._names.learn_body(row.body, body)
            self._learn_secrets(row, body)
        theirs, ours = SimpleCookie(), SimpleCookie()
        for cookie in row.headers.get("set-cookie", "").split(_BETWEEN_COOKIES):
            theirs.load(cookie)
        for cookie in reply.headers.get_all("Set-Cookie") or ():
            ours.load(cookie)
        for name in theirs.keys() & ours.keys():
            self._names.learn_text(theirs[name].value, ours[name].value)
        if reply.header(CSRF):
            self._csrf = reply.header(CSRF)
            if row.headers.get(CSRF):
                self._names.learn_text(row.headers[CSRF], self._csrf)

    def _learn_secrets(self, row: Row, body: Any) -> None:  # noqa: ANN401 - whatever JSON is
        passwords = self._client.passwords
        if row.method == "POST" and row.path.endswith("/users"):
            passwords[row.request_body["username"]] = row.request_body["password"]
        changed = _PASSWORD.fullmatch(row.path)
        if changed:
            user = row.auth if row.auth != "admin" else "dev55838"
            passwords[user] = row.request_body["new_password"]
        if isinstance(body, dict) and "secret" in body:
            name = body.get("name") or "robot$sysr55838"
            passwords[name] = body["secret"]
        if isinstance(body, dict) and row.path.startswith("/service/token") and row.auth == "dev55838":
            self._client.bearer = str(body.get("token", ""))

    def _outcome(self, row: Row, reply: Reply) -> Outcome:
        found: list[str] = []
        if reply.status != row.status:
            found.append(f"status {reply.status}, not {row.status}: {reply.content[:160].decode('utf-8', 'replace')}")
        elif row.body is not None and row.method != "HEAD" and not row.path.startswith("/v2/") and not _is_page(row.body):
            found += differences(row.body, reply.json())
        return Outcome(row=row, status=reply.status, differences=tuple(found), remarks=tuple(_remarks(row, reply)))


def _is_page(body: Any) -> bool:  # noqa: ANN401 - whatever JSON is
    """Whether that is no answer of the API but a page or a text, of which the status alone matters."""
    return isinstance(body, str)


def _remarks(row: Row, reply: Reply) -> Iterator[str]:
    for name in ("location", "x-total-count", "link"):
        if row.headers.get(name) and reply.status == row.status and not reply.header(name):
            yield f"no {name}"
    theirs, ours = _codes(row.body), _codes(reply.json())
    if reply.status == row.status and theirs != ours:
        yield f"code {','.join(ours) or 'none'}, not {','.join(theirs) or 'none'}"


def _codes(body: Any) -> list[str]:  # noqa: ANN401 - whatever JSON is
    errors = body.get("errors") if isinstance(body, dict) else None
    return [str(error.get("code", "")) for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
