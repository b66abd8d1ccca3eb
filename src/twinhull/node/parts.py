"""What a node's processes have in common."""

from __future__ import annotations

from twinhull.catalog.events import Entrance
from twinhull.config.settings import Settings
from twinhull.metadata.database import Database
from twinhull.metadata.members import Node
from twinhull.metadata.postgres import PostgresDatabase
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.replication.trust import Trust


def trust_of(settings: Settings) -> Trust:
    """Return the node's keys and certificates."""
    return Trust(settings.data_dir / "node")


def database_of(settings: Settings) -> Database:
    """Return the node's metadata database, as the settings say."""
    url = settings.database_url.reveal()
    if url.startswith("postgresql"):
        return PostgresDatabase(url)
    return SqliteDatabase(settings.data_dir / "metadata.db", run_dir=settings.run_dir)


def own_url(settings: Settings) -> str:
    """Return where clients reach this node."""
    return f"http://{settings.listen}"


def entrance_of(settings: Settings) -> Entrance:
    """Return where clients find the registry as far as this node knows: the cluster's one address, else its own."""
    if settings.external_url:
        return Entrance(settings.external_url.rstrip("/"))
    listen = settings.listen
    return Entrance(f"http://{settings.advertised_address.host}:{listen.port}" if listen.is_everywhere else own_url(settings))


def own_node(settings: Settings, trust: Trust) -> Node:
    """Return how this node describes itself."""
    identity = trust.identity()
    return Node(
        id=identity.node,
        name=settings.node_name,
        slot=identity.slot,
        address=str(settings.advertised_address),
        url=own_url(settings),
        token_keys=[trust.token_jwk()],
        joined_ms=0,
    )
