"""The part of the management API that is about rules, jobs and the system, put together."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from twinhull.auth.sealing import Sealer
from twinhull.catalog.collections import Collections
from twinhull.catalog.documents import Documents
from twinhull.catalog.events import Entrance
from twinhull.catalog.scanners import Scanners
from twinhull.catalog.schedules import Schedules
from twinhull.harbor.access import Access
from twinhull.harbor.adapters import AdaptersApi
from twinhull.harbor.allowlists import AllowlistApi
from twinhull.harbor.audit_logs import AuditLogsApi
from twinhull.harbor.exports import ExportsApi
from twinhull.harbor.gc import GcApi
from twinhull.harbor.immutability import ImmutabilityApi
from twinhull.harbor.jobs import JobsApi
from twinhull.harbor.labels import LabelsApi
from twinhull.harbor.mail import MailApi
from twinhull.harbor.preheat import PreheatApi
from twinhull.harbor.preheating import PreheatingApi
from twinhull.harbor.purges import PurgesApi
from twinhull.harbor.registries import RegistriesApi
from twinhull.harbor.replicating import ReplicatingApi
from twinhull.harbor.replication import ReplicationApi
from twinhull.harbor.retentions import RetentionsApi
from twinhull.harbor.routes import Subject
from twinhull.harbor.scanners import ScannersApi
from twinhull.harbor.scans import ScansApi
from twinhull.harbor.security import SecurityApi
from twinhull.harbor.storage import StorageApi, Volume
from twinhull.harbor.webhooks import WebhooksApi
from twinhull.hooks.delivery import Courier
from twinhull.metadata.store import Store
from twinhull.mirror.calls import Calls
from twinhull.web.middleware import OriginOf


def rule_subjects(
    *,
    access: Access,
    store: Store,
    executor: Executor,
    sealer: Sealer,
    origin_of: OriginOf,
    entrance: Entrance,
    data_dir: Path,
    grace_s: float,
) -> Sequence[Subject]:
    """Return the subjects, in the order in which their paths are tried."""
    documents = Documents(store=store, executor=executor)
    calls = Calls()
    return [
        LabelsApi(access=access, documents=documents),
        ImmutabilityApi(access=access, documents=documents),
        RetentionsApi(access=access, documents=documents),
        WebhooksApi(access=access, documents=documents, sealer=sealer, courier=Courier(), entrance=entrance, clock=store.clock),
        AllowlistApi(access=access, documents=documents),
        AuditLogsApi(access=access),
        MailApi(access=access, sealer=sealer, foreign=calls),
        AdaptersApi(access=access),
        RegistriesApi(access=access, documents=documents, sealer=sealer, foreign=calls),
        ReplicationApi(access=access, documents=documents, origin_of=origin_of),
        ReplicatingApi(access=access, documents=documents),
        PreheatApi(access=access, documents=documents, sealer=sealer, foreign=calls),
        PreheatingApi(access=access, documents=documents),
        ExportsApi(access=access, documents=documents),
        ScannersApi(access=access, scanners=Scanners(documents), sealer=sealer, foreign=calls),
        SecurityApi(access=access),
        *_jobs(access, store, documents, Collections(store=store, executor=executor), grace_s=grace_s),
        StorageApi(access=access, volume=lambda: _volume(data_dir)),
    ]


def _jobs(access: Access, store: Store, documents: Documents, collections: Collections, *, grace_s: float) -> Sequence[Subject]:
    schedules = Schedules(documents)
    return [
        GcApi(access=access, collections=collections, schedules=schedules, clock=store.clock, grace_s=grace_s),
        ScansApi(access=access, schedules=schedules, clock=store.clock),
        PurgesApi(access=access, documents=documents, schedules=schedules, clock=store.clock),
        JobsApi(
            access=access,
            collections=collections,
            documents=documents,
            clock=store.clock,
            node=store.node,
            host=socket.gethostname(),
            pid=os.getppid(),
        ),
    ]


def _volume(data_dir: Path) -> Volume:
    usage = shutil.disk_usage(data_dir)
    return Volume(usage.total, usage.free)
