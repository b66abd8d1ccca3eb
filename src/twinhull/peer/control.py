"""What the command line asks of the running node: HTTP over a Unix socket in the data directory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from twinhull.kit.errors import Conflict, Invalid, NotFound, TwinhullError
from twinhull.metadata.conflicts import ConflictSeen, conflict_view, list_conflicts
from twinhull.metadata.filtering import Slice
from twinhull.metadata.members import Node
from twinhull.records.kinds import NODE
from twinhull.records.merge import values_of
from twinhull.replication.engine import Engine
from twinhull.replication.joining import Doorkeeper
from twinhull.replication.mending import Mending
from twinhull.replication.overview import Overview
from twinhull.replication.threads import in_thread
from twinhull.replication.trust import INVITE_LIFETIME_MS
from twinhull.web.errors import status_of

log = structlog.get_logger(__name__)

_WAIT_STEP_S: Final = 0.05
_WAIT_MAX_S: Final = 3600.0
_LEAVE_WAIT_S: Final = 5.0
_CONFLICTS_MAX: Final = 100

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# What is asked of the work that goes on by itself: given the request's JSON object, it returns what to answer as JSON.
Order = Callable[[Mapping[str, Any]], Awaitable[object]]


class Control:
    """The handlers of the socket `run/agent.sock`; see cli/agent_client.py for the table of requests."""

    def __init__(self, engine: Engine, doorkeeper: Doorkeeper, mending: Mending, overview: Overview) -> None:
        """Take what answers, and what describes this node and its peers."""
        self._engine = engine
        self._doorkeeper = doorkeeper
        self._mending = mending
        self._own = overview.own
        self._overview = overview

    def application(self, orders: Mapping[str, Order]) -> web.Application:
        """Return the socket's application; it takes `POST /NAME` for each of the orders too."""
        application = web.Application(middlewares=[self._told])
        application.router.add_get("/status", self.status)
        application.router.add_get("/conflicts", self.conflicts)
        application.router.add_get("/wait", self.wait)
        application.router.add_post("/invite", self.invite)
        application.router.add_post("/verify", self.verify)
        application.router.add_post("/leave", self.leave)
        application.router.add_post("/remove", self.remove)
        application.router.add_post("/pause", self.pause)
        application.router.add_post("/resume", self.resume)
        for name, order in orders.items():
            application.router.add_post(f"/{name}", _taking(order))
        return application

    @web.middleware
    async def _told(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except TwinhullError as error:
            status = status_of(error)
            return web.json_response({"error": error.message, "hint": error.hint}, status=status)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def status(self, _request: web.Request) -> web.Response:
        """Return this node, its peers and how far each is behind."""
        return web.json_response(await self._overview.document())

    async def conflicts(self, _request: web.Request) -> web.Response:
        """Return the newest conflicts that nobody has seen to, and how many there are."""

        def read() -> tuple[list[ConflictSeen], int]:
            with self._engine.store.read() as connection:
                return list_conflicts(connection, settled=False, part=Slice(limit=_CONFLICTS_MAX))

        found, total = await in_thread(self._engine.executor, read)
        return web.json_response({"conflicts": [conflict_view(one) for one in found], "total": total})

    async def wait(self, request: web.Request) -> web.Response:
        """Return once every peer that answers has all that this node has, records and blobs, or time is up."""
        try:
            limit_s = min(float(request.query.get("timeout_s", "60")), _WAIT_MAX_S)
        except ValueError as error:
            raise Invalid("timeout_s must be a number of seconds") from error
        end_s = self._engine.clock.monotonic_s() + limit_s
        await self._engine.neighbours.try_all()
        while True:
            document = await self._overview.document()
            peers = [member for member in document["members"] if member["id"] != self._own.id]
            lagging = [
                member
                for member in peers
                if member["state"] not in ("down", "paused")
                and (member["state"] in ("behind", "suspect") or member["lag_bytes"] or member["lag_changes"])
            ]
            in_sync = not lagging and not document["node"]["lag_bytes"]
            if in_sync or self._engine.clock.monotonic_s() > end_s:
                return web.json_response({"in_sync": in_sync, "peers": peers})
            await asyncio.sleep(_WAIT_STEP_S)

    async def verify(self, request: web.Request) -> web.Response:
        """Compare this node's state with each peer's, and mend what differs if that is asked for."""
        asked = await request.json() if request.body_exists else {}
        document = await self._mending.verify(deep=asked.get("deep") is True, repair=asked.get("repair") is True)
        # What no comparison of records shows: they are alike in what must not be.
        return web.json_response({**document, "alarms": msgspec.to_builtins(self._overview.alarms_of_nodes())})

    # -- acting ----------------------------------------------------------------------------------------------------

    async def invite(self, _request: web.Request) -> web.Response:
        """Return a one-time join token."""
        token = await in_thread(self._engine.executor, self._doorkeeper.invite, self._own.address)
        expires = self._engine.clock.unix_ms() + INVITE_LIFETIME_MS
        return web.json_response({"token": token, "expires_unix_ms": expires})

    async def remove(self, request: web.Request) -> web.Response:
        """Take another node out of the cluster, reachable or not."""
        node = self._named((await request.json()).get("node"))
        seq = await in_thread(self._engine.executor, self._delete_node, node.id)
        self._engine.wrote(seq)
        # The others must refuse it from now on, and it shall hear what became of it if it can.
        await self._engine.acknowledgements.wait(seq)
        await self._engine.neighbours.refresh()
        return web.json_response({"node": node.name})

    async def leave(self, _request: web.Request) -> web.Response:
        """Take this node out of the cluster: the others are told first, then nothing is exchanged any more."""
        peers = [neighbour.node for neighbour in self._engine.neighbours.all()]
        if not peers:
            raise Conflict("this node is a cluster of one", hint="there is nothing to leave")
        seq = await in_thread(self._engine.executor, self._delete_node, self._own.id)
        self._engine.wrote(seq)
        heard = await self._engine.acknowledgements.wait(seq)
        if not heard:
            log.warning("no peer has heard that this node leaves", peers=[node.name for node in peers])
        await in_thread(self._engine.executor, self._become_alone, [node.id for node in peers])
        await self._engine.neighbours.refresh()
        return web.json_response({"told": len(heard)})

    def _delete_node(self, node: str) -> int:
        with self._engine.store.write() as transaction:
            transaction.delete(NODE, node)
        return transaction.seq

    def _become_alone(self, peers: list[str]) -> None:
        """Forget the others; no longer a member, this node's log reaches nobody."""
        with self._engine.store.write() as transaction:
            for peer in peers:
                transaction.delete(NODE, peer)
            record = transaction.get(NODE, self._own.id)
            # As they are by now, after whatever was renewed.
            keys = values_of(NODE, record).get("token_keys") if record is not None else None
            fields = {
                "name": self._own.name,
                "slot": self._own.slot,
                "address": self._own.address,
                "url": self._own.url,
                "token_keys": keys if isinstance(keys, list) else self._own.token_keys,
                "joined_ms": transaction.now_ms(),
            }
            transaction.create(NODE, self._own.id, fields)

    async def pause(self, request: web.Request) -> web.Response:
        """Exchange nothing with a peer, or with any."""
        peer = (await request.json()).get("peer")
        self._engine.pause(self._named(peer).id if peer else None)
        return web.json_response({"peers": self._names(peer)})

    async def resume(self, request: web.Request) -> web.Response:
        """Exchange again."""
        peer = (await request.json()).get("peer")
        await self._engine.neighbours.resume(self._named(peer).id if peer else None)
        return web.json_response({"peers": self._names(peer)})

    def _names(self, peer: object) -> list[str]:
        return [self._named(peer).name] if peer else [neighbour.node.name for neighbour in self._engine.neighbours.all()]

    def _named(self, wanted: object) -> Node:
        nodes = [neighbour.node for neighbour in self._engine.neighbours.all()]
        found = [node for node in nodes if node.id == wanted] or [node for node in nodes if node.name == wanted]
        if len(found) > 1:
            ids = ", ".join(node.id for node in found)
            raise Conflict(
                f"{len(found)} nodes are called {str(wanted)[:64]!r}", hint=f"name the one that is meant by its id: {ids}"
            )
        if found:
            return found[0]
        names = ", ".join(node.name for node in nodes) or "none"
        raise NotFound(f"there is no peer {str(wanted)[:64]!r}", hint=f"peers: {names}")


def _taking(order: Order) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read() or b"{}", type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Invalid(f"the request is no JSON object: {error}") from error
        return web.Response(body=msgspec.json.encode(await order(asked)), content_type="application/json")

    return handle
