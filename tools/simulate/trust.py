"""Who a simulated node is: names without certificates, since the simulated lines let nobody pretend to be another."""

from __future__ import annotations

import random
from pathlib import Path

from twinhull.kit.clock import Clock
from twinhull.records.change import Change
from twinhull.replication.trust import Identity, Invite, JoinAnswer, Trust


class SimulatedTrust(Trust):
    """A node's identity, and whether it has the cluster's state: on its disk, so it outlives its processes."""

    def __init__(self, identity: Identity, chance: random.Random) -> None:
        """Be a founder until `adopt` is called."""
        super().__init__(Path("/nonexistent"))
        self._identity = identity
        self._chance = chance
        self._first_members: list[Change] = []
        self._is_ready = True

    def identity(self) -> Identity:
        """Return which node this is."""
        return self._identity

    def is_ready(self) -> bool:
        """Tell whether it has the cluster's state."""
        return self._is_ready

    def took_over(self) -> None:
        """Note that it has."""
        self._is_ready = True

    def first_members(self) -> list[Change]:
        """Return the members that came with the join."""
        return self._first_members

    def new_invite(self, address: str) -> Invite:
        """Return an invite with a drawn secret."""
        return Invite(address=address, secret=f"{self._chance.getrandbits(128):032x}", ca_fingerprint="")

    def sign(self, request_pem: bytes, node: str, clock: Clock) -> bytes:  # noqa: ARG002 - as its base
        """Return nothing that anybody checks."""
        return b""

    def answer(self, certificate_pem: bytes, slot: int, members: list[Change]) -> JoinAnswer:  # noqa: ARG002 - as its base
        """Return what a newcomer needs here."""
        return JoinAnswer(
            cluster=self._identity.cluster,
            slot=slot,
            certificate_pem="",
            ca_certificate_pem="",
            ca_key_pem="",
            cluster_keys=[],
            members=members,
        )

    def adopt(self, answer: JoinAnswer, node: str, name: str) -> Identity:
        """Become the member that the answer describes."""
        self._identity = Identity(cluster=answer.cluster, node=node, name=name, slot=answer.slot)
        self._first_members = answer.members
        self._is_ready = False
        return self._identity
