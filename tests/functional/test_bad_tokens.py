"""Tokens that give no right: of another repository, for less, forged, expired, for somebody else; nothing is done for them."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.functional.conformance.content import Made, artifact, check_absent, check_pullable, digest_of, noise
from tests.support.registry_client import Answer, RegistryClient, Repository, basic, challenge_of
from tests.support.single import SingleNode
from tests.support.topology import GIVEN, Registry

pytestmark = pytest.mark.skipif(bool(GIVEN), reason="needs accounts, which a given registry need not have")

# Each node must know the keys and accounts of the other.
TOPOLOGIES: Final = ("one", "entrance", "random")
PASSWORD: Final = "Right-password-1"
PROJECT_ADMIN, DEVELOPER, GUEST = 1, 2, 3
AHEAD_S: Final = 24 * 3600


@pytest.fixture
def made(repository: Repository) -> Made:
    """Return an artifact that has been pushed into the repository, as v1."""
    one = artifact()
    one.push(repository)
    repository.put_manifest("v1", one.content, one.media_type).expect(201)
    return one


def token_for(client: RegistryClient, *scopes: str) -> str:
    """Return a token with these scopes."""
    challenged = client.request("GET", "/v2/", authorization="").expect(401)
    parameters = challenge_of(challenged)[1]
    query = [("service", parameters["service"]), *(("scope", scope) for scope in scopes)]
    return client.token(parameters["realm"], query)


def attempts_with(repository: Repository, token: str) -> Iterator[Answer]:
    """Yield the answers to everything that one can do to a repository, asked for with this token."""
    bearer = f"Bearer {token}"
    content = artifact(layer_content=b"{}").content
    for method, rest, body in (
        ("GET", "manifests/v1", b""),
        ("HEAD", "manifests/v1", b""),
        ("GET", "tags/list", b""),
        ("GET", f"referrers/{digest_of(b'x')}", b""),
        ("GET", f"blobs/{digest_of(b'{}')}", b""),
        ("POST", "blobs/uploads/", b""),
        ("POST", f"blobs/uploads/?digest={digest_of(b'x')}", b"x"),
        ("PUT", "manifests/v1", content),
        ("PUT", "manifests/stolen", content),
        ("DELETE", "manifests/v1", b""),
        ("DELETE", f"manifests/{digest_of(content)}", b""),
        ("DELETE", f"blobs/{digest_of(b'{}')}", b""),
    ):
        headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"} if method == "PUT" else {}
        yield repository.client.request(method, repository.path(rest), headers=headers, body=body, authorization=bearer)


def check_refused_all(repository: Repository, made: Made, token: str) -> None:
    """Check that this token is good for nothing in this repository, and that each refusal says how to do better."""
    for answer in attempts_with(repository, token):
        answer.refused(401, "UNAUTHORIZED")
        assert challenge_of(answer)[0] in {"bearer", "basic"}
    check_pullable(repository, made, ["v1", made.digest])
    check_absent(repository, f"blobs/{digest_of(b'x')}")
    assert repository.tags() == ["v1"]


def test_token_of_another_repository_is_refused(registry: Registry, repository: Repository, made: Made) -> None:
    other = registry.new_repository("other")
    token = token_for(registry.client, f"repository:{other.name}:pull,push,delete")
    other_made = artifact()
    other_made.push(other)
    other.get(f"manifests/{other_made.digest}", authorization=f"Bearer {token}").expect(200)
    check_refused_all(repository, made, token)


@pytest.mark.parametrize("scope", ["", "registry:catalog:*", "repository::pull", "nonsense", "repository:a:b:c:pull,push"])
def test_token_without_the_repository_is_refused(repository: Repository, made: Made, scope: str) -> None:
    check_refused_all(repository, made, token_for(repository.client, *([scope] if scope else [])))


def test_token_of_a_repository_whose_name_begins_alike_is_refused(repository: Repository, made: Made) -> None:
    for name in (repository.name[:-1], f"{repository.name}/deeper", f"{repository.name}x", repository.name.partition("/")[0]):
        check_refused_all(repository, made, token_for(repository.client, f"repository:{name}:pull,push,delete"))


def tampered(token: str, change: Callable[[dict[str, object]], object]) -> str:
    """Return the token with other claims and the signature that it had."""
    head, payload, signature = token.split(".")
    claims = decoded(payload)
    change(claims)
    return f"{head}.{encoded(claims)}.{signature}"


def decoded(part: str) -> dict[str, object]:
    """Return what a part of a token says."""
    document = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(document, dict)
    return document


def encoded(document: dict[str, object] | bytes) -> str:
    """Return a part of a token."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(head: dict[str, object], claims: dict[str, object], key: Ed25519PrivateKey) -> str:
    """Return a token signed by this key."""
    text = f"{encoded(head)}.{encoded(claims)}"
    return f"{text}.{encoded(key.sign(text.encode()))}"


