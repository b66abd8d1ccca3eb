"""An HTTP worker, from the bottom up."""

from __future__ import annotations

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Final

from twinhull.auth.acting import ActingThreads
from twinhull.auth.ended import EndedSessions
from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.auth.tokens import RenewedKey, TokenIssuer, TokenVerifier
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.ingest import Intake
from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.contents import Contents
from twinhull.catalog.deleting import Deleting
from twinhull.catalog.pulls import Pulls
from twinhull.catalog.pushing import Pushing
from twinhull.catalog.uploads import Uploads
from twinhull.config.durability import LEVEL_ITEM, LOSS_ITEM, NO_WISH, Wish
from twinhull.config.settings import Settings
from twinhull.harbor.errors import render as render_harbor_error
from twinhull.harbor.tokens import SERVICE
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import Unavailable
from twinhull.metadata import members
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.store import Store
from twinhull.mirror.proxied import RemoteUpstreams
from twinhull.mirror.upstreams import Upstreams
from twinhull.node.management import Parts, management_faces
from twinhull.node.own_api import own_face
from twinhull.node.parts import database_of, entrance_of, trust_of
from twinhull.node.stored import Stored
from twinhull.observe.health import Readiness
from twinhull.observe.log import AccessLog
from twinhull.observe.metrics import Metrics
from twinhull.observe.stop_mark import StopMark
from twinhull.portal.front import front_routes
from twinhull.portal.probes import probe_routes
from twinhull.registry.access import Access
from twinhull.registry.blobs import BlobHandlers
from twinhull.registry.errors import ErrorAnswers
from twinhull.registry.manifests import ManifestHandlers
from twinhull.registry.referrers import ReferrerHandlers
from twinhull.registry.routes import Registry
from twinhull.registry.tags import TagHandlers
from twinhull.registry.uploads import UploadHandlers
from twinhull.replication.link import LinkClient
from twinhull.replication.neighbours import REMOVED_HINT
from twinhull.replication.page import SyncPage
from twinhull.replication.passing_on import PassingOn
from twinhull.replication.remote import LINK_FAILURES, RemotePeers
from twinhull.web.admission import Admission
from twinhull.web.app import Application, Mounted, routed
from twinhull.web.browsers import AUDIENCE, Sessions
from twinhull.web.identity import Identity as Callers
from twinhull.web.middleware import Forwarding, RequestIds
from twinhull.web.observer import RequestObserver

_UPLOAD_ID_BYTES: Final = 16


def http_app(settings: Settings) -> Application:
    """Return the application of one HTTP worker."""
    return _Worker(settings).application()


