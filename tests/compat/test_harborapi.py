"""harborapi, Harbor's async client for Python, is used for each of its operations at every way in."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from harborapi.exceptions import NotFound

from tests.compat import harborapi_projects as projects
from tests.compat import harborapi_system as system
from tests.compat.harborapi_desk import OPERATIONS, Desk
from tests.support.foreign import foreign_server
from tests.support.images import image
from tests.support.pushes import push
from tests.support.registry_client import RegistryClient, Repository
from tests.support.twins import Registry, Twins


@pytest.fixture
async def desk(way: Registry) -> AsyncIterator[Desk]:
    """A client of the administrator at one way in."""
    made = Desk(way.address, user=way.user, password=way.password, token=secrets.token_hex(4))
    yield made
    await made.client.aclose()


# The client reads its settings in a way that pydantic has since frowned upon, and some of its operations are old names.
@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_every_operation_works_at_every_way_in(desk: Desk, way: Registry, twins: Twins) -> None:
    number = await projects.project(desk)
    name, user = await system.user(desk)
    group = await system.group(desk)
    content = image(desk.token)
    client = RegistryClient(addresses=(way.address,), user=way.user, password=way.password)
    push(Repository(client=client, name=f"{desk.name('team')}/a/app"), content, "v1")
    await projects.content(desk, content.digest)
    await projects.members(desk, name, group)
    await projects.robots(desk)
    await projects.rules(desk, number)
    async with foreign_server() as other:
        await system.foreign(desk, other)
        await system.scanners(desk, other, desk.name("team"))
        await system.settings(desk, other)
    await system.schedules(desk)
    await system.old_names(desk)
    await system.exports(desk, number)
    theirs = Desk(way.address, user=name, password="Passw0rd2", token=desk.token)
    await system.theirs(theirs, name)
    await theirs.client.aclose()
    node = Desk(twins.other(twins.other(way)).address, user=way.user, password=way.password, token=desk.token)
    await system.collections(node)
    await node.client.aclose()
    await desk.delete_usergroup(group)
    await desk.delete_user(user)
    with pytest.raises(NotFound):
        await desk.get_user(user)
    await projects.end(desk, number)
    assert OPERATIONS - desk.used - theirs.used - node.used == set()
