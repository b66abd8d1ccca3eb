"""/livez and /readyz for Kubernetes and the gateway, /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from twinhull.observe.health import Readiness, livez
from twinhull.observe.metrics import Metrics


def probe_routes(readiness: Readiness, metrics: Metrics) -> Sequence[BaseRoute]:
    """Return the routes."""

    async def live(_request: Request) -> Response:
        status, body = await livez()
        return JSONResponse(dict(body), status_code=status)

    async def ready(_request: Request) -> Response:
        status, body = await readiness.readyz()
        return JSONResponse(dict(body), status_code=status)

    async def figures(_request: Request) -> Response:
        return PlainTextResponse(metrics.render(), media_type="text/plain; version=0.0.4")

    return [Route("/livez", live), Route("/readyz", ready), Route("/metrics", figures)]
