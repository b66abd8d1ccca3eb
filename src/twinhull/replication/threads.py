"""Calling synchronous code from the event loop without blocking it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(executor: Executor, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Return what the function returns, run in a thread of the executor."""
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: function(*arguments, **named))


async def to_its_end(step: Coroutine[object, object, R]) -> R:
    """Return what the step returns. Once begun it is not parted: who is cancelled meanwhile leaves after its end."""
    running = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            # A failure that nobody is told of any more is no error of the program.
            running.exception()
        raise
