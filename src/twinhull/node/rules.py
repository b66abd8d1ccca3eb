"""The part of the management API that is about rules, jobs and the system, put together."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from twinhull.catalog.collections import Collections
from twinhull.harbor.access import Access
from twinhull.harbor.adapters import AdaptersApi
from twinhull.harbor.gc import GcApi
from twinhull.harbor.jobs import JobsApi
from twinhull.harbor.routes import Subject
from twinhull.harbor.security import SecurityApi
from twinhull.harbor.storage import StorageApi, Volume
from twinhull.metadata.store import Store


def rule_subjects(*, access: Access, store: Store, executor: Executor, data_dir: Path, grace_s: float) -> Sequence[Subject]:
    """Return the subjects, in the order in which their paths are tried."""
    collections = Collections(store=store, executor=executor)

    def volume() -> Volume:
        usage = shutil.disk_usage(data_dir)
        return Volume(usage.total, usage.free)

    return [
        AdaptersApi(access=access),
        SecurityApi(access=access),
        StorageApi(access=access, volume=volume),
        GcApi(access=access, collections=collections, grace_s=grace_s),
        JobsApi(
            access=access,
            collections=collections,
            clock=store.clock,
            node=store.node,
            host=socket.gethostname(),
            pid=os.getppid(),
        ),
    ]
