"""Clients of Harbor's API in other words: one generated from its description, one for Node.js; each writes at every way in.

What they read comes from the other master.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from tests.compat import wire
from tests.support.clients import NODE_MODULES, Home, require_client, require_node
from tests.support.images import image
from tests.support.pushes import push
from tests.support.registry_client import RegistryClient, Repository
from tests.support.twins import Registry, Twins

SCRIPTS: Final = Path(__file__).parent / "scripts"


def push_image(way: Registry, repository: str) -> None:
    """Push an image as v1."""
    client = RegistryClient(addresses=(way.address,), user=way.user, password=way.password)
    push(Repository(client=client, name=repository), image(repository), "v1")


def test_harbor_api_client_manages_all_of_it(way: Registry, twins: Twins, home: Home) -> None:
    python, token = require_client("python"), secrets.token_hex(4)
    arguments = (way.address, twins.other(way).address, way.user, way.password, token)
    script = SCRIPTS / "harbor_api_client.py"
    home.run(python, script, *arguments, "first")
    push_image(way, f"gen-{token}/a/app")
    home.run(python, script, *arguments, "second")


def test_hapic_manages_all_that_it_knows(way: Registry, twins: Twins, home: Home) -> None:
    node, token = require_node(), secrets.token_hex(4)
    wire.call(way, "POST", "/api/v2.0/projects", body={"project_name": f"hapic-{token}"}, expect=201)
    body = {"name": f"hapic-{token}", "scope": "g", "color": "#FF0000"}
    label = wire.call(way, "POST", "/api/v2.0/labels", body=body, expect=201).headers["Location"].rpartition("/")[2]
    push_image(way, f"hapic-{token}/app")
    # Node.js looks for packages beside where a program stands; one that comes by its input stands where it runs.
    (home.path / "node_modules").symlink_to(NODE_MODULES)
    arguments = (way.address, twins.other(way).address, way.user, way.password, token, label)
    home.run(node, "--input-type=module", "-", *arguments, stdin=(SCRIPTS / "hapic.mjs").read_text(encoding="utf-8"))
    wire.call(way, "DELETE", f"/api/v2.0/labels/{label}", expect=200)
    wire.call(way, "DELETE", f"/api/v2.0/projects/hapic-{token}", expect=200)
