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
from twinhull.kit.clock import Clock
from twinhull.kit.errors import Futile, Unavailable
from twinhull.metadata.documents import find_by_id
from twinhull.metadata.executions import Execution, Task
from twinhull.records.kinds import WEBHOOK
from twinhull.records.merge import Value

TIMEOUT_S: Final = 10.0
# The same in each try: whoever must not act twice remembers it.
EVENT_ID: Final = "Twinhull-Event-Id"
# How long a target that does not answer is left alone: at first, and at most. A try takes no longer than the last of these.
_SILENCE_MIN_S: Final = 2.0
_SILENCE_MAX_S: Final = 60.0
_SLOW_S: Final = 1.0
_TRY_S: Final = TIMEOUT_S + 5.0
_USER_AGENT: Final = "Twinhull-Webhook"
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError, ssl.SSLError, ValueError)


class Courier:
    """Makes single requests to receivers. Says where they went by host alone: paths and headers may be secrets."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        """Take how long a receiver may take in all."""
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def send(self, target: Target, *, header: str, body: str, event_id: str) -> int:
        """Send it, `header` as the request's Authorization, and return the status with which it was taken.

        Raises Unavailable for a receiver that does not answer, or with anything but success.
        """
        status = await self.ask(target, header=header, body=body, event_id=event_id)
        require_taken(target, status)
        return status

    async def ask(self, target: Target, *, header: str, body: str, event_id: str) -> int:
        """Send it and return whatever status the receiver answers with; raises Unavailable when it does not answer.

        Redirects are not followed: they would carry the header to who knows whom.
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
                return response.status
        except _FAILURES as error:
            reason = "too slow" if isinstance(error, TimeoutError) else type(error).__name__
            raise Unavailable(f"{receiver} does not answer: {reason}") from error


class Silences:
    """Which targets do not answer, so that the tasks for one of them keep no others waiting.

    One task tries such a target once in a while.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin with all of them answering."""
        self._clock = clock
        # By target: until when it is left alone, and for how long it was the last time, in seconds.
        self._until: dict[str, tuple[float, float]] = {}

    def may_try(self, target: str) -> bool:
        """Tell whether to try it now; who is told so tries for all, and says by `answered` or `silent` what came of it."""
        now_s = self._clock.monotonic_s()
        until_s, pause_s = self._until.get(target, (now_s, 0.0))
        if now_s < until_s:
            return False
        if pause_s:
            self._until[target] = now_s + _TRY_S, pause_s
        return True

    def answered(self, target: str) -> None:
        """Note that it does."""
        self._until.pop(target, None)

    def silent(self, target: str) -> None:
        """Note that it does not."""
        pause_s = min(max(_SILENCE_MIN_S, 2 * self._until.get(target, (0.0, 0.0))[1]), _SILENCE_MAX_S)
        self._until[target] = self._clock.monotonic_s() + pause_s, pause_s


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
        self._silences = Silences(access.clock)

    async def run(self, execution: Execution, task: Task, log: TaskLog) -> Mapping[str, Value]:
        """Send it where the policy says now; Futile once the policy has no such target any more."""
        name = str(task.fields.get("target", ""))
        target = await self._target(execution.vendor_id, name)
        if not self._silences.may_try(name):
            raise Unavailable(f"{receiver_of(target)} did not answer a moment ago")
        header = self._sealer.unseal(target.auth_header) if target.auth_header else ""
        body = str((execution.fields.get("extra_attrs") or {}).get("payload", ""))
        event_id = str(execution.fields.get("event_id", ""))
        began_s = self._access.clock.monotonic_s()
        is_silent = False
        try:
            status = await self._courier.ask(target, header=header, body=body, event_id=event_id)
        except Unavailable:
            # One that refuses at once keeps nobody waiting.
            is_silent = self._access.clock.monotonic_s() - began_s >= _SLOW_S
            raise
        finally:
            (self._silences.silent if is_silent else self._silences.answered)(name)
        require_taken(target, status)
        log.write(f"{receiver_of(target)} took event {event_id} with status {status}")
        return {}

    async def _target(self, policy: int, name: str) -> Target:
        found = await self._access.read(lambda connection: find_by_id(connection, WEBHOOK, policy))
        targets = [one for one in targets_of(found) if name_of_target(one) == name] if found is not None else []
        if not targets:
            raise Futile(f"webhook policy {policy} has no such target any more")
        return targets[0]


def require_taken(target: Target, status: int) -> None:
    """Raise Unavailable unless the status says that the receiver has taken what it was sent."""
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        way_out = "name the address that it redirects to" if status < HTTPStatus.BAD_REQUEST else ""
        raise Unavailable(f"{receiver_of(target)} answered with status {status}", hint=way_out)


def receiver_of(target: Target) -> str:
    """Return what may be said of where a target is: its host."""
    parts = urlsplit(target.address)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
