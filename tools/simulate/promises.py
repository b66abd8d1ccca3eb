"""What a client may rely on while it works: its own writes, no step back, and no right that was taken away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tools.simulate.facts import Fact
from tools.simulate.host import Host
from tools.simulate.world import Asked, World
from twinhull.records.kinds import MANIFEST, MEMBER, ROBOT, TAG, USER, content_key, split_tag_key
from twinhull.records.merge import Value

_LOCAL: Final = "local"
PUSHERS: Final = frozenset({1, 4, 2})


@dataclass(frozen=True, slots=True)
class Floor:
    """A write that a client knows of, and the node that told it."""

    fact: Fact
    node: str


def judge_level(world: World, level: str, host: Host, began_s: float) -> None:
    """Judge what a write has reached: a peer that is there and well is waited for, so it is never only on this disk."""
    if level == _LOCAL and len(world.hosts) > 1 and world.is_well_since(began_s):
        world.fail(f"a write at {host.name} waited for nobody, although nothing was wrong")


def target_of(fact: Fact) -> Value:
    """Return the digest that a write of a tag names, None for a deletion."""
    target = fact.fields.get("target")
    return None if fact.deleted or not isinstance(target, dict) else target.get("digest")


class Memory:
    """What one client knows of each tag."""

    def __init__(self, world: World) -> None:
        """Know nothing."""
        self._world = world
        self._floors: dict[str, list[Floor]] = {}

    def wrote(self, facts: Iterable[Fact], host: Host) -> None:
        """Remember one's own write, which was said to be done."""
        for fact in facts:
            if fact.kind == TAG.name:
                self._floors.setdefault(fact.key, []).append(Floor(fact, host.node))

    def read(self, key: str, digest: str | None, asked: Asked) -> None:
        """Judge an answer by what this client knew, and remember it."""
        facts = self._world.ledger.of(TAG.name, key)
        explaining = [fact for fact in facts if target_of(fact) == digest or (digest is None and self._lost_its_manifest(fact))]
        for floor in self._floors.get(key, ()):
            if not self._world.must_know(floor.fact, floor.node, asked):
                continue
            if all(floor.fact.saw(fact) for fact in explaining):
                self._world.fail(
                    f"{key} at {asked.host.name} is {digest}, older than what {floor.fact.node} wrote as "
                    f"{floor.fact.origin}:{floor.fact.seq} and {floor.node} told this client of"
                )
        if len(explaining) == 1 and explaining[0].acked_s < asked.began_s:
            self._floors.setdefault(key, []).append(Floor(explaining[0], asked.host.node))

    def _lost_its_manifest(self, fact: Fact) -> bool:
        """Tell whether the manifest that a tag was set to has been deleted, by somebody who may not have known of the tag."""
        repository, _ = split_tag_key(fact.key)
        manifest = content_key(repository, str(target_of(fact)))
        return any(other.deleted for other in self._world.ledger.of(MANIFEST.name, manifest))


def _may_not_push(fact: Fact) -> bool:
    return fact.deleted or ("role" in fact.fields and fact.fields["role"] not in PUSHERS)


def _is_disabled(fact: Fact) -> bool:
    return fact.deleted or fact.fields.get("disable") is True


def _is_deleted(fact: Fact) -> bool:
    return fact.deleted


_REVOKES: Final = {MEMBER.name: _may_not_push, ROBOT.name: _is_disabled, USER.name: _is_deleted}


def judge_right(world: World, kind: str, key: str, asked: Asked) -> None:
    """Judge that a node let somebody do something, which the record of that key can forbid."""
    revokes = _REVOKES[kind]
    facts = world.ledger.of(kind, key)
    grants = [fact for fact in facts if not revokes(fact)]
    for fact in facts:
        if not revokes(fact) or fact.acked_s >= asked.began_s or not world.must_know(fact, fact.node, asked):
            continue
        if all(fact.saw(grant) for grant in grants):
            world.fail(f"{kind} {key} has a right at {asked.host.name} that {fact.origin}:{fact.seq} took away")
            return
