"""harborapi's own client, unchanged, which notes the operations it was used for."""

from __future__ import annotations

import inspect
from typing import Final

from harborapi import HarborAsyncClient

# What operations are made of, and no operation of Harbor's API itself.
_TRANSPORT: Final = frozenset({"get", "get_text", "get_file", "post", "put", "patch", "delete", "head"})
OPERATIONS: Final = frozenset(
    name
    for name, member in vars(HarborAsyncClient).items()
    if inspect.iscoroutinefunction(member) and not name.startswith("_") and name not in _TRANSPORT
)


class Desk(HarborAsyncClient):
    """A client at one way in."""

    def __init__(self, address: str, *, user: str, password: str, token: str) -> None:
        """Take the way in, who asks, and a word that makes names its own."""
        # First: what is set is looked up by way of what is noted.
        self.used: set[str] = set()
        self.token = token
        super().__init__(url=f"http://{address}/api/v2.0", username=user, secret=password)

    def __getattribute__(self, name: str) -> object:
        """Note that an operation is used."""
        if name in OPERATIONS:
            self.used.add(name)
        return super().__getattribute__(name)

    def name(self, kind: str) -> str:
        """Return a name that nothing else has."""
        return f"{kind}-{self.token}"


def id_in(location: str) -> int:
    """Return the number at the end of a Location."""
    return int(location.rpartition("/")[2])
