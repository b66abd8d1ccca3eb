"""Carries replication policies out: lists what there is to do, in a task for each repository, and does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from sqlalchemy import Connection

from twinhull.auth.acting import acts
from twinhull.auth.sealing import Sealer
from twinhull.catalog.events import Entrance, tell
from twinhull.catalog.foreign import endpoint_of
from twinhull.catalog.replication import VENDOR
from twinhull.jobs.access import Access
from twinhull.jobs.executions import EVENT
from twinhull.jobs.job import Job, NewTask, Retry, TaskLog
from twinhull.kit.digest import Digest
from twinhull.kit.errors import Denied, Futile, QuotaExceeded, RegistryBusy, TooMany, TwinhullError, Unavailable
from twinhull.metadata.documents import Document, find_by_id
from twinhull.metadata.executions import UNFINISHED, Execution, Task, list_executions
from twinhull.metadata.filtering import AnyOf, Wanted
from twinhull.metadata.transaction import Transaction
from twinhull.mirror.copying import Copying, Order
from twinhull.mirror.harbor import HarborRegistry
from twinhull.mirror.local import ACTOR, LocalRegistry
from twinhull.mirror.plain import PlainRegistry, check_answers
from twinhull.mirror.reached import Reached
from twinhull.mirror.selection import Candidate, Selection, destination_of, resource_name
from twinhull.mirror.sides import Destination, Source
from twinhull.mirror.telling import replication_event
from twinhull.records.kinds import REGISTRY, REPLICATION_POLICY
from twinhull.records.merge import Kind, Value

COPY: Final = "copy"
DELETION: Final = "deletion"
_HARBOR: Final = "harbor"
# A task that has failed for so many artifacts will fail for the rest.
_FAILURES_MAX: Final = 20
_REGISTRIES_REMEMBERED_MAX: Final = 16
_SOON: Final = Retry(first_s=2.0, for_s=600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Orders:
    """A policy, with the registry that is its other side."""

    policy: Document
    registry: Document

    @property
    def is_push(self) -> bool:
        """Whether what is here goes there."""
        return bool(self.policy.fields.get("dest_registry_id"))

    @property
    def selection(self) -> Selection:
        """What is picked."""
        return Selection(self.policy.fields.get("filters") or [])

    def destination_of(self, repository: str) -> str:
        """Return what a repository of the source is called at the destination."""
        fields = self.policy.fields
        count = fields.get("dest_namespace_replace_count")
        return destination_of(repository, str(fields.get("dest_namespace") or ""), -1 if count is None else int(count))


class Replication(Job):
    """The job. While the other side is down it is tried again; tasks of one repository wait for one another."""

    vendor_type: ClassVar[str] = VENDOR
    policy_kind: ClassVar[Kind | None] = REPLICATION_POLICY
    concurrency = 3
    # Nobody looks after what an event has begun, and nothing else brings it: it waits for the other side.
    retry = Retry(first_s=2.0, for_s=24 * 3600.0)
    is_taken_over = True

    def __init__(self, local: LocalRegistry, access: Access, sealer: Sealer, entrance: Entrance) -> None:
        """Take this cluster's own registry, where policies are read, what unseals the other side's secret, and our address."""
        self._local = local
        self._access = access
        self._sealer = sealer
        self._entrance = entrance
        # By registry, in which repository there blobs have been seen, so that another can be given them without sending.
        self._homes: dict[int, dict[Digest, str]] = {}
        self._reached = Reached(access.clock)

    def retry_of(self, execution: Execution) -> Retry:
        """Return that: what somebody waits for, or a schedule begins again, says before long that it has failed."""
        return self.retry if execution.trigger == EVENT else _SOON

    async def plan(self, execution: Execution, log: TaskLog) -> list[NewTask]:
        """Return a task for each repository with something to copy."""
        orders = await self._orders(execution)
        if orders.policy.fields.get("single_active_replication"):
            await self._require_alone(execution)
        selection = orders.selection
        found: list[NewTask] = []
        try:
            async with self._sides(orders) as (source, _):
                async for repository in source.repositories(selection):
                    items = 0
                    async for one in _picked(source, selection, repository):
                        items += one.items
                    if items:
                        found.append(copy_task(orders.policy, repository, orders.destination_of(repository), items))
        except TwinhullError as error:
            raise _told(error, execution) from error
        log.write(f"{len(found)} repositories with something to copy")
        return found

    async def run(self, execution: Execution, task: Task, log: TaskLog) -> Mapping[str, Value]:
        """Copy what is picked of one repository, or delete there what was deleted here."""
        orders = await self._orders(execution)
        fields = task.fields
        order = Order(
            source=str(fields["source"]),
            destination=str(fields["destination"]),
            override=bool(orders.policy.fields.get("override")),
            speed_kb=int(orders.policy.fields.get("speed") or 0),
            exact="items" in fields,
        )
        acts(ACTOR)
        direction = "to" if orders.is_push else "from"
        log.write(f"{fields['operation']} {order.source} as {order.destination}, {direction} registry {orders.registry.name}")
        try:
            async with self._sides(orders) as (source, destination):
                copying = Copying(source, destination, order, log=log.write, clock=self._access.clock)
                if fields["operation"] == DELETION:
                    for one in _items(fields):
                        await copying.delete(one)
                else:
                    await destination.prepare(order.destination, public=await source.is_public(order.source))
                    await self._copy_all(copying, _wanted(fields, source, orders.selection), log, execution)
        except TwinhullError as error:
            raise _told(error, execution) from error
        log.write(str(copying.figures))
        return {}

    def task_ended(self, transaction: Transaction, execution: Execution, task: Task, status: str) -> None:
        """Tell the webhooks of the project on this side."""
        orders = _find_orders(transaction.connection, execution)
        if orders is not None:
            event = replication_event(
                execution=execution,
                task=task,
                status=status,
                policy=orders.policy,
                registry=orders.registry,
                entrance=self._entrance,
                now_ms=transaction.now_ms(),
            )
            tell(transaction, event)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _copy_all(self, copying: Copying, wanted: AsyncIterator[Candidate], log: TaskLog, execution: Execution) -> None:
        """Copy one after the other; what can't be copied does not keep the others from it, and is told at the end."""
        failures: list[TwinhullError] = []
        async for candidate in wanted:
            try:
                await copying.copy(candidate)
            except TwinhullError as error:
                if is_passing(error, execution):
                    raise
                failures.append(error)
                log.write(f"{', '.join(candidate.tags) or candidate.digest} failed: {error}")
                if len(failures) == _FAILURES_MAX:
                    break
        if failures:
            raise Futile(f"{len(failures)} could not be copied; the first: {failures[0]}") from failures[0]

    async def _orders(self, execution: Execution) -> _Orders:
        orders = await self._access.read(lambda connection: _find_orders(connection, execution))
        if orders is None:
            raise Futile(f"the policy {execution.vendor_id}, or its registry, was deleted")
        return orders

    async def _require_alone(self, execution: Execution) -> None:
        unfinished = Wanted(conditions={"status": AnyOf(UNFINISHED)})
        running, _ = await self._access.read(
            lambda connection: list_executions(connection, vendor_type=VENDOR, vendor_id=execution.vendor_id, wanted=unfinished)
        )
        earlier = [one.id for one in running if (one.created_ms, one.id) < (execution.created_ms, execution.id)]
        if earlier:
            raise Futile(f"skipped: execution {earlier[0]} of this policy is still in progress")

    @asynccontextmanager
    async def _sides(self, orders: _Orders) -> AsyncIterator[tuple[Source, Destination]]:
        endpoint = endpoint_of(orders.registry, self._sealer)
        await self._reached.require(endpoint.url, partial(check_answers, endpoint))
        if len(self._homes) > _REGISTRIES_REMEMBERED_MAX:
            self._homes.clear()
        homes = self._homes.setdefault(orders.registry.id, {})
        kind = HarborRegistry if endpoint.kind == _HARBOR else PlainRegistry
        other = kind(endpoint, by_chunk=bool(orders.policy.fields.get("copy_by_chunk")), homes=homes)
        try:
            yield (self._local, other) if orders.is_push else (other, self._local)
        except RegistryBusy as error:
            # Every further request would be one too many, whosever it is.
            self._reached.hold(endpoint.url, error.retry_after_s, str(error))
            raise
        finally:
            await other.close()


