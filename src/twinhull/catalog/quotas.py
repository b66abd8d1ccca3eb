"""How much a project may store: limits as they are set, and as they are held when something is stored.

What another node took at the same moment may go beyond a limit; then pushes stop until it fits again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from twinhull.catalog.accounts import Written
from twinhull.catalog.documents import Documents, change_document, create_document, existing_document
from twinhull.catalog.events import Event, policies_for, tell
from twinhull.config.cluster import DEFAULTS
from twinhull.kit.errors import Invalid, NotFound, QuotaExceeded, TwinhullError
from twinhull.kit.reference import project_of
from twinhull.metadata.accounts import find_setting
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.metadata.usage import UNLIMITED, hard_limit, is_in_project, may_be_limited, quota_of
from twinhull.records.kinds import QUOTA

STORAGE: Final = "storage"
WARNING_PERCENT: Final = 85
_STORAGE_MAX: Final = 2**63 - 1
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def require_limits(hard: Mapping[str, Any]) -> int:
    """Return the limit in bytes, or raise Invalid, in Harbor's words, for what is none."""
    for name in hard:
        if name != STORAGE:
            raise Invalid(f"resource {name[:64]} not support")
    if STORAGE not in hard:
        raise Invalid("resource storage not found")
    limit = hard[STORAGE]
    if isinstance(limit, bool) or not isinstance(limit, int) or (limit <= 0 and limit != UNLIMITED) or limit > _STORAGE_MAX:
        raise Invalid("invalid value for resource storage")
    return limit


def begin_quota(transaction: Transaction, project: str, limit: int | None) -> None:
    """Give a project that has just been made its limit, or the one that the cluster's settings give to each."""
    if not limit:
        enabled = _setting(transaction, "quota_per_project_enable")
        common = _setting(transaction, "storage_per_project") if enabled else UNLIMITED
        limit = common if isinstance(common, int) else UNLIMITED
    create_document(transaction, QUOTA, {STORAGE: limit}, project=project)


def require_room(transaction: Transaction, project: str, digest: str, size: int) -> None:
    """Raise QuotaExceeded, in Harbor's words, if the project has no room for these bytes.

    What is in the project already costs nothing. Where no limit is set that is one query.
    """
    require_room_for(transaction, project, {digest: size})


def require_room_for(transaction: Transaction, project: str, sizes: Mapping[str, int]) -> None:
    """Raise QuotaExceeded if the project has no room for these blobs and manifests together."""
    connection = transaction.connection
    if not may_be_limited(connection, project) or hard_limit(connection, project) == UNLIMITED:
        return
    size = sum(size for digest, size in sizes.items() if not is_in_project(connection, project, digest))
    hard, used = quota_of(connection, project)
    if size and used + size > hard and _setting(transaction, "quota_per_project_enable"):
        raise QuotaExceeded(
            f"adding {shown_size(size)} of storage resource, which when updated to current usage of {shown_size(used)}"
            f" will exceed the configured upper limit of {shown_size(hard)}."
        )


@contextlib.contextmanager
def refusals_told(store: Store, repository: str) -> Iterator[None]:
    """Tell the project's webhooks when what is done inside is refused for want of room, and undone."""
    try:
        yield
    except QuotaExceeded as error:
        _tell_of_refusal(store, repository, error)
        raise


def _tell_of_refusal(store: Store, repository: str, error: QuotaExceeded) -> None:
    # Whoever is refused is to be told so, whether or not that can be written down.
    with contextlib.suppress(TwinhullError):
        with store.read() as connection:
            if not policies_for(connection, project_of(repository), "QUOTA_EXCEED"):
                return
        with store.write() as transaction:
            tell(transaction, _event(transaction, "QUOTA_EXCEED", repository, error.message))


def tell_if_nearly_full(transaction: Transaction, repository: str) -> None:
    """Tell the project's webhooks that it uses nearly all it may. Where no limit is set that is one quick query."""
    connection, project = transaction.connection, project_of(repository)
    if not may_be_limited(connection, project):
        return
    hard, used = quota_of(connection, project)
    if hard == UNLIMITED or used * 100 < hard * WARNING_PERCENT or not policies_for(connection, project, "QUOTA_WARNING"):
        return
    details = f"quota usage reach {WARNING_PERCENT}%: resource storage used {shown_size(used)} of {shown_size(hard)}"
    tell(transaction, _event(transaction, "QUOTA_WARNING", repository, details))


def _event(transaction: Transaction, event_type: str, repository: str, details: str) -> Event:
    return Event(
        type=event_type,
        project=project_of(repository),
        occurred_ms=transaction.now_ms(),
        repository=repository,
        data={"custom_attributes": {"Details": details}},
    )


def shown_size(size_bytes: int) -> str:
    """Return a size as Harbor words it: 318 B, 2.9 MiB."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in _UNITS:
        amount /= 1024
        if amount < 1024 or unit == _UNITS[-1]:
            break
    return f"{amount:.1f} {unit}"


def _setting(transaction: Transaction, name: str) -> object:
    value = find_setting(transaction.connection, name)
    return DEFAULTS[name] if value is None else value


class Quotas:
    """Changes limits."""

    def __init__(self, documents: Documents) -> None:
        """Take what writes documents."""
        self._documents = documents

    async def change(self, number: int, hard: Mapping[str, Any]) -> Written:
        """Set a project's limit; raises Invalid or NotFound."""

        def change(transaction: Transaction) -> int:
            try:
                existing_document(transaction, QUOTA, number)
            except NotFound as error:
                raise NotFound(f"quota {number} not found") from error
            return change_document(transaction, QUOTA, number, {STORAGE: require_limits(hard)})

        return await self._documents.write(change)
