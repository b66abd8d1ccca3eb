"""Calling synchronous code from the event loop without blocking it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(executor: Executor, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Return what the function returns, run in a thread of the executor."""
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: function(*arguments, **named))
