"""Harbor's management API and token service of one HTTP worker, put together from what a node has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinhull.auth.passwords import PasswordChecker
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.auth.tokens import TokenIssuer
from twinhull.catalog.configurations import Configurations
from twinhull.catalog.documents import Documents
from twinhull.catalog.events import Entrance
from twinhull.catalog.logouts import EndedSessions
from twinhull.catalog.peers import Durability
from twinhull.harbor.access import Access
from twinhull.harbor.charts import ChartsApi
from twinhull.harbor.conflicts import ConflictsApi
from twinhull.harbor.errors import render, render_chart_error
from twinhull.harbor.internal import InternalApi
from twinhull.harbor.oidc import OidcApi
from twinhull.harbor.places import HarborPaths
from twinhull.harbor.routes import Subject, management_routes, version_routes
from twinhull.harbor.sign_in import SessionsApi
from twinhull.harbor.system import SystemApi
from twinhull.harbor.tokens import TokenService
from twinhull.metadata.store import Store
from twinhull.node.people import people_subjects
from twinhull.node.rules import rule_subjects
from twinhull.node.stored import Stored, charts_api, stored_subjects
from twinhull.node.vouching import Vouching, vouching
from twinhull.web.admission import SIGN_IN, Admission
from twinhull.web.app import Mounted, routed
from twinhull.web.browsers import Sessions
from twinhull.web.identity import Identity
from twinhull.web.middleware import Forwarding

ROOT: Final = "/api/v2.0"
INTERNAL: Final = "/api/internal"
# What Harbor has no word for, and is written like the rest; see docs/reference/twinhull-api.md.
OWN_ROOT: Final = "/api/twinhull/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a node has that the management API stands on."""

    store: Store
    executor: Executor
    durability: Durability
    stored: Stored
    guard: Guard
    identity: Identity
    sessions: Sessions
    admission: Admission
    passwords: PasswordChecker
    issuer: TokenIssuer
    forwarding: Forwarding
    # For what is stored and must be used again as it was typed: passwords for other registries, LDAP, webhooks.
    sealer: Sealer
    is_healthy: Callable[[], Awaitable[bool]]
    # Where the node keeps everything, and for how long what lost its last name stays.
    data_dir: Path
    grace_s: float
    # What clients are told: the release of Harbor whose newest words are understood, and our own behind it.
    version: str = "v2.16.0-0"
    external_url: str = ""
    # Where webhooks say that things are.
    entrance: Entrance


def management_faces(parts: Parts) -> list[Mounted]:
    """Return the token service and the management API, each at its paths."""
    tokens = TokenService(identity=parts.identity, guard=parts.guard, issuer=parts.issuer)
    sessions = SessionsApi(
        access=_access(parts),
        guard=parts.guard,
        sessions=parts.sessions,
        ended=EndedSessions(store=parts.store, executor=parts.executor),
        forwarding=parts.forwarding,
    )
    vouched = _vouched(parts)
    oidc = OidcApi(
        oidc=vouched.oidc,
        guard=parts.guard,
        sessions=parts.sessions,
        sealer=parts.sealer,
        clock=parts.store.clock,
        origin_of=parts.forwarding.origin_of,
        external_url=parts.external_url,
    )
    charts = charts_api(access=_access(parts), store=parts.store, executor=parts.executor, stored=parts.stored)
    return [
        *_chart_faces(parts, charts),
        Mounted(
            name="sign-in",
            prefixes=(SIGN_IN,),
            face=routed("", [*sessions.routes(), *oidc.routes()]),
            render_error=render,
            admit=parts.admission,
        ),
        Mounted(
            name="token",
            prefixes=("/service/token", "/api/version"),
            face=routed("", [*tokens.routes(), *version_routes()]),
            render_error=render,
        ),
        Mounted(
            name="internal",
            prefixes=(f"{INTERNAL}/",),
            face=routed(INTERNAL, _internal(parts).routes()),
            render_error=render,
            admit=parts.admission,
        ),
        _conflicts(parts),
        Mounted(
            name="core",
            prefixes=(f"{ROOT}/",),
            face=HarborPaths(
                routed(
                    ROOT, management_routes(*_stored(parts, charts), *_people(parts, vouched), *_system(parts), *_rules(parts))
                )
            ),
            render_error=render,
            admit=parts.admission,
        ),
    ]


def _vouched(parts: Parts) -> Vouching:
    return vouching(
        store=parts.store,
        executor=parts.executor,
        guard=parts.guard,
        passwords=parts.passwords,
        sealer=parts.sealer,
        durability=parts.durability,
    )


def _conflicts(parts: Parts) -> Mounted:
    """Return what Harbor has no word for, and is written like the rest."""
    api = ConflictsApi(access=_access(parts), documents=Documents(store=parts.store, executor=parts.executor))
    return Mounted(
        name="conflicts",
        prefixes=(f"{OWN_ROOT}/conflicts", f"{OWN_ROOT}/conflicts/"),
        face=routed(OWN_ROOT, management_routes(api)),
        render_error=render,
        admit=parts.admission,
    )


def _access(parts: Parts) -> Access:
    return Access(identity=parts.identity, store=parts.store, executor=parts.executor, durability=parts.durability)


def _people(parts: Parts, vouched: Vouching) -> Sequence[Subject]:
    """Return who there is and what they may do."""
    return people_subjects(
        access=_access(parts),
        store=parts.store,
        executor=parts.executor,
        guard=parts.guard,
        passwords=parts.passwords,
        sealer=parts.sealer,
        forwarding=parts.forwarding,
        vouching=vouched,
    )


def _stored(parts: Parts, charts: ChartsApi) -> Sequence[Subject]:
    """Return what is stored: repositories, artifacts, tags."""
    return stored_subjects(
        access=_access(parts), store=parts.store, executor=parts.executor, stored=parts.stored, charts=charts
    )


def _chart_faces(parts: Parts, charts: ChartsApi) -> list[Mounted]:
    """Return helm's repositories and ChartMuseum's API."""
    return [
        Mounted(
            name="charts",
            prefixes=(prefix,),
            face=routed(mount, routes),
            render_error=render_chart_error,
            admit=parts.admission,
        )
        for prefix, mount, routes in (
            ("/chartrepo/", "", charts.repository_routes()),
            ("/api/chartrepo/", "/api", charts.routes()),
        )
    ]


def _system(parts: Parts) -> list[Subject]:
    """Return what the cluster says of itself."""
    return [
        SystemApi(
            access=_access(parts),
            guard=parts.guard,
            is_healthy=parts.is_healthy,
            origin_of=parts.forwarding.origin_of,
            clock=parts.store.clock,
            version=parts.version,
            external_url=parts.external_url,
        ),
    ]


def _internal(parts: Parts) -> InternalApi:
    """Return what administrators call of Harbor's own services."""
    configurations = Configurations(store=parts.store, executor=parts.executor, sealer=parts.sealer)
    return InternalApi(access=_access(parts), configurations=configurations)


def _rules(parts: Parts) -> Sequence[Subject]:
    """Return rules, jobs and what is kept for them."""
    return rule_subjects(
        access=_access(parts),
        store=parts.store,
        executor=parts.executor,
        sealer=parts.sealer,
        origin_of=parts.forwarding.origin_of,
        entrance=parts.entrance,
        data_dir=parts.data_dir,
        grace_s=parts.grace_s,
    )
