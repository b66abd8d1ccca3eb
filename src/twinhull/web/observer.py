"""What is noted of each request: a figure and, where wanted, a line."""

from __future__ import annotations

from typing import Final

from twinhull.observe.log import AccessLog
from twinhull.observe.metrics import CORE, REGISTRY, Face, Metrics
from twinhull.web.app import Finished
from twinhull.web.asgi import OPERATION, USER, Scope
from twinhull.web.middleware import Forwarding

_FACES: Final[dict[str, Face]] = {"registry": REGISTRY}


class RequestObserver:
    """Counts requests and writes the access log."""

    def __init__(self, metrics: Metrics, access_log: AccessLog, forwarding: Forwarding) -> None:
        """Take where figures and lines go."""
        self._metrics = metrics
        self._access_log = access_log
        self._forwarding = forwarding

    def begun(self, face: str) -> None:
        """Count a request in."""
        self._metrics.begin(_FACES.get(face, CORE))

    def finished(self, scope: Scope, finished: Finished) -> None:
        """Count it out, and write its line."""
        operation = scope.get(OPERATION, finished.face)
        face = _FACES.get(finished.face, CORE)
        self._metrics.end(face, operation, scope["method"], finished.status, finished.duration_s)
        if self._access_log.enabled:
            self._access_log.write(
                scope["method"],
                scope["path"],
                finished.status,
                finished.duration_s,
                finished.sent_bytes,
                self._forwarding.client_of(scope),
                scope.get(USER, ""),
                finished.request_id.decode("latin-1"),
            )
