"""What is settled for each request before a face sees it: its id, and the address that the client used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from twinhull.kit.errors import SettingsInvalid
from twinhull.web.asgi import Headers, Message, Receive, Scope, Send

_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_SCHEMES: Final = ("http", "https")
_ADDRESSES_REMEMBERED_MAX: Final = 4096


def header_of(scope: Scope, name: bytes) -> bytes:
    """Return the first header of that (lower-case) name, or an empty value."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


class RequestIds:
    """Names each request, so that an answer, a log line and a user's report can be brought together."""

    def __init__(self, prefix: str) -> None:
        """Take a prefix that no other process of the cluster uses; ids of this process count up behind it."""
        self._prefix = prefix
        self._count = 0

    def id_of(self, scope: Scope) -> bytes:
        """Return the client's own X-Request-Id where it has a harmless one, else a new one."""
        given = header_of(scope, b"x-request-id")
        if given and _REQUEST_ID.fullmatch(given):
            return given
        self._count += 1
        return f"{self._prefix}-{self._count:x}".encode("ascii")


class Exchange:
    """Stands between a face and the server: adds the request's id, and knows how far request and answer have got."""

    __slots__ = ("_headers", "_receive", "_request_id", "_send", "body_is_read", "extra_headers", "sent_bytes", "status")

    def __init__(self, receive: Receive, send: Send, request_id: bytes) -> None:
        """Pass everything on."""
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self.body_is_read = False
        # 0 until the answer has begun.
        self.status = 0
        self.sent_bytes = 0
        # Added to the answer's own.
        self.extra_headers: Headers = []
        self._headers: Headers = []

    async def receive(self) -> Message:
        """Return the next message of the request."""
        message = await self._receive()
        if not message.get("more_body", False):
            self.body_is_read = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = message.get("headers", ())
            message["headers"] = self._headers = [*own, *self.extra_headers, (b"x-request-id", self._request_id)]
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
        else:
            # A file that the server sends by itself: as long as the answer has said.
            self.sent_bytes += next((int(value) for name, value in self._headers if name == b"content-length"), 0)
        await self._send(message)


class Forwarding:
    """Tells the address that the client used, and the client's own: by X-Forwarded-* where a trusted proxy sent them."""

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        """Trust these networks ("127.0.0.0/8", "::1"); raises SettingsInvalid for what is none."""
        self._trusted: list[IPv4Network | IPv6Network] = []
        # The same few addresses come with every request.
        self._is_trusted = lru_cache(_ADDRESSES_REMEMBERED_MAX)(self._is_in_trusted_network)
        for text in trusted_proxies:
            try:
                self._trusted.append(ip_network(text, strict=False))
            except ValueError as error:
                raise SettingsInvalid(f"trusted proxy {text!r} is no network", hint="write 10.0.0.0/8 or an address") from error

    def origin_of(self, scope: Scope) -> str:
        """Return scheme and host as the client wrote them ("https://registry.example:8443")."""
        host = header_of(scope, b"host").decode("latin-1")
        scheme = str(scope.get("scheme", "http"))
        if self._is_trusted(_peer_of(scope)):
            forwarded_scheme = _first(header_of(scope, b"x-forwarded-proto")).lower()
            scheme = forwarded_scheme if forwarded_scheme in _SCHEMES else scheme
            forwarded_host = _first(header_of(scope, b"x-forwarded-host"))
            host = forwarded_host if _HOST.fullmatch(forwarded_host) else host
        if not _HOST.fullmatch(host):
            # HTTP/1.0 has no Host; and what is no host name must not get into an answer.
            server = scope.get("server") or ("localhost", None)
            name = f"[{server[0]}]" if ":" in str(server[0]) else str(server[0])
            host = f"{name}:{server[1]}" if server[1] else name
        return f"{scheme}://{host}"

    def client_of(self, scope: Scope) -> str:
        """Return the client's address: the nearest one that is no trusted proxy."""
        address = _peer_of(scope)
        if self._is_trusted(address):
            for text in reversed(header_of(scope, b"x-forwarded-for").decode("latin-1").split(",")):
                candidate = text.strip()
                if not _is_address(candidate):
                    break
                address = candidate
                if not self._is_trusted(candidate):
                    break
        return address

    def _is_in_trusted_network(self, address: str) -> bool:
        if not self._trusted or not _is_address(address):
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._trusted)


OriginOf = Callable[[Scope], str]


def _peer_of(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _first(value: bytes) -> str:
    return value.decode("latin-1").partition(",")[0].strip()


@lru_cache(_ADDRESSES_REMEMBERED_MAX)
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
