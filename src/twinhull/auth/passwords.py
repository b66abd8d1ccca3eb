"""Passwords and secrets: judged, stored as hashes, checked, remembered for a short while, and hard to guess."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from twinhull.kit.clock import Clock
from twinhull.kit.errors import Invalid, LoginSlowedDown

RandomBytes = Callable[[int], bytes]
_Result = TypeVar("_Result")

STRENGTH: Final = "must longer than 8 chars with at least 1 uppercase letter, 1 lowercase letter and 1 number"
_STRONG: Final = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).{8,}", re.DOTALL)
# Halves of a character, which JSON can smuggle in and UTF-8 cannot carry.
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
# Harbor knows no upper bound; this one only keeps a hash of megabytes from being asked for.
PASSWORD_LENGTH_MAX: Final = 4096

# OWASP's second choice for argon2id: 19 MiB and two passes, 37 ms on the machine that the budgets were measured on. More memory
# would eat into the budget of an idle node as soon as a few people log in at once.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
# What an unknown user's password is compared with, so that the answer takes as long as for one that is known.
_NOBODY: Final = "$argon2id$v=19$m=19456,t=2,p=1$LWJgbOnb6gH3MxF4JztQUw$Fxmm/jxXzDy+EFZPsKxAYV9aImlCDBv1WwW3pFvH1ts"

_ROBOT_FORM: Final = "hmac-sha256"
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SECRET_LENGTH: Final = 32


def require_strong(password: str, what: str) -> None:
    """Raise Invalid, in Harbor's words, unless the password has 8 characters, upper, lower and a digit."""
    is_text = password.isascii() or not _SURROGATE.search(password)
    if len(password) > PASSWORD_LENGTH_MAX or not is_text or not _STRONG.fullmatch(password):
        raise Invalid(f"{what} {STRENGTH}")


def hash_password(password: str) -> str:
    """Return what is stored of a password that a person chose; takes tens of milliseconds."""
    return _HASHER.hash(password)


def random_text(length: int, random_bytes: RandomBytes = os.urandom) -> str:
    """Return that many random letters and digits, each equally likely."""
    chosen: list[str] = []
    while len(chosen) < length:
        # 248 is the largest multiple of 62 in a byte; what is above would make the first letters likelier.
        chosen += [_ALPHABET[byte % 62] for byte in random_bytes(length) if byte < 248]
    return "".join(chosen[:length])


def new_secret(random_bytes: RandomBytes = os.urandom) -> str:
    """Return a robot's secret: 32 random letters and digits that pass the rule for passwords."""
    while True:
        secret = random_text(_SECRET_LENGTH, random_bytes)
        if _STRONG.fullmatch(secret):
            return secret


def hash_secret(secret: str, random_bytes: RandomBytes = os.urandom) -> str:
    """Return what is stored of a secret that `new_secret` made.

    Such a secret has 190 bits of entropy, so guessing is hopeless at any speed and a slow hash would only cost each CI job its
    37 ms; one that a person chose is stored by `hash_password`. The salt keeps equal secrets from looking equal.
    """
    salt = random_bytes(16).hex()
    return f"{_ROBOT_FORM}${salt}${_mac(salt, secret)}"


def _mac(salt: str, secret: str) -> str:
    return hmac.new(salt.encode(), secret.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _is_fast(stored: str) -> bool:
    return stored.startswith(f"{_ROBOT_FORM}$")


def verify(password: str, stored: str | None) -> bool:
    """Tell whether the password is the stored one; `None` stands for an unknown user, takes as long, and is never right."""
    if len(password) > PASSWORD_LENGTH_MAX:
        return False
    if stored is not None and _is_fast(stored):
        _, salt, expected = stored.split("$")
        return hmac.compare_digest(_mac(salt, password), expected)
    try:
        _HASHER.verify(stored or _NOBODY, password)
    except (Argon2Error, InvalidHashError, UnicodeEncodeError):
        return False
    return bool(stored)


# What an unknown robot's secret is compared with: made of a secret that nobody knows.
UNKNOWN_ROBOT: Final = hash_secret(new_secret())


def fingerprint(stored: str) -> str:
    """Return a short name for a stored hash: it changes with the password and tells nothing about it."""
    return hashlib.sha256(b"credential " + stored.encode()).hexdigest()[:16]


class VerifiedPasswords:
    """Remembers for a short while which passwords were right, as keyed hashes, so that Basic credentials cost no argon2 each.

    The stored hash is part of what is remembered: once it changes, nothing that was remembered matches any more.
    """

    def __init__(
        self, *, clock: Clock, ttl_s: float = 120, entries_max: int = 10_000, random_bytes: RandomBytes = os.urandom
    ) -> None:
        """Remember at most that many for at most that long; the key lives and dies with this object."""
        self._clock = clock
        self._ttl_s = ttl_s
        self._entries_max = entries_max
        self._key = random_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._until)

    def remember(self, user: str, password: str, stored: str) -> None:
        """Remember that this password was right."""
        self._until[self._name(user, password, stored)] = self._clock.monotonic_s() + self._ttl_s
        while len(self._until) > self._entries_max:
            self._until.popitem(last=False)

    def knows(self, user: str, password: str, stored: str) -> bool:
        """Tell whether this password was right a short while ago."""
        name = self._name(user, password, stored)
        until = self._until.get(name)
        if until is None:
            return False
        if until <= self._clock.monotonic_s():
            del self._until[name]
            return False
        return True

    def _name(self, user: str, password: str, stored: str) -> bytes:
        text = f"{len(user)} {len(stored)} {user}{stored}{password}"
        return hashlib.blake2b(text.encode(errors="surrogatepass"), key=self._key, digest_size=32).digest()


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last_s: float = 0.0
    blocked_until_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessLimits:
    """From how many wrong passwords on guessing is slowed down, and how much."""

    pair_max: int = 5
    user_max: int = 50
    address_max: int = 20
    first_wait_s: float = 1.0
    wait_s_max: float = 30.0
    forget_after_s: float = 900.0
    entries_max: int = 20_000


