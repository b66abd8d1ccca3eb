"""People of a certified OpenID Connect provider sign in at one node, are taken back at the other, and are known at both."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.compat import wire
from tests.compat.contract import new_target
from tests.compat.docker import Docker
from tests.compat.terraform import assert_shown
from tests.support.clients import ClientFailed
from tests.support.nodes import running_cluster
from tests.support.npm_provider import CLIENT_ID, CLIENT_SECRET, NpmProvider, Person, browsing, running_npm_provider
from tests.support.single import ADMIN_PASSWORD
from tests.support.twins import Registry

PEOPLE: Final[Mapping[str, Mapping[str, object]]] = {
    "account-1": {"name": "Ann Lee", "preferred_username": "ann", "email": "ann@example.org", "groups": ["builders"]},
    "account-2": {"name": "Bea Ott", "preferred_username": "bea", "email": "bea@example.org", "groups": ["leads", "x"]},
    "account-4": {"name": "Dee Fry", "preferred_username": "dee", "email": "dee@example.org"},
    "account-3": {"name": "Cy Poe", "preferred_username": "cy", "email": "cy@example.org", "groups": []},
}
DEVELOPER: Final = 2
# What Harbor's Terraform provider sends in each case beside what is planned.
_NOT_PLANNED: Final = {"self_registration": False, "scan_all_policy": {"parameter": {}}}
_DIRECTORY: Final = {
    "auth_mode": "ldap_auth",
    "ldap_url": "ldap://127.0.0.1:1",
    "ldap_search_dn": "cn=reader,dc=example",
    "ldap_base_dn": "dc=example",
    "ldap_filter": "(objectclass=person)",
    "ldap_uid": "uid",
    "ldap_group_base_dn": "ou=groups,dc=example",
    "ldap_group_search_filter": "(objectclass=groupOfNames)",
    "ldap_group_attribute_name": "cn",
    "ldap_group_admin_dn": "cn=leads,ou=groups,dc=example",
    "ldap_group_membership_attribute": "memberof",
    "ldap_scope": 2,
    "ldap_group_search_scope": 1,
    "ldap_verify_cert": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Two nodes whose people sign in at the provider."""

    a: Registry
    b: Registry
    provider: NpmProvider

    def settings(self) -> dict[str, Any]:
        """Return what of the settings both nodes show."""
        return {name: item["value"] for name, item in call(self.b, "GET", "/configurations").items()}


def call(node: Registry, method: str, path: str, body: object = None, *, expect: int = 200) -> Any:  # noqa: ANN401 - whatever JSON is
    answer = wire.call(node, method, f"/api/v2.0{path}", body=body, expect=expect)
    return answer.json() if answer.body else None


