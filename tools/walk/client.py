"""Sends requests to a node over one connection, as the people of the recording."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tools.walk.images import Image, digest_of

TIMEOUT_S: Final = 60
JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a node answered."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    def header(self, name: str) -> str:
        """Return a header; empty if it is not there."""
        return str(self.headers.get(name, ""))

    def json(self) -> Any:  # noqa: ANN401 - whatever JSON is
        """Return the body's JSON, or the body as text if it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return self.content.decode("utf-8", "replace")


class Client:
    """One connection to a node, and what its users know: passwords and a bearer token."""

    def __init__(self, address: str, passwords: Mapping[str, str]) -> None:
        """Take the node's host:port and the passwords by user."""
        self.address = address
        self.passwords = dict(passwords)
        self.bearer = ""
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)

    def authorization(self, who: str, *, wrong: bool = False) -> dict[str, str]:
        """Return the headers that say who is asking."""
        if who == "anonymous":
            return {}
        if who == "bearer":
            return {"Authorization": f"Bearer {self.bearer}"}
        password = "wrong" if wrong else self.passwords.get(who, "unknown")
        return {"Authorization": "Basic " + base64.b64encode(f"{who}:{password}".encode()).decode()}

    def send(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None = None) -> Reply:
        """Return the answer to one request; the path goes out as it is."""
        for attempt in (1, 2):
            try:
                self._connection.request(method, path.replace(" ", "%20"), body=content, headers=dict(headers))
                response = self._connection.getresponse()
                return Reply(status=response.status, headers=response.headers, content=response.read())
            except (http.client.RemoteDisconnected, ConnectionError):
                # The server may close a connection that was idle; a second failure is none of that.
                self._connection.close()
                if attempt == 2:
                    raise
        raise AssertionError

    def push(self, who: str, repository: str, reference: str, image: Image) -> None:
        """Push an image, or raise RuntimeError."""
        for child in image.children:
            self.push(who, repository, child.digest, child)
        for blob in image.blobs:
            started = self._must(202, "POST", f"/v2/{repository}/blobs/uploads/", self.authorization(who), b"")
            self.put_blob(who, started.header("Location"), digest_of(blob), blob)
        headers = self.authorization(who) | {"Content-Type": image.media_type}
        self._must(201, "PUT", f"/v2/{repository}/manifests/{reference}", headers, image.manifest)

    def put_blob(self, who: str, location: str, digest: str, content: bytes) -> None:
        """Finish an upload, or raise RuntimeError."""
        headers = self.authorization(who) | {"Content-Type": "application/octet-stream"}
        self._must(201, "PUT", with_digest(location, digest), headers, content)

    def _must(self, status: int, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Reply:
        reply = self.send(method, path_of(path), headers, content)
        if reply.status != status:
            raise RuntimeError(f"{method} {path}: {reply.status} {reply.content[:300]!r}")
        return reply

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def path_of(location: str) -> str:
    """Return path and query of an address."""
    _, scheme, rest = location.partition("://")
    return "/" + rest.partition("/")[2] if scheme else location


def with_digest(location: str, digest: str) -> str:
    """Return an upload's address with the digest that finishes it."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"
