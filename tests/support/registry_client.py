"""A plain HTTP client for OCI registries, by which a test controls each header, byte and node of a conversation."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import random
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

TIMEOUT_S: Final = 30.0
_PARAMETER: Final = re.compile(r'([a-z_]+)="([^"]*)"')

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: status, headers as they were sent, the whole body, and what had been asked."""

    asked: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that name, or None."""
        return next(iter(self.all_headers(name)), None)

    def all_headers(self, name: str) -> list[str]:
        """Return the values of all headers of that name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self) -> object:
        """Return the body as JSON, or fail the test."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise AssertionError(f"not JSON: {self}") from error

    @property
    def codes(self) -> list[str]:
        """Return the error codes, after checking that the body has the specification's form."""
        document = self.json()
        assert isinstance(document, dict), self
        errors = document["errors"]
        assert isinstance(errors, list), self
        assert errors, self
        for error in errors:
            assert re.fullmatch(r"[A-Z_]+", error["code"]), self
            assert isinstance(error.get("message", ""), str), self
        return [error["code"] for error in errors]

    def expect(self, *statuses: int) -> Answer:
        """Return the answer itself if its status is one of these, or fail the test with all that is known of it."""
        assert self.status in statuses, f"wanted {statuses}: {self}"
        return self

    def refused(self, statuses: int | tuple[int, ...], codes: str | tuple[str, ...]) -> Answer:
        """Return the answer if it is an error with one of these statuses and one of these codes, or fail the test."""
        self.expect(*(statuses if isinstance(statuses, tuple) else (statuses,)))
        if self.body or not self.asked.startswith("HEAD "):
            wanted = codes if isinstance(codes, tuple) else (codes,)
            assert set(self.codes) & set(wanted), f"wanted one of {wanted}: {self}"
            assert (self.header("Content-Type") or "").partition(";")[0] == "application/json", self
        return self

    def __str__(self) -> str:
        """Return one readable description for failure reports."""
        return f"{self.asked} -> {self.status} {dict(self.headers)} {self.body[:500]!r}"


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def challenge_of(answer: Answer) -> tuple[str, dict[str, str]]:
    """Return the scheme in lower case and the parameters of the first challenge, or fail the test."""
    value = answer.header("WWW-Authenticate")
    assert value, f"no challenge: {answer}"
    return value.partition(" ")[0].lower(), dict(_PARAMETER.findall(value))


def path_of(location: str) -> str:
    """Return path and query of an absolute or relative address."""
    parts = urlsplit(location)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def add_query(path: str, query: Query) -> str:
    """Return the path with parameters added to those that it has."""
    if not query:
        return path
    return f"{path}{'&' if '?' in path else '?'}{urlencode(query, quote_via=quote)}"


def read_raw(address: str, request: bytes, *, half_close: bool = False, timeout_s: float = TIMEOUT_S) -> bytes:
    """Send these very bytes, and return all that comes back until the server closes or falls silent for the time given."""
    host, _, port = address.rpartition(":")
    received = bytearray()
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        try:
            while piece := connection.recv(65536):
                received += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return bytes(received)


