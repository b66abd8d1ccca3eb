"""Who acts: known from the request that is being answered, in threads too, so that whatever is written can say who did it.

Each request is answered in a context of its own, so what is set for one is never seen by another.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Final, ParamSpec, TypeVar

_actor: Final[ContextVar[str]] = ContextVar("actor", default="")

P = ParamSpec("P")
T = TypeVar("T")


def acts(name: str) -> None:
    """Say who acts from now on in this context: the name of a user or robot, or "anonymous"."""
    _actor.set(name)


def actor() -> str:
    """Return who acts; empty where no request is being answered."""
    return _actor.get()


class ActingThreads(ThreadPoolExecutor):
    """Threads in which the one acts who acted where the work was handed in."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Hand in work."""
        context = copy_context()
        return super().submit(lambda: context.run(fn, *args, **kwargs))
