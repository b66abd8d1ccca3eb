"""Registry tokens: signed by the node that issues them, good on every node, verified once and then remembered.

A token says who asks and for what. What that person may do is looked up when it is used, so nothing here decides.
Claims are Harbor's: iss, sub, aud, exp, nbf, iat, jti, access. One is ours: `cred` names the password or secret that the token
was issued for, so that it ends with that password, and with an account whose name is given to somebody else.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from twinhull.auth.passwords import RandomBytes, random_text
from twinhull.kit.clock import Clock
from twinhull.kit.errors import TokenInvalid

ISSUER: Final = "harbor-token-issuer"
# RFC 9864 gives EdDSA over this curve a name of its own and retires the old one, "EdDSA".
_ALGORITHM: Final = "Ed25519"
_JTI_LENGTH: Final = 16
# How far another node's clock may be ahead of ours before its tokens look as if they came from the future.
_AHEAD_MAX_S: Final = 300
# A real one for a dozen repositories takes 2 KB; what is longer is not worth a signature check.
_TOKEN_LENGTH_MAX: Final = 64 * 1024

PublicKeys = Callable[[str], OKPKey | None]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a token asks for: actions on one repository, or on the catalog."""

    type: str
    name: str
    actions: list[str]


class _Claims(msgspec.Struct, kw_only=True, omit_defaults=True):
    iss: str
    sub: str = ""
    aud: str
    exp: int
    nbf: int
    iat: int
    jti: str
    # Without a scope it is null, as Harbor has it.
    access: list[Access] | None
    cred: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token, when it was issued and for how long it is good."""

    token: str
    issued_at_s: int
    expires_in_s: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VerifiedToken:
    """What a token says, once its signature was found good."""

    # Empty for anonymous.
    subject: str
    credential: str
    expires_at_s: int
    # Per repository the actions it was issued for.
    repositories: Mapping[str, frozenset[str]]
    catalog: bool


class SigningKey:
    """A node's key for tokens. Tokens carry its id, the RFC 7638 thumbprint, by which every node finds the public half."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        """Take the private key."""
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key = OKPKey.import_key(pem)
        self.kid = self._key.thumbprint()

    def public(self) -> dict[str, str]:
        """Return the public half as a JSON web key, for all nodes to know."""
        described = self._key.as_dict(private=False)
        return {"kty": str(described["kty"]), "crv": str(described["crv"]), "x": str(described["x"]), "kid": self.kid}

    def sign(self, claims: bytes) -> str:
        """Return the signed token."""
        header = {"alg": _ALGORITHM, "kid": self.kid, "typ": "JWT"}
        return jws.serialize_compact(header, claims, self._key, algorithms=[_ALGORITHM])


class Signer(Protocol):
    """What signs a node's tokens."""

    def sign(self, claims: bytes) -> str:
        """Return the signed token."""
        ...


class RenewedKey:
    """A node's key for tokens that another process may renew: the newest one signs."""

    def __init__(self, read: Callable[[], Ed25519PrivateKey], mark: Callable[[], int]) -> None:
        """Take what reads the key, and what is another when the key is another; that one is asked for each token."""
        self._read = read
        self._mark = mark
        # In this order: a key that is renewed in between is read again the next time.
        self._seen = mark()
        self._key = SigningKey(read())

    def sign(self, claims: bytes) -> str:
        """Return the token, signed with the key of this moment."""
        mark = self._mark()
        if mark != self._seen:
            self._seen, self._key = mark, SigningKey(self._read())
        return self._key.sign(claims)


def public_keys(described: list[dict[str, str]]) -> dict[str, OKPKey]:
    """Return the keys of a node record's `token_keys` by their ids; what is no Ed25519 key is left out."""
    found: dict[str, OKPKey] = {}
    for item in described:
        if item.get("kty") == "OKP" and item.get("crv") == "Ed25519" and item.get("kid"):
            try:
                found[item["kid"]] = OKPKey.import_key({name: item[name] for name in ("kty", "crv", "x")})
            except (JoseError, ValueError, KeyError):
                continue
    return found