class _Worker:
    """What an HTTP worker is made of, from the bottom up."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._executor = ActingThreads(settings.limits.executor_threads, thread_name_prefix="worker")
        trust = self._trust = trust_of(settings)
        identity = trust.identity()
        self._node = identity.node
        self._sealer = Sealer(trust.cluster_keys)
        self._slow = ThreadPoolExecutor(2, thread_name_prefix="passwords")
        self._store = Store(database_of(settings), node=identity.node, slot=identity.slot, clock=self._clock)
        self._blobs = FilesystemBlobs(settings.data_dir)
        self._freshness = Freshness(self._store, self._executor)
        self._link = LinkClient(settings.run_dir / "link.sock", failures=LINK_FAILURES)
        self._passing_on = PassingOn(store=self._store, executor=self._executor, tls=trust.current_client_context)
        self._peers = RemotePeers(
            self._link,
            SyncPage(settings.run_dir / "in-sync"),
            blobs=self._blobs,
            executor=self._executor,
            clock=self._clock,
            durability=Wish(settings.durability.level.value, settings.durability.on_peer_loss.value),
            blobs_of=self._blobs_of,
            wish_of=self._wish_of,
        )
        self._forwarding = Forwarding(str(network) for network in settings.trusted_proxies)
        passwords = PasswordChecker(
            verified=VerifiedPasswords(clock=self._clock), brake=GuessBrake(clock=self._clock), executor=self._slow
        )
        self._passwords = passwords
        self._guard = Guard(
            store=self._store,
            executor=self._executor,
            log=self._freshness,
            clock=self._clock,
            passwords=passwords,
            peers=self._peers,
        )
        verifier = TokenVerifier(keys=self._guard.key_of, audience=SERVICE, clock=self._clock)
        self._issuer = TokenIssuer(key=RenewedKey(trust.token_key, trust.token_key_mark), clock=self._clock)
        self._sessions = Sessions(
            guard=self._guard,
            ended=EndedSessions(store=self._store, executor=self._executor, log=self._freshness),
            issuer=self._issuer,
            verifier=TokenVerifier(keys=self._guard.key_of, audience=AUDIENCE, clock=self._clock),
            sealer=self._sealer,
            origin_of=self._forwarding.origin_of,
        )
        self._admission = Admission(self._guard.setting, self._sessions)
        self._callers = Callers(guard=self._guard, verifier=verifier, forwarding=self._forwarding, sessions=self._sessions)
        self._upstreams = Upstreams(self._store, self._executor, self._sealer)
        self._stored = self._stored_here()
        self._readiness = Readiness(
            data_dir=settings.data_dir, check_database=self._check_database, executor=self._executor, clock=self._clock
        )
        self._metrics = Metrics(settings.metrics_dir, "worker", self._clock)
        self._access_log = AccessLog(settings.log, self._clock)
        self._tasks: list[asyncio.Task[None]] = []

    def application(self) -> Application:
        """Return the faces behind one ASGI callable."""
        errors = ErrorAnswers(origin_of=self._forwarding.origin_of)
        registry = Mounted(
            name="registry",
            prefixes=("/v2/", "/v2"),
            face=self._registry(),
            render_error=errors.render,
            admit=self._admission,
        )
        probes = Mounted(
            name="probes",
            prefixes=("/livez", "/readyz", "/metrics"),
            face=routed(
                "",
                [
                    *probe_routes(self._readiness, self._metrics),
                    *front_routes(self._forwarding.origin_of, self._settings.external_url),
                ],
            ),
            render_error=render_harbor_error,
        )
        own = own_face(
            peers=self._peers,
            store=self._store,
            executor=self._executor,
            identity=self._callers,
            admission=self._admission,
            clock=self._clock,
            stopping=StopMark(self._settings.run_dir),
        )
        return Application(
            faces=[registry, *management_faces(self._parts()), own, probes],
            fallback=probes,
            request_ids=RequestIds(f"{self._node}-{os.getpid():x}-{secrets.token_hex(2)}"),
            clock=self._clock,
            observer=RequestObserver(self._metrics, self._access_log, self._forwarding),
            on_startup=[self._start],
            on_shutdown=[self._stop],
        )

    def _stored_here(self) -> Stored:
        upstreams = RemoteUpstreams(
            self._link, self._upstreams, blobs=self._blobs, executor=self._executor, facts_of=self._guard.facts_of
        )
        contents = Contents(
            store=self._store,
            blobs=self._blobs,
            freshness=self._freshness,
            executor=self._executor,
            peers=self._peers,
            upstreams=upstreams,
            renew_after_s=self._settings.gc.grace_s / 2,
        )
        return Stored(
            blobs=self._blobs,
            peers=self._peers,
            artifacts=Artifacts(
                store=self._store,
                freshness=self._freshness,
                executor=self._executor,
                peers=self._peers,
                upstreams=upstreams,
            ),
            contents=contents,
            pushing=Pushing(store=self._store, blobs=self._blobs, executor=self._executor, peers=self._peers),
            pulls=Pulls(store=self._store, executor=self._executor, clock=self._clock, entrance=entrance_of(self._settings)),
        )

    def _registry(self) -> Registry:
        artifacts, contents = self._stored.artifacts, self._stored.contents
        deleting = Deleting(store=self._store, executor=self._executor, peers=self._peers)
        uploads = Uploads(
            blobs=self._blobs,
            contents=contents,
            intake=Intake(self._executor),
            executor=self._executor,
            node=self._node,
            new_id=lambda: secrets.token_hex(_UPLOAD_ID_BYTES),
            watch=self._peers,
            blob_bytes_max=self._settings.limits.upload_size_bytes or None,
        )
        access = Access(self._callers)
        return Registry(
            access=access,
            manifests=ManifestHandlers(
                artifacts=artifacts,
                pushing=self._stored.pushing,
                deleting=deleting,
                durability=self._peers,
                pulls=self._stored.pulls,
            ),
            blobs=BlobHandlers(contents=contents, durability=self._peers),
            uploads=UploadHandlers(
                uploads=uploads, contents=contents, access=access, durability=self._peers, relay=self._passing_on
            ),
            tags=TagHandlers(artifacts=artifacts, access=access),
            referrers=ReferrerHandlers(artifacts=artifacts),
        )

    def _parts(self) -> Parts:
        return Parts(
            store=self._store,
            executor=self._executor,
            durability=self._peers,
            stored=self._stored,
            guard=self._guard,
            identity=self._callers,
            sessions=self._sessions,
            admission=self._admission,
            passwords=self._passwords,
            issuer=self._issuer,
            forwarding=self._forwarding,
            sealer=self._sealer,
            is_healthy=self._is_healthy,
            data_dir=self._settings.data_dir,
            grace_s=self._settings.gc.grace_s,
            version=f"{self._settings.harbor_version}-{self._settings.version_shown or version('twinhull')}",
            external_url=self._settings.external_url,
            entrance=entrance_of(self._settings),
        )

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._link.run()))
        self._tasks.append(loop.create_task(self._stored.pulls.run()))
        self._tasks.append(loop.create_task(self._metrics.run(self._settings.metrics.flush_interval_s)))

    async def _stop(self) -> None:
        self._readiness.stopping()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._passing_on.close()
        await self._upstreams.close()
        self._access_log.flush()
        self._metrics.close()
        self._store.close()

    def _check_database(self) -> None:
        """Raise Unavailable unless the database answers and this node has taken over the cluster's state."""
        with self._store.read() as connection:
            belongs = members.is_member(connection, self._node)
        if not belongs:
            raise Unavailable("this node was removed from its cluster", hint=REMOVED_HINT)
        if not self._trust.is_ready():
            raise Unavailable("the cluster's state is still being taken over")

    async def _is_healthy(self) -> bool:
        status, _ = await self._readiness.readyz()
        return status == 200

    async def _wish_of(self, project: str) -> Wish:
        own = (await self._guard.facts_of(project)).durability if project else NO_WISH
        setting = self._guard.setting
        return own.or_else(Wish(str(await setting(LEVEL_ITEM)), str(await setting(LOSS_ITEM))))

    def _blobs_of(self, repository: str, digest: str) -> list[tuple[str, int]]:
        with self._store.read() as connection:
            return members.all_blobs_of(connection, repository, digest)
