"""Measures the memory of all processes of one server: idle, and at most while 64 clients push at the same time."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from tools.bench.blobs import push_all
from tools.bench.crowd import together
from tools.bench.metrics import Metric
from tools.bench.servers import running
from tools.bench.session import PROJECT, Session

UPLOADS: Final = 64
_REPOSITORY: Final = f"{PROJECT}/memory"
# What a start leaves to do is done by then.
_SETTLED_S: Final = 3.0


def measure_memory(session: Session) -> None:
    """Look at each server after its start, and while the layers come in as 64 blobs."""
    for program in session.programs:
        blobs = session.layers.slices(UPLOADS)
        with running(program, session.place(program, "memory")) as server:
            time.sleep(_SETTLED_S)
            idle_bytes = server.usage.pss_bytes()
            authorization = server.authorization(_REPOSITORY)
            works = [partial(push_all, server.address, _REPOSITORY, authorization, [blob]) for blob in blobs]
            session.settle(1)
            seen = [idle_bytes]
            together(works, watch=lambda seen=seen, usage=server.usage: seen.append(usage.pss_bytes()))  # type: ignore[misc]
            session.book.note(Metric.MEMORY_IDLE, program.name, idle_bytes / 1e6)
            session.book.note(Metric.MEMORY_UPLOADS, program.name, (max(seen) - idle_bytes) / 1e6)
