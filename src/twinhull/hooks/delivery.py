"""Sends what is told to a webhook's receiver, and the job that does so until it has been taken, or for a day."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from twinhull.auth.sealing import Sealer
from twinhull.catalog.events import VENDOR, name_of_target, targets_of
from twinhull.catalog.payloads import content_type
from twinhull.catalog.proxies import proxy_for
from twinhull.catalog.webhooks import Target
from twinhull.jobs.access import Access
from twinhull.jobs.job import Job, Retry, TaskLog
from twinhull.kit.errors import Futile, Unavailable
from twinhull.metadata.documents import find_by_id
from twinhull.metadata.executions import Execution, Task
from twinhull.records.kinds import WEBHOOK
from twinhull.records.merge import Value

TIMEOUT_S: Final = 10.0
# The same in each try: whoever must not act twice remembers it.
EVENT_ID: Final = "Twinhull-Event-Id"
_USER_AGENT: Final = "Twinhull-Webhook"
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError, ValueError)


class Courier:
    """Makes single requests to receivers. Says where they went by host alone: paths and headers may be secrets."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take how long a receiver may take in all."""
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def send(self, target: Target, *, header: str, body: str, event_id: str) -> int:
        """Send it, `header` as the request's Authorization, and return the status with which it was taken.

        Raises Unavailable for a receiver that does not answer, or with anything but success. Redirects are not followed: they
        would carry the header to who knows whom.
        """
        headers = {"Content-Type": content_type(target), "User-Agent": _USER_AGENT, EVENT_ID: event_id}
        if header:
            headers["Authorization"] = header
        receiver = receiver_of(target)
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.post(
                    target.address,
                    data=body.encode(),
                    headers=headers,
                    allow_redirects=False,
                    ssl=not target.skip_cert_verify,
                    proxy=proxy_for(target.address),
                ) as response,
            ):
                status = response.status
        except _FAILURES as error:
            reason = "too slow" if isinstance(error, TimeoutError) else type(error).__name__
            raise Unavailable(f"{receiver} does not answer: {reason}") from error
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return status
        way_out = "name the address that it redirects to" if status < HTTPStatus.BAD_REQUEST else ""
        raise Unavailable(f"{receiver} answered with status {status}", hint=way_out)


class Delivering(Job):
    """The job that tells a target of an event."""

    vendor_type = VENDOR
    policy_kind = WEBHOOK
    retry = Retry(first_s=1.0, max_s=600.0, for_s=24 * 3600.0)
    is_long = False
    is_taken_over = True

    def __init__(self, courier: Courier, access: Access, sealer: Sealer, *, concurrency: int) -> None:
        """Take what sends, where policies are found, what opens their headers, and how much is sent at a time."""
        self.concurrency = concurrency
        self._courier = courier
        self._access = access
        self._sealer = sealer

    async def run(self, execution: Execution, task: Task, log: TaskLog) -> Mapping[str, Value]:
        """Send it where the policy says now; Futile once the policy has no such target any more."""
        target = await self._target(execution.vendor_id, str(task.fields.get("target", "")))
        header = self._sealer.unseal(target.auth_header) if target.auth_header else ""
        body = str((execution.fields.get("extra_attrs") or {}).get("payload", ""))
        event_id = str(execution.fields.get("event_id", ""))
        status = await self._courier.send(target, header=header, body=body, event_id=event_id)
        log.write(f"{receiver_of(target)} took event {event_id} with status {status}")
        return {}

    async def _target(self, policy: int, name: str) -> Target:
        found = await self._access.read(lambda connection: find_by_id(connection, WEBHOOK, policy))
        targets = [one for one in targets_of(found) if name_of_target(one) == name] if found is not None else []
        if not targets:
            raise Futile(f"webhook policy {policy} has no such target any more")
        return targets[0]


def receiver_of(target: Target) -> str:
    """Return what may be said of where a target is: its host."""
    parts = urlsplit(target.address)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
