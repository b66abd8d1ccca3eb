"""Counts pulls in memory and writes them down now and then: no pull waits for that, and none is lost in a quiet stop.

Each node writes its own counts; readers add them up. What a crash takes are the pulls since the last time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

import structlog

from twinhull.catalog.audit import Deed, record_deed
from twinhull.catalog.events import Entrance, Event, policies_for, tell
from twinhull.catalog.payloads import DOWNLOAD_CHART
from twinhull.kit.clock import Clock
from twinhull.kit.errors import TwinhullError
from twinhull.kit.reference import project_of
from twinhull.metadata.accounts import find_setting
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MANIFEST, PULLS, content_key, pulls_key

_log = structlog.get_logger(__name__)

FLUSH_INTERVAL_S: Final = 10.0
# The first pull after a pause is written down so soon: whoever pulls and then looks at the log or the counts finds it.
FIRST_FLUSH_S: Final = 1.0
# So many different artifacts are remembered; further ones wait for the next interval uncounted.
PULLED_MAX: Final = 20_000
# So many who pulled the same are told apart in an interval.
_DEEDS_MAX: Final = 1000
# What is pulled through from another registry is waited for so long, until it is here to be counted.
_COMING_MS: Final = 30 * 60 * 1000
# Who pulls without a name, as callers are called.
ANONYMOUS: Final = "anonymous"


@dataclass(slots=True)
class _Pulled:
    count: int = 0
    last_ms: int = 0
    tags: dict[str, int] = field(default_factory=dict)
    # How often by whom, and by which tag; an empty one stands for the digest.
    deeds: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Who took it as a chart, and in which version; these are no pulls of the artifact.
    charts: Counter[tuple[str, str]] = field(default_factory=Counter)
    # It was handed on before it was here.
    coming: bool = False


class Pulls:
    """The pulls of one process."""

    def __init__(self, *, store: Store, executor: Executor, clock: Clock, entrance: Entrance) -> None:
        """Take the metadata, threads to write in, the time, and where what is pulled is said to be."""
        self._entrance = entrance
        self._store = store
        self._executor = executor
        self._clock = clock
        self._pulled: dict[tuple[str, str], _Pulled] = {}
        self._has_any = asyncio.Event()

    def count(self, repository: str, digest: str, tag: str = "", *, user: str = "", coming: bool = False) -> None:
        """Count a pull of a manifest, by a tag or by its digest; with a user's name, note it for the audit log too.

        One that is still coming from another registry is counted when it is here.
        """
        pulled = self._noted(repository, digest)
        if pulled is None:
            return
        pulled.coming = pulled.coming or coming
        pulled.count += 1
        if tag:
            pulled.tags[tag] = pulled.last_ms
        if user and len(pulled.deeds) < _DEEDS_MAX:
            pulled.deeds[user, tag] += 1

    def count_chart(self, repository: str, digest: str, version: str, *, user: str) -> None:
        """Note that somebody took a version of a chart from ChartMuseum's paths."""
        pulled = self._noted(repository, digest)
        if pulled is not None and len(pulled.charts) < _DEEDS_MAX:
            pulled.charts[user, version] += 1

    def _noted(self, repository: str, digest: str) -> _Pulled | None:
        key = repository, digest
        pulled = self._pulled.get(key)
        if pulled is None:
            if len(self._pulled) >= PULLED_MAX:
                return None
            pulled = self._pulled[key] = _Pulled()
            self._has_any.set()
        pulled.last_ms = self._clock.unix_ms()
        return pulled

    async def run(self, interval_s: float = FLUSH_INTERVAL_S, first_s: float = FIRST_FLUSH_S) -> None:
        """Write down what was counted, time after time, and once more when cancelled."""
        try:
            while True:
                await self._has_any.wait()
                await asyncio.sleep(first_s)
                await self.flush()
                await asyncio.sleep(interval_s - first_s)
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write down what was counted; what can't be written now is kept for the next time."""
        if not self._pulled:
            return
        pulled, self._pulled = self._pulled, {}
        self._has_any.clear()
        try:
            coming = await asyncio.get_running_loop().run_in_executor(self._executor, self._write, pulled)
        except TwinhullError as error:
            _log.warning("pulls not written yet", artifacts=len(pulled), reason=error.message)
            self._put_back(pulled)
        else:
            self._put_back(coming)

    def _put_back(self, pulled: dict[tuple[str, str], _Pulled]) -> None:
        if pulled:
            self._has_any.set()
        for key, before in pulled.items():
            after = self._pulled.setdefault(key, _Pulled())
            after.count += before.count
            after.last_ms = max(after.last_ms, before.last_ms)
            after.tags = before.tags | after.tags
            after.deeds += before.deeds
            after.charts += before.charts
            after.coming = after.coming or before.coming

    def _write(self, pulled: dict[tuple[str, str], _Pulled]) -> dict[tuple[str, str], _Pulled]:
        """Write down what is here, and return what is still coming."""
        coming: dict[tuple[str, str], _Pulled] = {}
        whole: dict[str, _Pulled] = {}
        # By project and type of event, whether anybody wants to be told.
        asked: dict[tuple[str, str], bool] = {}
        with self._store.write() as transaction:
            is_audited = _is_audited(transaction)
            for (repository, digest), each in pulled.items():
                # It may be gone by now.
                if transaction.values(MANIFEST, content_key(repository, digest)) is None:
                    if each.coming and transaction.now_ms() - each.last_ms < _COMING_MS:
                        coming[repository, digest] = each
                    continue
                for event in self._events(repository, digest, each):
                    named = event.project, event.type
                    if named not in asked:
                        asked[named] = bool(policies_for(transaction.connection, *named))
                    if asked[named]:
                        tell(transaction, event)
                if not each.count:
                    continue
                _add(transaction, pulls_key(repository, digest, transaction.node), each)
                if is_audited:
                    _note(transaction, repository, digest, each)
                of_all = whole.setdefault(repository, _Pulled())
                of_all.count += each.count
                of_all.last_ms = max(of_all.last_ms, each.last_ms)
            for repository, of_all in whole.items():
                _add(transaction, pulls_key(repository, "", transaction.node), of_all)
        return coming

    def _events(self, repository: str, digest: str, pulled: _Pulled) -> Iterator[Event]:
        """Yield what webhooks tell of it: once for each who pulled it and each name, however often that was."""
        image, chart = self._entrance.image, self._entrance.chart
        taken = [(user, "PULL_ARTIFACT", image(repository, digest=digest, tag=tag)) for user, tag in pulled.deeds]
        taken += [(user, DOWNLOAD_CHART, chart(repository, version=version)) for user, version in pulled.charts]
        for user, event_type, resource in taken:
            yield Event(
                type=event_type,
                project=project_of(repository),
                occurred_ms=pulled.last_ms,
                operator="" if user == ANONYMOUS else user,
                repository=repository,
                resources=[resource],
            )


def _is_audited(transaction: Transaction) -> bool:
    """Tell whether the cluster's settings want pulls in the audit log."""
    disabled = str(find_setting(transaction.connection, "disabled_audit_log_event_types") or "")
    skipped = bool(find_setting(transaction.connection, "skip_audit_log_database"))
    return not skipped and "pull_artifact" not in (each.strip() for each in disabled.split(","))


def _note(transaction: Transaction, repository: str, digest: str, pulled: _Pulled) -> None:
    """Append who pulled it, once for each and each name, however often that was since the last time."""
    for (user, tag), times in pulled.deeds.items():
        resource = f"{repository}:{tag or digest}"
        record_deed(
            transaction,
            Deed(
                username=user,
                operation="pull",
                resource_type="artifact",
                resource=resource,
                project=project_of(repository),
                description=f"pull artifact: {resource}" + (f", {times} times" if times > 1 else ""),
            ),
        )


def _add(transaction: Transaction, key: str, pulled: _Pulled) -> None:
    before = transaction.values(PULLS, key)
    if before is None:
        tags = {"tags": pulled.tags} if pulled.tags else {}
        transaction.create(PULLS, key, {"count": pulled.count, "last_ms": pulled.last_ms, **tags})
        return
    fields: dict[str, object] = {"count": _number(before.get("count")) + pulled.count}
    fields["last_ms"] = max(_number(before.get("last_ms")), pulled.last_ms)
    if pulled.tags:
        known = before.get("tags")
        fields["tags"] = {**(known if isinstance(known, dict) else {}), **pulled.tags}
    transaction.put(PULLS, key, fields)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
