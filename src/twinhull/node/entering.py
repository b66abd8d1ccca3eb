"""Coming into a cluster, from the newcomer's side: its keys are made aside and put in place when all else is ready.

A join that is cut off before the member has answered leaves the node as it was; one that is cut off later is brought to its
end by the next start.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Final

import structlog

from twinhull.auth.sealing import Sealer
from twinhull.blobs.disk import sync_directory, translated
from twinhull.config.settings import Settings
from twinhull.kit.clock import SystemClock
from twinhull.kit.errors import JoinRefused, TwinhullError
from twinhull.metadata import members
from twinhull.metadata.entering import Reseal, has_data, prepare_to_merge
from twinhull.metadata.migrate import migrate
from twinhull.node.parts import database_of, own_url, trust_of
from twinhull.replication.joining import join as join_cluster
from twinhull.replication.trust import Trust, decode_invite
from twinhull.upkeep.restoring import require_finished

log = structlog.get_logger(__name__)

# What becomes of the data that a joining node has already.
REFUSE: Final = "refuse"
MERGE: Final = "merge"
DISCARD: Final = "discard"
_NOTHING: Final = "nothing"

_KEYS: Final = "node"
# The newcomer's keys lie here until they take the place of `node/`.
_ENTERING: Final = "node.joining"
# What a join with --merge or --discard puts out of use; nothing reads it, and whoever needs the space may remove it.
_SET_ASIDE: Final = "set-aside"
_STAYS: Final = frozenset({_KEYS, _ENTERING, _SET_ASIDE, "run", "lost+found"})


def join(settings: Settings, token: str, own_data: str) -> None:
    """Make this data directory a member of the token's cluster; raises JoinRefused or PeerUnavailable.

    `own_data` says what becomes of data that is there already: REFUSE, MERGE or DISCARD. A node that was refused is as it was.
    """
    invite = decode_invite(token)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    require_finished(settings.data_dir)
    finish_entering(settings)
    plan = _plan(settings, own_data)
    folder = settings.data_dir / _ENTERING
    staged = Trust(folder)
    try:
        staged.note_own_data(plan)
        identity = join_cluster(
            invite, staged, name=settings.node_name, address=str(settings.advertised_address), url=own_url(settings)
        )
    except TwinhullError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finish_entering(settings)
    log.info("joined", cluster=identity.cluster, node=identity.node, slot=identity.slot, own_data=plan)


def _plan(settings: Settings, own_data: str) -> str:
    """Return what is to become of the data here, or raise JoinRefused."""
    trust = trust_of(settings)
    with closing(database_of(settings)) as database:
        is_empty = not trust.exists() and not has_data(database)
        if is_empty:
            return _NOTHING
        if own_data == REFUSE:
            raise JoinRefused(
                "this data directory belongs to a node already",
                hint="join with --merge to bring its data along, with --discard to set them aside, or with an empty --data-dir",
            )
        if own_data == DISCARD and settings.database.url.reveal():
            raise JoinRefused("the data in a PostgreSQL database cannot be set aside", hint="name an empty one in database.url")
        if own_data == MERGE:
            if not trust.exists():
                raise JoinRefused(f"{trust.path} is missing", hint="restore it from a backup, or join with --discard")
            migrate(database)
            with database.read() as connection:
                present = members.nodes(connection)
            others = [node.name for node in present if node.id != trust.identity().node]
            if others and len(others) < len(present):
                raise JoinRefused(
                    f"this node is in a cluster with {', '.join(others)}",
                    hint="take it out first: start it, `twinhull cluster leave`, stop it",
                )
    return own_data


def finish_entering(settings: Settings) -> None:
    """Bring a join to its end that has got its member's answer; forget one that has not. Does nothing when there is none."""
    folder = settings.data_dir / _ENTERING
    if not folder.exists():
        return
    staged = Trust(folder)
    if not staged.exists():
        shutil.rmtree(folder, ignore_errors=True)
        return
    current = trust_of(settings)
    identity = staged.identity()
    was = current.identity().node if current.exists() else "none"
    aside = settings.data_dir / _SET_ASIDE / f"{was}-{identity.node}"
    plan = staged.own_data()
    if plan == MERGE and current.exists():
        clock = SystemClock()
        with closing(database_of(settings)) as database:
            reseal = _resealing(current, staged)
            prepare_to_merge(database, was=was, node=identity.node, slot=identity.slot, clock=clock, reseal=reseal)
    elif plan == DISCARD:
        for path in sorted(settings.data_dir.iterdir()):
            if path.name not in _STAYS:
                _move(path, aside / path.name)
    with translated(f"put the keys of node {identity.node} in place"):
        if (settings.data_dir / _KEYS).exists():
            _move(settings.data_dir / _KEYS, aside / _KEYS)
        folder.rename(settings.data_dir / _KEYS)
        sync_directory(settings.data_dir)


def _resealing(before: Trust, after: Trust) -> Reseal:
    old, new = Sealer(before.cluster_keys), Sealer(after.cluster_keys)

    def reseal(text: str) -> str:
        if not Sealer.is_sealed(text):
            return text
        try:
            return new.seal(old.unseal(text))
        except TwinhullError as error:
            # As unreadable as it was before; whoever uses it is told to enter it again.
            log.warning("sealed secret could not be read", error=str(error))
            return text

    return reseal


def _move(source: Path, target: Path) -> None:
    with translated(f"set {source} aside"):
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source.rename(target)
        sync_directory(target.parent)
        sync_directory(source.parent)
