"""The agent: the one process of a node that talks to its peers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, closing
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from twinhull.auth.acting import ActingThreads
from twinhull.auth.sealing import Sealer
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.config.bandwidth import parse_limits
from twinhull.config.settings import Settings
from twinhull.kit.clock import Clock, SystemClock
from twinhull.metadata.store import Store
from twinhull.mirror.proxy_cache import ProxyCache
from twinhull.mirror.upstreams import Upstreams
from twinhull.node.allocator import give_back_freed_memory
from twinhull.node.durability import durability_order
from twinhull.node.jobs import Jobs
from twinhull.node.own_registry import own_registry
from twinhull.node.parts import database_of, own_node, trust_of
from twinhull.node.upkeep import Upkeep
from twinhull.observe.metrics import Metrics
from twinhull.peer.bulk import BulkServer
from twinhull.peer.control import Control
from twinhull.peer.gate import Gate
from twinhull.peer.port import PeerPort
from twinhull.peer.relay import Relay
from twinhull.peer.routes import PeerRoutes
from twinhull.replication.answers import Answers
from twinhull.replication.calls import WorkerCalls
from twinhull.replication.engine import Engine, EngineSettings
from twinhull.replication.figures import Figures
from twinhull.replication.joining import Doorkeeper
from twinhull.replication.link import LinkServer, socket_name
from twinhull.replication.mending import Mending
from twinhull.replication.overview import Overview
from twinhull.replication.pace import Pace
from twinhull.replication.page import SyncPage
from twinhull.replication.peer_client import peer_clients
from twinhull.replication.renewal import Renewal
from twinhull.replication.rotating import Rotation
from twinhull.replication.sealing_keys import SealingKeys
from twinhull.replication.threads import in_thread
from twinhull.replication.trust import Trust
from twinhull.upkeep.worker import Worker

log = structlog.get_logger(__name__)

_AGENT_THREADS: Final = 24


async def run_agent(settings: Settings, stop: asyncio.Event) -> None:
    """Exchange with the peers and serve them until told to stop."""
    clock = SystemClock()
    trust = trust_of(settings)
    identity = trust.identity()
    async with AsyncExitStack() as stack:
        executor = stack.enter_context(ActingThreads(_AGENT_THREADS, thread_name_prefix="agent"))
        store = Store(database_of(settings), node=identity.node, slot=identity.slot, clock=clock)
        stack.callback(store.close)
        # A predecessor killed between a commit and telling of it has left the workers behind.
        await in_thread(executor, store.refresh_position)
        # No limit: a stream, a held answer or a relayed upload must not keep a question to a peer waiting.
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, auto_decompress=False))
        engine = Engine(
            identity=identity,
            trust=trust,
            store=store,
            blobs=FilesystemBlobs(settings.data_dir),
            page=SyncPage(settings.run_dir / "in-sync"),
            call=peer_clients(session, trust, clock),
            executor=executor,
            clock=clock,
            settings=_engine_settings(settings),
        )
        overview = Overview(engine, own=own_node(settings, trust), durability=settings.durability.level.value)
        calls = WorkerCalls(engine, overview, _proxy_cache(stack, engine, trust).on_call)
        doorkeeper = Doorkeeper(trust, store, clock)
        relay = Relay(session, str(settings.listen))
        mending = Mending(engine, settings.run_dir / "made-anew.db")
        control = Control(engine, doorkeeper, mending, overview)
        gate = Gate(store, engine.neighbours.is_paused)
        routes = PeerRoutes(
            engine, gate=gate, answers=Answers(engine), mending=mending, calls=calls, doorkeeper=doorkeeper, relay=relay
        )
        await _listen_to_peers(stack, settings, trust=trust, engine=engine, routes=routes, gate=gate)
        metrics = stack.enter_context(closing(Metrics(settings.metrics_dir, "agent", clock)))
        upkeep = Upkeep(
            settings, engine, mending, metrics, _jobs(stack, settings, calls, engine=engine, trust=trust, metrics=metrics)
        )
        overview.also(upkeep.alarms)
        rotation = _rotation(engine, trust, clock)
        durability = durability_order(engine, Sealer(trust.cluster_keys), settings.durability)
        orders = {**upkeep.orders(), "rotate": rotation.order, "durability": durability}
        await _listen_to_commands(stack, settings, control.application(orders))
        link = LinkServer(settings.run_dir / "link.sock", on_call=calls.on_call, on_notice=calls.on_notice)
        await link.start()
        stack.push_async_callback(link.close)
        await engine.start()
        stack.push_async_callback(engine.close)
        interval_s = settings.metrics.flush_interval_s
        work = [
            metrics.run(interval_s),
            Figures(engine, store, executor, metrics, overview).run(interval_s),
            upkeep.runner.run(),
            rotation.run(),
            give_back_freed_memory(executor),
        ]
        log.info("agent started", address=str(settings.cluster_address))
        await _work_until(stop, work)


async def _work_until(stop: asyncio.Event, work: Sequence[Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        await stop.wait()
        for task in tasks:
            task.cancel()


def _engine_settings(settings: Settings) -> EngineSettings:
    return EngineSettings(
        ack_timeout_s=settings.durability.ack_timeout_s,
        full_copies=settings.durability.full_copies,
        upload_idle_s=settings.limits.upload_idle_s,
    )


def _jobs(
    stack: AsyncExitStack, settings: Settings, calls: WorkerCalls, *, engine: Engine, trust: Trust, metrics: Metrics
) -> Sequence[Worker]:
    own = own_registry(stack, settings, engine, calls, Sealer(trust.cluster_keys))
    jobs = Jobs(settings, engine, trust, own, metrics)
    stack.push_async_callback(jobs.close)
    return jobs.workers


def _proxy_cache(stack: AsyncExitStack, engine: Engine, trust: Trust) -> ProxyCache:
    cache = ProxyCache(
        store=engine.store,
        blobs=engine.blobs,
        transfers=engine.transfers,
        upstreams=Upstreams(engine.store, engine.executor, Sealer(trust.cluster_keys)),
        executor=engine.executor,
        clock=engine.clock,
    )
    stack.push_async_callback(cache.close)
    return cache


def _rotation(engine: Engine, trust: Trust, clock: Clock) -> Rotation:
    sealer = Sealer(trust.cluster_keys)
    renewal, sealing = Renewal(trust, clock), SealingKeys(engine, trust)
    return Rotation(engine, renewal, sealing, seal=sealer.seal, unseal=sealer.unseal, ca_pem=trust.ca_pem)


async def _listen_to_peers(
    stack: AsyncExitStack, settings: Settings, *, trust: Trust, engine: Engine, routes: PeerRoutes, gate: Gate
) -> None:
    runner = await _serving(stack, routes.application())
    address = settings.cluster_address
    pace = Pace(parse_limits(settings.transfer.limits), engine.neighbours.name_of, engine.clock)
    bulk = BulkServer(gate, engine.blobs, engine.tails, tls=trust.server_context(), on_sent=engine.sent, pace=pace)
    stack.push_async_callback(in_thread, engine.executor, bulk.close)
    if runner.server is None:
        raise RuntimeError("the runner has not been set up")
    port = PeerPort(runner.server, bulk, trust.server_context())
    stack.push_async_callback(port.close)
    await port.listen(address.host, address.port)


async def _listen_to_commands(stack: AsyncExitStack, settings: Settings, application: web.Application) -> None:
    runner = await _serving(stack, application)
    control_socket = settings.run_dir / "agent.sock"
    control_socket.unlink(missing_ok=True)
    await web.UnixSite(runner, socket_name(control_socket)).start()
    control_socket.chmod(0o600)


async def _serving(stack: AsyncExitStack, application: web.Application) -> web.AppRunner:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner
