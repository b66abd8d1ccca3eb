"""Serves what a test answers itself, as a foreign server does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def served(application: web.Application, *, shutdown_s: float = 0.1) -> AsyncIterator[str]:
    """Serve it on a free port of loopback, and give its URL."""
    runner = web.AppRunner(application, shutdown_timeout=shutdown_s)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()
