"""A webhook's receiver on loopback: it notes what it is sent, and answers as it is told to."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.real_node import eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    text: str
    # What it was answered.
    status: int

    @property
    def body(self) -> Any:  # noqa: ANN401 - whatever JSON is
        """What was sent, read strictly."""
        return json.loads(self.text)

    @property
    def event_id(self) -> str:
        """The header by which a receiver knows an event again."""
        return self.headers["twinhull-event-id"]


class Receiver:
    """What has arrived, in order, and the status that is answered; `holds` lets requests wait for their answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.deliveries: list[Delivery] = []
        self.status = 200
        self.location = ""
        self.goes_on = threading.Event()
        self.goes_on.set()

    def wait_for(self, count: int, *, limit_s: float = 30.0) -> list[Delivery]:
        """Return all deliveries once there are so many."""

        def enough() -> list[Delivery]:
            return list(self.deliveries) if len(self.deliveries) >= count else []

        return eventually(enough, limit_s=limit_s, what=f"{count} deliveries, not {len(self.deliveries)}")

    def matching(self, meant: Callable[[Delivery], bool]) -> list[Delivery]:
        """Return those that are meant."""
        return [one for one in list(self.deliveries) if meant(one)]


@contextlib.contextmanager
def running_receiver(port: int = 0, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Receive on loopback, or another address of the test's, at a free port unless one is given, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.status
            receiver.deliveries.append(Delivery(path=self.path, headers=headers, text=text, status=status))
            receiver.goes_on.wait(60)
            with contextlib.suppress(OSError):
                self.send_response(status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - so it is called there
            """Say nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver = Receiver(f"{'https' if tls else 'http'}://{host}:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.goes_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
