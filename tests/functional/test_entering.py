"""A join that was cut off: forgotten if the member had not answered yet, brought to its end by the next start if it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinhull.config.settings import Settings
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import JoinRefused, TwinhullError
from twinhull.metadata.store import Store
from twinhull.node.entering import DISCARD, MERGE, REFUSE, finish_entering, join
from twinhull.node.parts import database_of, trust_of
from twinhull.node.start import initialise
from twinhull.records.kinds import NODE
from twinhull.replication.trust import Invite, Trust, encode_invite

TOKEN = encode_invite(Invite(address="127.0.0.1:1", secret="s", ca_fingerprint="0"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A node with data."""
    settings = Settings(data_dir=tmp_path / "data", name="own")
    initialise(settings)
    return settings


def staged(settings: Settings, plan: str) -> Trust:
    """Leave what a join leaves that was killed right after the member's answer."""
    trust = Trust(settings.data_dir / "node.joining")
    trust.note_own_data(plan)
    trust.found("own", SystemClock())
    return trust


@pytest.mark.parametrize("moved", [(), ("blobs",), ("blobs", "metadata.db", "node")])
def test_discard_that_was_cut_off_is_finished_by_the_next_start(settings: Settings, moved: tuple[str, ...]) -> None:
    was, joined = trust_of(settings).identity().node, staged(settings, DISCARD).identity()
    aside = settings.data_dir / "set-aside" / f"{was}-{joined.node}"
    for name in moved:
        aside.mkdir(parents=True, exist_ok=True)
        (settings.data_dir / name).rename(aside / name)
    finish_entering(settings)
    assert trust_of(settings).identity() == joined
    if "node" not in moved:
        assert {"blobs", "metadata.db", "node", "uploads"} <= {path.name for path in aside.iterdir()}
    assert not (settings.data_dir / "node.joining").exists()
    initialise(settings)
    finish_entering(settings)
    assert trust_of(settings).identity() == joined


def test_merge_that_was_cut_off_is_finished_by_the_next_start(settings: Settings) -> None:
    joined = staged(settings, MERGE).identity()
    finish_entering(settings)
    initialise(settings)
    database = database_of(settings)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM users").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM nodes").scalar() == 0
    database.close()
    assert trust_of(settings).identity() == joined


def test_join_that_nobody_answered_leaves_the_node_as_it_was(settings: Settings) -> None:
    identity = trust_of(settings).identity()
    for own_data in (REFUSE, DISCARD, MERGE):
        with pytest.raises(TwinhullError, match=r"belongs to a node already|does not answer"):
            join(settings, TOKEN, own_data)
        assert trust_of(settings).identity() == identity
        assert not (settings.data_dir / "node.joining").exists()
        assert not (settings.data_dir / "set-aside").exists()
    (settings.data_dir / "node.joining").mkdir()
    initialise(settings)
    assert not (settings.data_dir / "node.joining").exists()


def test_node_of_another_cluster_is_not_merged_before_it_has_left_that(settings: Settings) -> None:
    identity = trust_of(settings).identity()
    database = database_of(settings)
    store = Store(database, node=identity.node, slot=identity.slot, clock=SystemClock())
    fields = {"name": "there", "slot": 1, "address": "h:1", "url": "", "token_keys": [], "joined_ms": 0}
    with store.write() as transaction:
        transaction.create(NODE, "0123abcd", fields)
    store.close()
    with pytest.raises(JoinRefused, match="in a cluster with there") as refused:
        join(settings, TOKEN, MERGE)
    assert "cluster leave" in refused.value.hint


def test_data_without_keys_are_not_merged(settings: Settings) -> None:
    (settings.data_dir / "node").rename(settings.data_dir / "lost+found")
    with pytest.raises(JoinRefused, match="is missing"):
        join(settings, TOKEN, MERGE)
