"""Talks to a running node's agent: HTTP with JSON through a socket in the node's data directory.

| request | body | answer |
| --- | --- | --- |
| GET /status | | `Status` |
| POST /invite | `{}` | `{"token": …, "expires_unix_ms": …}` |
| POST /verify | `{"deep": bool, "repair": bool}` | `{"equal": bool, "missing_blobs", "faults", "peers", "alarms"}` |
| GET /wait?timeout_s= | | `{"in_sync": bool, "peers": [member, …]}` |
| POST /leave | `{}` | `{}` |
| POST /remove | `{"node": name or id}` | `{"node": name}` |
| POST /gc | `Order` of jobs/garbage_collections.py | `{"id": int}` |
| POST /gc/show | `{"id": int}` or `{}` | `{"collections": [{"id", "status", "ended", "order", "outcome", "error", …}]}` |
| POST /gc/stop | `{}` | `{"id": int or null}` |
| POST /scrub | `{"pace_mb_s": number or null}` | `Scrub` of upkeep/scrub_notes.py, with "left" and "ended" |
| POST /scrub/show | `{}` | `{"scrub": Scrub or null}` |
| POST /scrub/stop | `{}` | `{"number": int or null}` |
| POST /durability | `{"level": text, "on_peer_loss": text}` or parts of it | `{"cluster": {both}, "node": {both}}` |
| POST /pause, POST /resume | `{"peer": name, id or null}` | `{"peers": [name, …]}` |

A status of 400 or more comes with `{"error": …, "hint": …}`.

A member is `{"id", "name", "address", "cluster_address", "state", "lag_changes", "lag_bytes", "lag_s"}`, and a peer has also
`last_error`, `held`, `held_there` (reasons by origin), `received_bytes`, `sent_bytes` and both with `_per_s`; its state is one
of `self`, `in sync`, `behind`, `suspect`, `one-way`, `down`, `paused`, and what is not known is null. `Status` is
`{"node": member, "members": [member, …], "log_position": int, "durability": level, "conflicts": int,
"alarms": [{"name", "peer", "message"}]}`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from twinhull.kit.errors import TwinhullError, Unavailable

SOCKET_NAME: Final = "agent.sock"
# A unix socket's name may have 107 bytes on Linux; a longer path is reached through its folder's descriptor.
_SOCKET_PATH_MAX_BYTES: Final = 100
_ANSWER_TIMEOUT_S: Final = 60.0
# Comparing and mending two big nodes takes a while.
VERIFY_TIMEOUT_S: Final = 3600.0


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection through a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("agent", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self._path)) <= _SOCKET_PATH_MAX_BYTES:
            self.sock.connect(str(self._path))
            return
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


class AgentClient:
    """Requests to one running node."""

    def __init__(self, data_dir: Path) -> None:
        """Take the node's data directory; nothing is asked yet."""
        self._data_dir = data_dir
        self._socket = data_dir / "run" / SOCKET_NAME

    def get(
        self, path: str, query: Mapping[str, object] | None = None, *, timeout_s: float = _ANSWER_TIMEOUT_S
    ) -> dict[str, Any]:
        """Return the answer; raise Unavailable when no node runs here, or a failure with the agent's own words."""
        return self._ask("GET", path + (f"?{urlencode(query)}" if query else ""), None, timeout_s)

    def post(self, path: str, body: dict[str, object] | None = None, *, timeout_s: float = _ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """Return the answer; fail as `get` does."""
        return self._ask("POST", path, json.dumps(body or {}).encode(), timeout_s)

    def _ask(self, method: str, target: str, body: bytes | None, timeout_s: float) -> dict[str, Any]:
        connection = _UnixConnection(self._socket, timeout_s)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            status, content = response.status, response.read()
        except TimeoutError as error:
            raise Unavailable(
                f"the node in {self._data_dir} did not answer within {timeout_s:g} s", hint="see its log, or try again"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"no node is running in {self._data_dir}", hint=self._way_out()) from error
        finally:
            connection.close()
        return _answer(status, content)

    def _way_out(self) -> str:
        inner = [name for name in ("a", "b") if (self._data_dir / name / "run" / SOCKET_NAME).exists()]
        if inner:
            # A folder of `twinhull up`.
            return "choose one of its nodes: " + " or ".join(f"--data-dir {self._data_dir / name}" for name in inner)
        return "start it with `twinhull serve`, or name another with --data-dir"


def _answer(status: int, content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content or b"{}")
    except ValueError as error:
        raise TwinhullError(f"the node answered {status} and no JSON", hint="is it of another version?") from error
    if not isinstance(answer, dict):
        raise TwinhullError(f"the node answered {status} with no object", hint="is it of another version?")
    if status >= 400:
        raise TwinhullError(str(answer.get("error") or f"the node answered {status}"), hint=str(answer.get("hint") or ""))
    return answer