def test_provider_is_gone_when_its_test_is(tmp_path: Path) -> None:
    with running_npm_provider(
        tmp_path, redirect_uris=["http://localhost/"], people={}, secret_in="client_secret_basic"
    ) as provider:
        where = urlsplit(provider.issuer)
        address = str(where.hostname), int(where.port or 0)
        socket.create_connection(address, timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Two nodes, set up as Terraform does: for a directory first, and for the provider after a change of mind."""
    directory: Path = tmp_path_factory.mktemp("oidc")
    with running_cluster(directory / "nodes") as (first, second):
        a, b = (Registry(address=node.address, password=ADMIN_PASSWORD) for node in (first, second))
        back = [f"http://{node.address}/c/oidc/callback" for node in (a, b)]
        # The way that clients are registered for where nothing is said, and of which the name and the secret must be escaped.
        with running_npm_provider(
            directory / "provider", redirect_uris=back, people=PEOPLE, secret_in="client_secret_basic"
        ) as provider:
            made = Office(a=a, b=b, provider=provider)
            call(a, "PUT", "/configurations", {**_NOT_PLANNED, **_DIRECTORY, "ldap_search_password": "Reader-1"})
            assert_shown(_DIRECTORY, made.settings())
            planned = {
                "auth_mode": "oidc_auth",
                "primary_auth_mode": True,
                "oidc_name": "the provider",
                "oidc_endpoint": provider.issuer,
                "oidc_client_id": CLIENT_ID,
                "oidc_groups_claim": "groups",
                "oidc_scope": "openid,profile,email,groups",
                "oidc_verify_cert": False,
                "oidc_auto_onboard": True,
                "oidc_logout": False,
                "oidc_user_claim": "preferred_username",
                "oidc_admin_group": "leads",
            }
            zeros = {"ldap_scope": 0, "ldap_group_search_scope": 0, "ldap_verify_cert": False}
            call(a, "PUT", "/configurations", {**_NOT_PLANNED, **zeros, **planned, "oidc_client_secret": CLIENT_SECRET})
            assert_shown(planned, made.settings())
            assert "oidc_client_secret" not in made.settings()
            yield made


@pytest.fixture
async def person() -> AsyncIterator[Person]:
    """Somebody with a browser."""
    async with browsing() as somebody:
        yield somebody


async def sign_in(office: Office, person: Person, account: str, *, to: str = "/harbor/projects") -> dict[str, Any]:
    """Sign in: away from node a, back at node b; return what b says of who it is."""
    away = f"http://{office.a.address}/c/oidc/login?redirect_url={to}"
    back = await person.sign_in(away, account, back_at=office.b.address)
    assert (back.status, back.headers.get("Location")) == (302, to), await back.text()
    status, shown = await person.ask(office.b.address, "/users/current")
    assert status == 200, shown
    assert isinstance(shown, dict)
    return shown


async def test_provider_is_tried_before_it_is_set(office: Office) -> None:
    call(office.b, "POST", "/system/oidc/ping", {"url": office.provider.issuer, "verify_cert": False})
    call(office.b, "POST", "/system/oidc/ping", {"url": f"{office.provider.issuer}/else"}, expect=400)


async def test_new_person_is_known_on_both_nodes_with_their_groups(office: Office, person: Person) -> None:
    shown = await sign_in(office, person, "account-1")
    assert (shown["username"], shown["realname"], shown["email"]) == ("ann", "Ann Lee", "ann@example.org")
    assert shown["oidc_user_meta"]["subiss"] == f"account-1{office.provider.issuer}"
    status, there = await person.ask(office.a.address, "/users/current")
    assert (status, there["user_id"], there["sysadmin_flag"]) == (200, shown["user_id"], False)
    for node in (office.a, office.b):
        assert "builders" in {one["group_name"] for one in call(node, "GET", "/usergroups?page_size=100")}
        assert [one["username"] for one in call(node, "GET", "/users?username=ann")] == ["ann"]


async def test_members_of_the_administrators_group_are_administrators(office: Office, person: Person) -> None:
    shown = await sign_in(office, person, "account-2")
    assert shown["admin_role_in_auth"] is True
    assert (await person.ask(office.a.address, "/configurations"))[0] == 200


async def test_who_is_in_no_group_is_no_administrator(office: Office, person: Person) -> None:
    shown = await sign_in(office, person, "account-3")
    assert shown["admin_role_in_auth"] is False
    assert (await person.ask(office.a.address, "/configurations"))[0] == 403


async def test_new_person_chooses_a_name_where_that_is_set(office: Office, person: Person) -> None:
    call(office.a, "PUT", "/configurations", {"oidc_auto_onboard": False})
    try:
        away = f"http://{office.a.address}/c/oidc/login"
        back = await person.sign_in(away, "account-4", back_at=office.b.address)
        assert (back.status, back.headers["Location"].partition("?")[0]) == (302, "/oidc-onboard")
        assert (await person.ask(office.b.address, "/users/current"))[0] == 401
        # Any node takes them on: what the provider said of them goes with their browser.
        assert await person.choose_name(office.a.address, "dee-dee") == 200
        assert (await person.ask(office.b.address, "/users/current"))[1]["username"] == "dee-dee"
    finally:
        call(office.a, "PUT", "/configurations", {"oidc_auto_onboard": True})


async def test_docker_logs_in_with_the_secret_for_clients(office: Office, person: Person, docker: Docker) -> None:
    shown = await sign_in(office, person, "account-1")
    meta = shown["oidc_user_meta"]
    project = {"project_name": "oidc-team"}
    wire.call(office.a, "POST", "/api/v2.0/projects", body=project, expect=201)
    group = {"role_id": DEVELOPER, "member_group": {"group_name": "builders", "group_type": 3}}
    wire.call(office.a, "POST", "/api/v2.0/projects/oidc-team/members", body=group, expect=201)
    for node, other in ((office.a, office.b), (office.b, office.a)):
        theirs = Registry(address=node.address, user="ann", password=meta["secret"], project="oidc-team")
        docker.login(theirs)
        target = new_target(theirs)
        pushed = docker.push(target, f"by a member of a group, {node.address}")
        assert docker.pull(target) == pushed
        chosen = f"Chosen-at-{other.address}-1A"
        administrator = other.seen_by("admin", ADMIN_PASSWORD)
        call(administrator, "PUT", f"/users/{shown['user_id']}/cli_secret", {"secret": chosen})
        with pytest.raises(ClientFailed, match=r"(?i)unauthorized|denied"):
            docker.login(theirs)
        meta = {"secret": chosen}