FORGERIES: Final[dict[str, Callable[[str], str]]] = {
    "other-subject": lambda token: tampered(token, lambda claims: claims.update(sub="somebody")),
    "later-expiry": lambda token: tampered(token, lambda claims: claims.update(exp=4_000_000_000)),
    "unsigned": lambda token: token.rpartition(".")[0] + ".",
    "two-parts": lambda token: token.rpartition(".")[0],
    "four-parts": lambda token: f"{token}.x",
    "empty": lambda _: "",
    "dots": lambda _: "..",
    "garbage": lambda _: "a" * 300,
    "not-ascii": lambda token: f"{token}é",
    "nul": lambda token: f"{token}%00",
    "none-algorithm": lambda token: f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{token.split('.')[1]}.",
    "none-algorithm-same-key": lambda token: (
        f"{encoded({**decoded(token.split('.')[0]), 'alg': 'none'})}.{token.split('.')[1]}.{token.split('.')[2]}"
    ),
    "secret-key-algorithm": lambda token: (
        f"{encoded({**decoded(token.split('.')[0]), 'alg': 'HS256'})}.{token.split('.', 1)[1]}"
    ),
    "another-key": lambda token: signed(
        decoded(token.split(".")[0]), decoded(token.split(".")[1]), Ed25519PrivateKey.generate()
    ),
    "key-of-a-path": lambda token: signed(
        {**decoded(token.split(".")[0]), "kid": "../../../../dev/null"},
        decoded(token.split(".")[1]),
        Ed25519PrivateKey.generate(),
    ),
    "changed-signature": lambda token: token[:-10] + ("A" * 10 if token[-10:] != "A" * 10 else "B" * 10),
    "very-long": lambda token: token + "A" * 7000,
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_token_is_refused(repository: Repository, made: Made, forgery: str) -> None:
    token = token_for(repository.client, f"repository:{repository.name}:pull,push,delete")
    repository.get("manifests/v1", authorization=f"Bearer {token}").expect(200)
    forged = FORGERIES[forgery](token)
    assert forged != token
    for answer in attempts_with(repository, forged):
        answer.refused((400, 401), ("UNAUTHORIZED", "UNSUPPORTED"))
    check_pullable(repository, made, ["v1", made.digest])
    assert repository.tags() == ["v1"]


@pytest.fixture
def own_repository(single_node: SingleNode) -> Repository:
    """Return an unused repository of the single node, whose signing key can be read."""
    client = RegistryClient(addresses=[single_node.address], user=single_node.user, password=single_node.password)
    return Repository(client=client, name=f"library/own-{secrets.token_hex(6)}")


CLAIMS: Final[dict[str, tuple[Callable[[int], dict[str, object]], int]]] = {
    "unchanged": (lambda _: {}, 200),
    "expired-long-ago": (lambda now: {"iat": now - 7200, "nbf": now - 7200, "exp": now - 3600}, 401),
    "expired-just-now": (lambda now: {"iat": now - 1800, "nbf": now - 1800, "exp": now - 1}, 401),
    "not-yet-good": (lambda now: {"nbf": now + AHEAD_S, "exp": now + 2 * AHEAD_S}, 401),
    "for-another-service": (lambda _: {"aud": "harbor-notary"}, 401),
    "of-another-issuer": (lambda _: {"iss": "somebody-else"}, 401),
    "expiry-is-text": (lambda _: {"exp": "never"}, 401),
    "expiry-is-missing": (lambda _: {"exp": None}, 401),
    "subject-unknown": (lambda _: {"sub": f"nobody-{secrets.token_hex(4)}"}, 401),
    "of-an-older-password": (lambda _: {"cred": "another"}, 401),
}


@pytest.mark.parametrize("what", CLAIMS)
def test_token_with_a_true_signature_is_held_to_its_claims(
    single_node: SingleNode, own_repository: Repository, what: str
) -> None:
    made = artifact()
    made.push(own_repository)
    change, status = CLAIMS[what]
    token = token_for(own_repository.client, f"repository:{own_repository.name}:pull,push,delete")
    head, claims = (decoded(part) for part in token.split(".")[:2])
    key = load_pem_private_key((single_node.data_dir / "node" / "token.key").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    issued_at = claims["iat"]
    assert isinstance(issued_at, int)
    forged = signed(head, claims | change(issued_at), key)
    answer = own_repository.get(f"manifests/{made.digest}", authorization=f"Bearer {forged}").expect(status)
    if status == 401:
        answer.refused(401, "UNAUTHORIZED")


def new_user(registry: Registry) -> tuple[str, str]:
    """Make a user and return name and path."""
    name = f"user-{secrets.token_hex(6)}"
    person = {"username": name, "email": f"{name}@example.com", "realname": name, "password": PASSWORD}
    answer = ask(registry, "POST", "/api/v2.0/users", person).expect(201)
    return name, answer.header("Location") or ""


def new_project(registry: Registry) -> str:
    """Make a private project and return its name."""
    name = f"private-{secrets.token_hex(6)}"
    ask(registry, "POST", "/api/v2.0/projects", {"project_name": name, "metadata": {"public": "false"}}).expect(201)
    return name


def add_member(registry: Registry, project: str, user: str, role: int) -> None:
    """Give a user one of Harbor's roles in a project, which this call knows by its number only."""
    document = ask(registry, "GET", f"/api/v2.0/projects/{project}").expect(200).json()
    assert isinstance(document, dict)
    member = {"role_id": role, "member_user": {"username": user}}
    ask(registry, "POST", f"/api/v2.0/projects/{document['project_id']}/members", member).expect(201)


def ask(registry: Registry, method: str, path: str, body: object = None) -> Answer:
    """Ask the management interface for something, as the administrator."""
    content = b"" if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    right = basic(registry.user, registry.password)
    return registry.client.request(method, path, headers=headers, body=content, authorization=right)


def test_token_is_worth_no_more_than_its_owner(registry: Registry) -> None:
    project = new_project(registry)
    repository = Repository(client=registry.client, name=f"{project}/app")
    made = artifact()
    made.push(repository)
    repository.put_manifest("v1", made.content, made.media_type).expect(201)
    name, _ = new_user(registry)
    stranger = registry.client.with_credentials(name, PASSWORD)
    scope = f"repository:{repository.name}:pull,push,delete"
    check_refused_all(repository, made, token_for(stranger, scope))
    # A guest pulls with a token that was asked for more, and does nothing else.
    add_member(registry, project, name, GUEST)
    bearer = f"Bearer {token_for(stranger, scope)}"
    repository.get("manifests/v1", authorization=bearer).expect(200)
    for method, rest in (("POST", "blobs/uploads/"), ("PUT", "manifests/v1"), ("DELETE", "manifests/v1")):
        answer = registry.client.request(method, repository.path(rest), body=made.content, authorization=bearer)
        answer.refused(401, "UNAUTHORIZED")
    check_pullable(repository, made, ["v1", made.digest])


@pytest.mark.parametrize("named", [True, False], ids=["source-named", "source-not-named"])
def test_blob_that_one_may_not_read_is_not_mounted(registry: Registry, *, named: bool) -> None:
    secret, own = new_project(registry), new_project(registry)
    content = noise(100)
    digest = digest_of(content)
    source = Repository(client=registry.client, name=f"{secret}/app")
    source.push_blob(content, digest).expect(201)
    name, _ = new_user(registry)
    add_member(registry, own, name, DEVELOPER)
    client = registry.client.with_credentials(name, PASSWORD)
    target = Repository(client=client, name=f"{own}/app")
    scopes = [f"repository:{target.name}:pull,push", f"repository:{source.name}:pull"]
    bearer = f"Bearer {token_for(client, *scopes)}"
    query = [("mount", digest), *([("from", source.name)] if named else [])]
    client.request("POST", target.path("blobs/uploads/"), query=query, authorization=bearer).expect(202, 401)
    check_absent(target, f"blobs/{digest}")
    # Who has the bytes may push them, of course.
    target.push_blob(content, digest).expect(201)


def test_token_dies_with_its_owner(registry: Registry, repository: Repository, made: Made) -> None:
    name, path = new_user(registry)
    add_member(registry, registry.project, name, PROJECT_ADMIN)
    owner = registry.client.with_credentials(name, PASSWORD)
    token = token_for(owner, f"repository:{repository.name}:pull,push,delete")
    repository.get("manifests/v1", authorization=f"Bearer {token}").expect(200)
    ask(registry, "DELETE", path).expect(200)
    answer = registry.client.request("POST", repository.path("blobs/uploads/"), authorization=f"Bearer {token}")
    answer.refused(401, "UNAUTHORIZED")
    # A new user of the same name does not inherit the token of the old one.
    ask(
        registry,
        "POST",
        "/api/v2.0/users",
        {
            "username": name,
            "email": f"{name}@example.com",
            "realname": name,
            "password": PASSWORD,
        },
    ).expect(201)
    answer = registry.client.request("POST", repository.path("blobs/uploads/"), authorization=f"Bearer {token}")
    answer.refused(401, "UNAUTHORIZED")
    check_pullable(repository, made, ["v1", made.digest])


@pytest.mark.parametrize(
    "value",
    ["Basic", "Basic !!!", "Basic Og==", "Basic YWRtaW4=", "Bearer", "Digest x", "Basic " + "A" * 5000, "basic\tx", ""],
)
def test_authorization_that_is_none_gives_no_rights(repository: Repository, made: Made, value: str) -> None:
    content = noise(10)
    for method, rest in (("POST", f"blobs/uploads/?digest={digest_of(content)}"), ("DELETE", "manifests/v1")):
        headers = {"Authorization": value} if value else {}
        answer = repository.client.request(method, repository.path(rest), headers=headers, body=content, authorization="")
        answer.refused((400, 401), ("UNAUTHORIZED", "UNSUPPORTED"))
    check_pullable(repository, made, ["v1"])
    check_absent(repository, f"blobs/{digest_of(content)}")


def test_upload_of_another_person_cannot_be_gone_on_with(registry: Registry, repository: Repository) -> None:
    name, _ = new_user(registry)
    upload = repository.start_upload()
    bearer = f"Bearer {token_for(registry.client.with_credentials(name, PASSWORD), f'repository:{repository.name}:pull,push')}"
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = repository.client.request(method, upload, body=b"x", authorization=bearer)
        answer.refused(401, "UNAUTHORIZED")
    repository.client.request("GET", upload).expect(204)