def _find_orders(connection: Connection, execution: Execution) -> _Orders | None:
    policy = find_by_id(connection, REPLICATION_POLICY, execution.vendor_id)
    fields = policy.fields if policy is not None else {}
    registry = find_by_id(connection, REGISTRY, int(fields.get("dest_registry_id") or fields.get("src_registry_id") or 0))
    return _Orders(policy=policy, registry=registry) if policy is not None and registry is not None else None


def copy_task(policy: Document, source: str, destination: str, count: int, items: Sequence[Candidate] | None = None) -> NewTask:
    """Return the task to copy a repository: what is picked of it when it is done, or these items alone."""
    return _task(policy, COPY, source, destination, count=count, items=items)


def deletion_task(policy: Document, source: str, destination: str, items: Sequence[Candidate]) -> NewTask:
    """Return the task to delete at the destination what was deleted from a repository."""
    return _task(policy, DELETION, source, destination, count=len(items), items=items)


def _task(
    policy: Document, operation: str, source: str, destination: str, *, count: int, items: Sequence[Candidate] | None
) -> NewTask:
    fields: dict[str, Any] = {
        "operation": operation,
        # As in Harbor, whatever it is.
        "resource_type": "artifact",
        "src_resource": resource_name(source, count),
        "dst_resource": resource_name(destination, count),
        "source": source,
        "destination": destination,
    }
    if items is not None:
        fields["items"] = [{"digest": one.digest, "tags": list(one.tags)} for one in items]
    return NewTask(fields=fields, lane=f"{policy.id}/{destination}")


async def _picked(source: Source, selection: Selection, repository: str) -> AsyncIterator[Candidate]:
    async for candidate in source.candidates(repository):
        picked = selection.pick(candidate)
        if picked is not None:
            yield picked


async def _wanted(fields: Mapping[str, Any], source: Source, selection: Selection) -> AsyncIterator[Candidate]:
    if "items" in fields:
        for one in _items(fields):
            yield one
        return
    async for one in _picked(source, selection, str(fields["source"])):
        yield one


def _items(fields: Mapping[str, Any]) -> list[Candidate]:
    return [Candidate(digest=str(one["digest"]), tags=tuple(one["tags"])) for one in fields["items"]]


def is_passing(error: TwinhullError, execution: Execution) -> bool:
    """Tell whether another try may have another end.

    What an event has begun nobody looks after: it waits too until the other side takes the credentials again.
    """
    refused = isinstance(error, Denied) and not isinstance(error, QuotaExceeded)
    return isinstance(error, Unavailable | TooMany) or (refused and execution.trigger == EVENT)


def _told(error: TwinhullError, execution: Execution) -> TwinhullError:
    """Return the failure as the runner has to be told it: as futile unless it passes."""
    if isinstance(error, Futile) or is_passing(error, execution):
        return error
    return Futile(error.message, hint=error.hint)
