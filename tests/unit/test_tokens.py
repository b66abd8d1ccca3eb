"""Tokens are good on every node, and only as long, for whom and by whom they were issued."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey

from twinhull.auth.tokens import ISSUER, Access, SigningKey, TokenIssuer, TokenVerifier, public_keys
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import TokenInvalid

AUDIENCE = "harbor-registry"
PULL = [Access(type="repository", name="library/app", actions=["pull"])]


def new_key() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate())


class Nodes:
    """Two nodes, a and b, that know each other's public keys."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.a, self.b = new_key(), new_key()
        self.known = public_keys([self.a.public(), self.b.public()])
        self.verifier = TokenVerifier(keys=self.known.get, audience=AUDIENCE, clock=self.clock)

    def issue(
        self, *, key: SigningKey | None = None, subject: str = "alice", audience: str = AUDIENCE, ttl_s: int = 1800
    ) -> str:
        issuer = TokenIssuer(key=key or self.a, clock=self.clock)
        return issuer.issue(subject=subject, credential="c1", audience=audience, access=PULL, ttl_s=ttl_s).token


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


def claims_of(token: str) -> dict[str, object]:
    part = token.split(".")[1]
    claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def test_claims_are_harbors(nodes: Nodes) -> None:
    now = nodes.clock.unix_ms() // 1000
    claims = claims_of(nodes.issue())
    jti = claims.pop("jti")
    assert isinstance(jti, str)
    assert len(jti) == 16
    assert jti.isalnum()
    assert claims == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": AUDIENCE,
        "exp": now + 1800,
        "nbf": now,
        "iat": now,
        "access": [{"type": "repository", "name": "library/app", "actions": ["pull"]}],
        "cred": "c1",
    }


def test_anonymous_token_has_no_subject_and_one_without_scope_null_access(nodes: Nodes) -> None:
    issued = TokenIssuer(key=nodes.a, clock=nodes.clock).issue(
        subject="", credential="", audience=AUDIENCE, access=None, ttl_s=60
    )
    claims = claims_of(issued.token)
    assert "sub" not in claims
    assert claims["access"] is None
    verified = nodes.verifier.verify(issued.token)
    assert verified.subject == ""
    assert verified.repositories == {}


@pytest.mark.parametrize("name", ["a", "b"])
def test_token_of_either_node_is_good_on_both(nodes: Nodes, name: str) -> None:
    verified = nodes.verifier.verify(nodes.issue(key=getattr(nodes, name)))
    assert verified.subject == "alice"
    assert verified.credential == "c1"
    assert verified.repositories == {"library/app": frozenset({"pull"})}
    assert not verified.catalog


def test_public_half_does_not_give_the_private_one_away(nodes: Nodes) -> None:
    assert sorted(nodes.a.public()) == ["crv", "kid", "kty", "x"]
    assert nodes.a.public()["kid"] == nodes.a.kid


def test_verified_token_is_recalled_until_it_runs_out(nodes: Nodes) -> None:
    token = nodes.issue(ttl_s=60)
    assert nodes.verifier.recall(token) is None
    verified = nodes.verifier.verify(token)
    assert nodes.verifier.recall(token) is verified
    nodes.clock.advance(59_000)
    assert nodes.verifier.recall(token) is verified
    nodes.clock.advance(1_000)
    assert nodes.verifier.recall(token) is None
    with pytest.raises(TokenInvalid):
        nodes.verifier.verify(token)


def test_token_of_a_removed_node_is_refused_once_its_key_is_gone(nodes: Nodes) -> None:
    token = nodes.issue(key=nodes.b)
    nodes.verifier.verify(token)
    del nodes.known[nodes.b.kid]
    nodes.verifier.forget()
    with pytest.raises(TokenInvalid):
        nodes.verifier.verify(token)


def test_remembered_tokens_are_bounded(nodes: Nodes) -> None:
    verifier = TokenVerifier(keys=nodes.known.get, audience=AUDIENCE, clock=nodes.clock, remembered_max=3)
    tokens = [nodes.issue(subject=f"u{number}") for number in range(5)]
    for token in tokens:
        verifier.verify(token)
    assert len(verifier) == 3
    assert verifier.recall(tokens[0]) is None
    assert verifier.recall(tokens[4]) is not None


def swapped_payload(token: str, **changed: object) -> str:
    head, _, signature = token.split(".")
    payload = base64.urlsafe_b64encode(json.dumps({**claims_of(token), **changed}).encode()).rstrip(b"=").decode()
    return f"{head}.{payload}.{signature}"


def signed(claims: dict[str, object], *, key: OKPKey | OctKey, alg: str, kid: str) -> str:
    return jws.serialize_compact({"alg": alg, "kid": kid}, json.dumps(claims), key, algorithms=[alg])


def unsigned(token: str, kid: str) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": kid}).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


FORGERIES: dict[str, Callable[[Nodes, str], str]] = {
    "another subject": lambda _, token: swapped_payload(token, sub="admin"),
    "more access": lambda _, token: swapped_payload(token, access=[{"type": "repository", "name": "x/y", "actions": ["*"]}]),
    "no signature": lambda _, token: token.rpartition(".")[0] + ".",
    "algorithm none": lambda nodes, token: unsigned(token, nodes.a.kid),
    "unknown key": lambda nodes, _: nodes.issue(key=new_key()),
    "another key under a known id": lambda nodes, token: signed(
        claims_of(token), key=OKPKey.generate_key("Ed25519"), alg="Ed25519", kid=nodes.a.kid
    ),
    "public key as an HMAC secret": lambda nodes, token: signed(
        claims_of(token), key=OctKey.import_key(nodes.a.public()["x"] * 2), alg="HS256", kid=nodes.a.kid
    ),
    "another audience": lambda nodes, _: nodes.issue(audience="harbor-notary"),
    "another issuer": lambda nodes, token: nodes.a.sign(json.dumps({**claims_of(token), "iss": "somebody"}).encode()),
    "from the future": lambda nodes, token: nodes.a.sign(
        json.dumps({**claims_of(token), "nbf": nodes.clock.unix_ms() // 1000 + 3600}).encode()
    ),
    "no expiry": lambda nodes, token: nodes.a.sign(
        json.dumps({name: value for name, value in claims_of(token).items() if name != "exp"}).encode()
    ),
    "garbage": lambda _, __: "garbage",
    "empty": lambda _, __: "",
    "not ascii": lambda _, __: "é.é.é",
    "payload that is no JSON": lambda nodes, _: nodes.a.sign(b"garbage"),
    "far too long": lambda _, __: "a" * 100_000,
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_token_is_refused_and_not_remembered(nodes: Nodes, forgery: Callable[[Nodes, str], str]) -> None:
    with pytest.raises(TokenInvalid):
        nodes.verifier.verify(forgery(nodes, nodes.issue()))
    assert len(nodes.verifier) == 0


def test_keys_that_cannot_be_read_are_left_out(nodes: Nodes) -> None:
    broken = [{"kty": "OKP", "crv": "Ed25519", "kid": "x"}, {"kty": "RSA", "kid": "y"}, {}]
    assert list(public_keys([*broken, nodes.a.public()])) == [nodes.a.kid]