class TokenIssuer:
    """Issues tokens in this node's name."""

    def __init__(self, *, key: Signer, clock: Clock, random_bytes: RandomBytes = os.urandom) -> None:
        """Take the node's key, and where time and chance come from."""
        self._key = key
        self._clock = clock
        self._random_bytes = random_bytes

    def issue(self, *, subject: str, credential: str, audience: str, access: list[Access] | None, ttl_s: int) -> IssuedToken:
        """Return a token for this subject (empty: anonymous) and this access."""
        now = self._clock.unix_ms() // 1000
        claims = _Claims(
            iss=ISSUER,
            sub=subject,
            aud=audience,
            exp=now + ttl_s,
            nbf=now,
            iat=now,
            jti=random_text(_JTI_LENGTH, self._random_bytes),
            access=access,
            cred=credential,
        )
        return IssuedToken(token=self._key.sign(msgspec.json.encode(claims)), issued_at_s=now, expires_in_s=ttl_s)


class TokenVerifier:
    """Verifies tokens of any node, and remembers those that were good until they run out."""

    def __init__(self, *, keys: PublicKeys, audience: str, clock: Clock, remembered_max: int = 20_000) -> None:
        """Take a look-up of public keys by their ids, the audience that is meant here, and how many tokens to remember."""
        self._keys = keys
        self._audience = audience
        self._clock = clock
        self._remembered_max = remembered_max
        self._remembered: OrderedDict[str, VerifiedToken] = OrderedDict()

    def __len__(self) -> int:
        """Return how many tokens are remembered."""
        return len(self._remembered)

    def forget(self) -> None:
        """Verify every token anew: to be called when the nodes' keys change."""
        self._remembered.clear()

    def recall(self, token: str) -> VerifiedToken | None:
        """Return what a token says if it was verified before and has not run out; costs a dictionary look-up."""
        found = self._remembered.get(token)
        if found is None:
            return None
        if found.expires_at_s * 1000 <= self._clock.unix_ms():
            del self._remembered[token]
            return None
        self._remembered.move_to_end(token)
        return found

    def verify(self, token: str) -> VerifiedToken:
        """Return what the token says, or raise TokenInvalid: forged, expired, or meant for somebody else."""
        found = self.recall(token)
        if found is None:
            found = self._verify(token)
            self._remembered[token] = found
            while len(self._remembered) > self._remembered_max:
                self._remembered.popitem(last=False)
        return found

    def _verify(self, token: str) -> VerifiedToken:
        if len(token) > _TOKEN_LENGTH_MAX:
            raise TokenInvalid
        try:
            signed = jws.extract_compact(token.encode("ascii"))
            key = self._keys(str(signed.headers().get("kid", "")))
            if key is None or not jws.validate_compact(signed, key, algorithms=[_ALGORITHM]):
                raise TokenInvalid
            claims = msgspec.json.decode(signed.payload, type=_Claims)
        except (JoseError, ValueError, TypeError, KeyError, msgspec.DecodeError) as error:
            raise TokenInvalid from error
        now_s = self._clock.unix_ms() // 1000
        if claims.iss != ISSUER or claims.aud != self._audience or claims.exp <= now_s or claims.nbf > now_s + _AHEAD_MAX_S:
            raise TokenInvalid
        listed = claims.access or []
        repositories: dict[str, frozenset[str]] = {}
        for access in listed:
            if access.type == "repository":
                repositories[access.name] = repositories.get(access.name, frozenset()) | frozenset(access.actions)
        return VerifiedToken(
            subject=claims.sub,
            credential=claims.cred,
            expires_at_s=claims.exp,
            repositories=repositories,
            catalog=any(access.type == "registry" and access.name == "catalog" and access.actions for access in listed),
        )
