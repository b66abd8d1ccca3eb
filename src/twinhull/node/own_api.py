"""Twinhull's own API of one HTTP worker: what Harbor has no word for."""

from __future__ import annotations

from typing import Final

from twinhull.harbor.errors import render
from twinhull.kit.clock import Clock
from twinhull.observe.stop_mark import StopMark
from twinhull.portal.cluster import ClusterApi
from twinhull.replication.remote import RemotePeers
from twinhull.web.admission import Admission
from twinhull.web.app import Mounted, routed
from twinhull.web.identity import Identity

ROOT: Final = "/api/twinhull/v1"


def own_face(*, peers: RemotePeers, identity: Identity, admission: Admission, clock: Clock, stopping: StopMark) -> Mounted:
    """Return the face."""
    cluster = ClusterApi(ask=peers.status, identity=identity, clock=clock, is_stopping=stopping.is_set)
    return Mounted(
        name="twinhull",
        prefixes=(f"{ROOT}/",),
        face=routed(ROOT, cluster.routes()),
        render_error=render,
        admit=admission,
    )
