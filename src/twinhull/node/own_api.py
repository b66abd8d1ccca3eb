"""Twinhull's own API of one HTTP worker: what Harbor has no word for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from importlib.metadata import version
from typing import Final

from twinhull.harbor.errors import render
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.metadata.places import Place, places_of
from twinhull.metadata.store import Store
from twinhull.observe.stop_mark import StopMark
from twinhull.portal.cluster import ClusterApi
from twinhull.portal.openapi import description_routes
from twinhull.portal.replication import ReplicationApi
from twinhull.replication.remote import RemotePeers
from twinhull.replication.threads import in_thread
from twinhull.web.admission import Admission
from twinhull.web.app import Mounted, routed
from twinhull.web.identity import Identity

ROOT: Final = "/api/twinhull/v1"


def own_face(
    *,
    peers: RemotePeers,
    store: Store,
    executor: Executor,
    identity: Identity,
    admission: Admission,
    clock: Clock,
    stopping: StopMark,
) -> Mounted:
    """Return the face."""

    def read(digest: Digest) -> Sequence[Place]:
        with store.read() as connection:
            return places_of(connection, digest)

    replication = ReplicationApi(
        places_of=lambda digest: in_thread(executor, read, digest),
        locate=lambda place: peers.locate(place.records, place.blobs),
        identity=identity,
    )
    cluster = ClusterApi(ask=peers.status, identity=identity, clock=clock, is_stopping=stopping.is_set)
    return Mounted(
        name="twinhull",
        prefixes=(f"{ROOT}/",),
        face=routed(ROOT, [*cluster.routes(), *replication.routes(), *description_routes(ROOT, version("twinhull"))]),
        render_error=render,
        admit=admission,
    )
