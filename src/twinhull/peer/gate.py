"""Who may come in at the peer port."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twinhull.kit.errors import Denied, NotAMember, Unavailable
from twinhull.metadata import members
from twinhull.metadata.store import Store
from twinhull.replication.trust import node_of_certificate


class Gate:
    """Lets members in with which this node exchanges."""

    def __init__(self, store: Store, is_paused: Callable[[str], bool]) -> None:
        """Take who knows the members, and what tells which of them are left alone for now."""
        self._store = store
        self._is_paused = is_paused

    def admit(self, certificate: Mapping[str, object] | None) -> str:
        """Return the id of the node that showed this verified certificate; waits for the database.

        Raises Denied to whoever is no member, Unavailable while the exchange with the member is paused.
        """
        node = self.identify(certificate)
        # The certificate outlives the membership: what counts is the node's record.
        with self._store.read() as connection:
            is_member = members.is_member(connection, node)
        if not is_member:
            raise NotAMember(f"node {node} is not a member of this cluster", hint="invite it again")
        if self._is_paused(node):
            raise Unavailable(f"exchange with node {node} is paused here", hint="`twinhull cluster resume`")
        return node

    @staticmethod
    def identify(certificate: Mapping[str, object] | None) -> str:
        """Return which node this verified certificate was made for, member or not; raises Denied when there is none."""
        node = node_of_certificate(certificate)
        if node is None:
            raise Denied("the peer port takes members only", hint="join with `twinhull cluster join TOKEN`")
        return node