class GuessBrake:
    """Slows down repeated wrong passwords: for a user from one address, for a user from anywhere, and for an address.

    An address with many failures gets one try a user while it waits, so that somebody else's right password still works from
    behind the same NAT. Counts are kept in each process, in bounded memory; the least recently touched go first.
    """

    def __init__(self, *, clock: Clock, limits: GuessLimits | None = None) -> None:
        """Start with no failures known."""
        self._clock = clock
        self._limits = limits or GuessLimits()
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def __len__(self) -> int:
        """Return how many counts are kept."""
        return len(self._failures)

    def check(self, user: str, address: str) -> None:
        """Raise LoginSlowedDown when this user, from this address, has to wait before the next try."""
        now = self._clock.monotonic_s()
        pair, anywhere, here = (self._failures.get(key) for key in self._keys(user, address))
        waits = [found.blocked_until_s - now for found in (pair, anywhere) if found is not None]
        if here is not None and pair is not None and pair.count:
            waits.append(here.blocked_until_s - now)
        wait_s = max(waits, default=0.0)
        if wait_s > 0:
            raise LoginSlowedDown(retry_after_s=max(1, int(wait_s + 0.999)))

    def failed(self, user: str, address: str) -> None:
        """Count a wrong password."""
        limits = self._limits
        for key, free in zip(self._keys(user, address), (limits.pair_max, limits.user_max, limits.address_max), strict=True):
            self._count(key, free)

    def succeeded(self, user: str, address: str) -> None:
        """Forget what this user got wrong from here; the address's own count stays, or one good account would hide a search."""
        self._failures.pop(self._keys(user, address)[0], None)

    @staticmethod
    def _keys(user: str, address: str) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
        # Names come from outside and may be long: what is kept of each has a limit.
        name = user if len(user) <= 64 else hashlib.sha256(user.encode(errors="surrogatepass")).hexdigest()
        return (name, address), (name, ""), ("", address)

    def _count(self, key: tuple[str, str], free: int) -> None:
        now = self._clock.monotonic_s()
        found = self._failures.pop(key, None)
        if found is None or now - found.last_s > self._limits.forget_after_s:
            found = _Failures()
        found.count += 1
        found.last_s = now
        if found.count >= free:
            doublings = min(found.count - free, 10)
            found.blocked_until_s = now + min(self._limits.first_wait_s * 2**doublings, self._limits.wait_s_max)
        self._failures[key] = found
        while len(self._failures) > self._limits.entries_max:
            self._failures.popitem(last=False)


class PasswordChecker:
    """Checks passwords off the event loop: remembered ones at once, others by their slow hash, a few at a time."""

    def __init__(
        self,
        *,
        verified: VerifiedPasswords,
        brake: GuessBrake,
        executor: Executor,
        at_once_max: int = 2,
        waiting_max: int = 100,
    ) -> None:
        """Take the memory, the brake, the threads, how many slow hashes may run at once (19 MiB each), and how many wait."""
        self._verified = verified
        self._brake = brake
        self._executor = executor
        self._slots = asyncio.Semaphore(at_once_max)
        self._waiting_max = waiting_max
        self._waiting = 0

    async def is_right(self, user: str, password: str, stored: str | None, *, address: str) -> bool:
        """Tell whether the password is right, or raise LoginSlowedDown after too many that were not.

        Who was right a short while ago passes whatever others guess meanwhile, so that nobody can be locked out by them.
        """
        if stored is not None and self._verified.knows(user, password, stored):
            return True
        self._brake.check(user, address)
        if stored is not None and _is_fast(stored):
            right = verify(password, stored)
        else:
            right = await self._slowly(verify, password, stored, before=lambda: self._brake.check(user, address))
        if right and stored is not None:
            self._brake.succeeded(user, address)
            self._verified.remember(user, password, stored)
        else:
            self._brake.failed(user, address)
        return right

    async def is_vouched_for(
        self, user: str, password: str, stored: str | None, *, address: str, ask: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Tell whether what vouches for a user knows that password; asked again only once in a while.

        Raises LoginSlowedDown after too many wrong ones, and what `ask` raises.
        """
        if stored is not None and self._verified.knows(user, password, stored):
            return True
        self._brake.check(user, address)
        right = await ask()
        if right:
            self._brake.succeeded(user, address)
        else:
            self._brake.failed(user, address)
        return right

    def remember(self, user: str, password: str, stored: str) -> None:
        """Keep for a short while that this password was right."""
        self._verified.remember(user, password, stored)

    async def hash(self, password: str) -> str:
        """Return what is stored of a password, without holding up the event loop."""
        return await self._slowly(hash_password, password)

    async def _slowly(
        self, work: Callable[..., _Result], *given: str | None, before: Callable[[], None] | None = None
    ) -> _Result:
        if self._waiting >= self._waiting_max:
            message = "too many logins at once"
            raise LoginSlowedDown(message)
        self._waiting += 1
        try:
            async with self._slots:
                # Guesses that came in while this one waited count too.
                if before is not None:
                    before()
                return await asyncio.get_running_loop().run_in_executor(self._executor, work, *given)
        finally:
            self._waiting -= 1