@dataclass(slots=True, kw_only=True)
class RegistryClient:
    """Talks to one registry at one or several addresses; each request goes to one of them, drawn by a seeded generator.

    Names and password are used when a challenge asks for them; with `user=""` requests stay anonymous.
    """

    addresses: Sequence[str]
    user: str = ""
    password: str = ""
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    timeout_s: float = TIMEOUT_S
    _authorizations: dict[str, str] = field(default_factory=dict)

    def with_credentials(self, user: str, password: str) -> RegistryClient:
        """Return another client of the same registry, as somebody else."""
        return RegistryClient(addresses=self.addresses, user=user, password=password, draw=self.draw, timeout_s=self.timeout_s)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: Headers = (),
        body: bytes | Iterable[bytes] = b"",
        authorization: str | None = None,
    ) -> Answer:
        """Send one request, answering a challenge once, and return what came back.

        Bytes are sent with a Content-Length, anything else that yields bytes is sent in chunks. `authorization` is sent as it
        is and turns the answering of challenges off; "" sends none.
        """
        target = add_query(path, query)
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        content: bytes | list[bytes] = body if isinstance(body, bytes) else list(body)
        if authorization is not None:
            if authorization:
                pairs.append(("Authorization", authorization))
            return self._send(method, target, pairs, content)
        key = f"{_group(method)} {_repository_of(path)}"
        cached = self._authorizations.get(key)
        answer = self._send(method, target, [*pairs, ("Authorization", cached)] if cached else pairs, content)
        if answer.status == 401 and self.user:
            cached = self._authorizations[key] = self.authorization_for(answer)
            answer = self._send(method, target, [*pairs, ("Authorization", cached)], content)
        return answer

    def authorization_for(self, challenged: Answer) -> str:
        """Return the Authorization header that the challenge asks for, fetching a token if need be."""
        scheme, parameters = challenge_of(challenged)
        if scheme == "basic":
            return basic(self.user, self.password)
        assert scheme == "bearer", challenged
        query = [(name, parameters[name]) for name in ("service", "scope") if name in parameters]
        return f"Bearer {self.token(parameters['realm'], query)}"

    def authorization_of(self, method: str, path: str) -> str:
        """Return the Authorization header that a request needs, for those that a test writes byte by byte; "" if none."""
        if not self.user:
            # Such a registry would carry out what only a challenge is wanted for.
            return ""
        answer = self._send(method, path, [], b"")
        return self.authorization_for(answer) if answer.status == 401 else ""

    def token(self, realm: str, query: Query) -> str:
        """Return a token from the address that a challenge named, or fail the test."""
        pairs = [("Authorization", basic(self.user, self.password))] if self.user else []
        document = self._send("GET", add_query(path_of(realm), query), pairs, b"").expect(200).json()
        assert isinstance(document, dict)
        token = document.get("token") or document.get("access_token")
        assert isinstance(token, str), document
        return token

    def _send(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | list[bytes]) -> Answer:
        address = self.draw.choice(self.addresses)
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=self.timeout_s)
        names = {name.lower() for name, _ in headers}
        try:
            connection.putrequest(method, target, skip_host="host" in names, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if not isinstance(body, bytes):
                connection.putheader("Transfer-Encoding", "chunked")
            elif "content-length" not in names and (body or method in {"POST", "PUT", "PATCH"}):
                connection.putheader("Content-Length", str(len(body)))
            # A server that refuses a long body may answer, and close, before all of it was sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if isinstance(body, bytes):
                    connection.endheaders(body or None)
                else:
                    connection.endheaders(iter(body), encode_chunked=True)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        asked = f"{method} http://{address}{target}"
        return Answer(asked=asked, status=response.status, headers=tuple(response.getheaders()), body=content)


def _group(method: str) -> str:
    if method in {"GET", "HEAD"}:
        return "pull"
    return "delete" if method == "DELETE" else "push"


def _repository_of(path: str) -> str:
    found = re.match(r"/v2/(.+?)/(?:blobs|manifests|tags|referrers)/", path)
    return found[1] if found else path.partition("?")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One repository as a client sees it, by the paths of the specification."""

    client: RegistryClient
    name: str

    def path(self, rest: str) -> str:
        """Return the path of something in this repository."""
        return f"/v2/{self.name}/{rest}"

    def get(self, rest: str, *, query: Query = (), headers: Headers = (), authorization: str | None = None) -> Answer:
        """GET something of this repository: `manifests/v1`, `blobs/sha256:…`, `tags/list`, `referrers/sha256:…`."""
        return self.client.request("GET", self.path(rest), query=query, headers=headers, authorization=authorization)

    def head(self, rest: str, *, headers: Headers = ()) -> Answer:
        """HEAD something of this repository."""
        return self.client.request("HEAD", self.path(rest), headers=headers)

    def delete(self, rest: str) -> Answer:
        """DELETE something of this repository."""
        return self.client.request("DELETE", self.path(rest))

    def start_upload(self, *, query: Query = ()) -> str:
        """Open an upload session, and return path and query of its Location."""
        answer = self.client.request("POST", self.path("blobs/uploads/"), query=query).expect(202)
        return location_of(answer)

    def patch(self, upload: str, body: bytes | Iterable[bytes], *, content_range: str | None = None) -> Answer:
        """Send a piece of an upload."""
        headers = [("Content-Type", "application/octet-stream")]
        if content_range is not None:
            headers.append(("Content-Range", content_range))
        return self.client.request("PATCH", upload, headers=headers, body=body)

    def finish(self, upload: str, digest: str, body: bytes = b"", *, content_range: str | None = None) -> Answer:
        """Close an upload, with its last piece or without."""
        headers = [("Content-Type", "application/octet-stream")]
        if content_range is not None:
            headers.append(("Content-Range", content_range))
        return self.client.request("PUT", upload, query=[("digest", digest)], headers=headers, body=body)

    def push_blob(self, content: bytes, digest: str) -> Answer:
        """Push a blob by POST and PUT, and return the answer to the PUT."""
        return self.finish(self.start_upload(), digest, content)

    def put_manifest(
        self, reference: str, content: bytes | Iterable[bytes], media_type: str | None, *, query: Query = ()
    ) -> Answer:
        """PUT a manifest under a tag or digest, with that Content-Type or none."""
        headers = [] if media_type is None else [("Content-Type", media_type)]
        return self.client.request("PUT", self.path(f"manifests/{reference}"), query=query, headers=headers, body=content)

    def tags(self, *, query: Query = ()) -> list[str]:
        """Return the tags of one page of the list."""
        document = self.get("tags/list", query=query).expect(200).json()
        assert isinstance(document, dict)
        assert document["name"] == self.name
        tags = document["tags"]
        assert isinstance(tags, list), document
        return tags


def location_of(answer: Answer) -> str:
    """Return path and query of the answer's Location, or fail the test."""
    location = answer.header("Location")
    assert location, f"no Location: {answer}"
    return path_of(location)


def next_page_of(answer: Answer) -> str | None:
    """Return path and query of the next page by the Link header, or None when this is the last one."""
    link = answer.header("Link")
    if link is None:
        return None
    found = re.fullmatch(r'<([^>]+)>;\s*rel="?next"?', link)
    assert found, f"unreadable Link: {answer}"
    return path_of(found[1])


def pieces(content: bytes, size_bytes: int) -> Iterator[bytes]:
    """Yield the content in pieces of that size."""
    for start in itertools.count(0, size_bytes):
        if start >= len(content):
            return
        yield content[start : start + size_bytes]
