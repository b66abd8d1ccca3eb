"""What happens before a node's processes run: founding a cluster, and bringing its data to this release's form."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from twinhull.auth.passwords import hash_password, random_text, require_strong
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.catalog.accounts import create_admin
from twinhull.catalog.accounts import reset_admin_password as reset_password
from twinhull.catalog.projects import create_library
from twinhull.config.settings import Settings
from twinhull.config.values import Secret
from twinhull.kit.clock import SystemClock
from twinhull.metadata.migrate import migrate
from twinhull.metadata.store import Store
from twinhull.node.entering import finish_entering
from twinhull.node.parts import database_of, own_url, trust_of
from twinhull.records.kinds import NODE
from twinhull.replication.own_past import settle_own_past
from twinhull.replication.page import SyncPage
from twinhull.replication.trust import Identity, Trust
from twinhull.upkeep.restoring import require_finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialised:
    """What a node's start brought to light."""

    # Set when a new cluster was founded without a password being given.
    generated_admin_password: Secret | None


def initialise(settings: Settings) -> Initialised:
    """Bring the data directory to this release's form; an empty one becomes a cluster of one."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    require_finished(settings.data_dir)
    finish_entering(settings)
    trust = trust_of(settings)
    clock = SystemClock()
    identity = trust.identity() if trust.exists() else trust.found(settings.node_name, clock)
    database = database_of(settings)
    with closing(database):
        migrate(database)
        store = Store(database, node=identity.node, slot=identity.slot, clock=clock)
        settle_own_past(store, trust)
        store.refresh_position()
        # What an earlier life was sure of may have been overtaken.
        SyncPage(settings.run_dir / "in-sync").set_until(0)
        FilesystemBlobs(settings.data_dir).recover(clock.unix_ms() - int(settings.limits.upload_idle_s * 1000))
        password = _found(settings, store, trust, identity) if identity.slot == 0 else None
        with store.write() as transaction:
            for record in trust.first_members():
                transaction.merge_record(record)
        _keep_own_record(settings, store, identity)
    return Initialised(generated_admin_password=password)


def _found(settings: Settings, store: Store, trust: Trust, identity: Identity) -> Secret | None:
    """Give a new cluster its first node, administrator and project, in one transaction; return a password made up for it."""
    given = settings.admin_password.reveal()
    if store.position():
        return None
    password = given or random_text(20)
    with store.write() as transaction:
        fields = {
            "name": identity.name,
            "slot": identity.slot,
            "address": str(settings.advertised_address),
            "url": own_url(settings),
            "token_keys": [trust.token_jwk()],
            "joined_ms": transaction.now_ms(),
        }
        transaction.create(NODE, identity.node, fields)
        create_admin(transaction, hash_password(password))
        create_library(transaction)
    return None if given else Secret(password)


def _keep_own_record(settings: Settings, store: Store, identity: Identity) -> None:
    """Tell the others when this node is reached elsewhere than before."""
    told = {"name": settings.node_name, "address": str(settings.advertised_address), "url": own_url(settings)}
    with store.write() as transaction:
        values = transaction.values(NODE, identity.node)
        if values is not None and any(values.get(name) != value for name, value in told.items()):
            transaction.put(NODE, identity.node, told)


def reset_admin_password(settings: Settings, wanted: Secret | None) -> Secret:
    """Give the administrator a new password (made up if none is wanted) and return it; raises Invalid for a weak one."""
    password = wanted.reveal() if wanted is not None else random_text(20)
    if wanted is not None:
        require_strong(password, "the password")
    identity = trust_of(settings).identity()
    database = database_of(settings)
    with closing(database):
        store = Store(database, node=identity.node, slot=identity.slot, clock=SystemClock())
        with store.write() as transaction:
            reset_password(transaction, hash_password(password))
    return Secret(password)
