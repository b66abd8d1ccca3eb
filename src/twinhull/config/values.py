"""The kinds of value that a setting can have, and how each is read from text."""

from __future__ import annotations

import ipaddress
import math
import re
import types
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final, Self, Union, get_args, get_origin

from twinhull.kit.errors import SettingsInvalid

PORT_MAX: Final = 65_535
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_SIZE: Final = re.compile(r"(\d+)\s*([KMGT]i?B|B)?")
_SIZE_UNITS: Final[dict[str | None, int]] = {
    unit: factor
    for power, letter in enumerate("KMGT", start=1)
    for unit, factor in ((f"{letter}iB", 1024**power), (f"{letter}B", 1000**power))
}


class Secret:
    """A text that shows up in no log, message or traceback; `reveal()` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self._text = text

    def reveal(self) -> str:
        """Return the text; call it only where it is used."""
        return self._text

    def __bool__(self) -> bool:
        """Tell whether there is any text."""
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Compare two secrets; never equal to a plain text, so that nobody compares by accident."""
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        """Hash by the text, salted by Python for each process."""
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        """Return three asterisks."""
        return "***"

    __str__ = __repr__


class Address:
    """A host and a port to listen on or to dial; an IPv6 host is written in brackets."""

    __slots__ = ("host", "port")

    def __init__(self, host: str, port: int) -> None:
        """Take a host without brackets and a port from 0 to 65535."""
        self.host: Final = host
        self.port: Final = port

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (every address), or raise SettingsInvalid."""
        host, colon, port = text.strip().rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if not colon or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX or (":" in host and not bracketed):
            raise SettingsInvalid(f"{text!r} is not an address", hint="write HOST:PORT, e.g. 127.0.0.1:8080 or [::1]:8080")
        return cls(host or "0.0.0.0", int(port))  # noqa: S104 - ":8080" means every address, as docker and nginx read it

    @property
    def is_everywhere(self) -> bool:
        """Tell whether it stands for every address of the machine."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to

    def with_port(self, port: int) -> Address:
        """Return the same host with another port."""
        return Address(self.host, port)

    def __str__(self) -> str:
        """Return it as it is written: HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        """Return it as an expression."""
        return f"Address({self.host!r}, {self.port})"

    def __eq__(self, other: object) -> bool:
        """Compare host and port as they are written."""
        return isinstance(other, Address) and (other.host, other.port) == (self.host, self.port)

    def __hash__(self) -> int:
        """Hash by host and port."""
        return hash((self.host, self.port))


class Networks(tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]):
    """IP networks; a single address is a network of one."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read networks parted by commas, or raise SettingsInvalid."""
        try:
            return cls(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
        except ValueError as error:
            raise SettingsInvalid(f"{error}", hint="write networks as 10.0.0.0/8,192.0.2.7") from error

    def __contains__(self, address: object) -> bool:
        """Tell whether an address, given as text, lies in one of the networks; anything else does not."""
        try:
            parsed = ipaddress.ip_address(str(address))
        except ValueError:
            return False
        return any(parsed in network for network in self)

    def __repr__(self) -> str:
        """Return them as they are written."""
        return ",".join(str(network) for network in self)


def parse_value(kind: Any, raw: object) -> Any:  # noqa: ANN401 - the kind is a type taken from an annotation
    """Return the raw value, text as a rule, as the wanted kind; or raise SettingsInvalid saying what is expected."""
    if get_origin(kind) in {types.UnionType, Union}:
        kind = next(option for option in get_args(kind) if option is not type(None))
    if not isinstance(raw, str):
        return raw
    if kind is bool:
        return _parse_bool(raw)
    if kind is int:
        return _parse_int(raw)
    if kind is float:
        return _parse_float(raw)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _parse_choice(kind, raw)
    if kind in {Address, Networks}:
        return kind.parse(raw)
    if kind is Path:
        return Path(raw).expanduser()
    return kind(raw)


def _parse_bool(raw: str) -> bool:
    word = raw.strip().lower()
    if word not in _TRUE | _FALSE:
        raise SettingsInvalid(f"{raw!r} is neither true nor false")
    return word in _TRUE


def _parse_int(raw: str) -> int:
    match = _SIZE.fullmatch(raw.strip().replace("_", ""))
    if match is None:
        raise SettingsInvalid(f"{raw!r} is not a whole number", hint="sizes may be written as 4MiB or 2GB")
    return int(str(match[1])) * _SIZE_UNITS.get(match[2], 1)


def _parse_float(raw: str) -> float:
    try:
        number = float(raw)
    except ValueError as error:
        raise SettingsInvalid(f"{raw!r} is not a number") from error
    if not math.isfinite(number):
        raise SettingsInvalid(f"{raw!r} is not a finite number")
    return number


def _parse_choice(kind: type[Enum], raw: str) -> Enum:
    try:
        return kind(raw.strip().lower())
    except ValueError as error:
        raise SettingsInvalid(f"{raw!r} is not one of {', '.join(str(choice.value) for choice in kind)}") from error


class DurabilityLevel(StrEnum):
    """What the answer to a write waits for, from the weakest on."""

    LOCAL = "local"
    METADATA = "metadata"
    FULL = "full"


LEVELS: Final = tuple(DurabilityLevel)


class OnPeerLoss(StrEnum):
    """What to do when no peer is left that could confirm a write."""

    DEGRADE = "degrade"
    REFUSE = "refuse"


class LogLevel(StrEnum):
    """The least important events that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogFormat(StrEnum):
    """How a log line looks; `auto` is `console` on a terminal and `json` elsewhere."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"
