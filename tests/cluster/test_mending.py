"""Rows and files changed behind the node's back, while it runs, are found by comparing and put right from a peer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any, Final

from tests.support.images import Image, image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.pushes import check_pull, push

REPAIR: Final = {"repair": True}


def behind(node: ClusterNode, statement: str, *values: object) -> int:
    """Change the node's database as a stranger does, and return how many rows that hit."""
    with closing(sqlite3.connect(node.data_dir / "metadata.db", timeout=30)) as connection, connection:
        return connection.execute(statement, values).rowcount


def rows(node: ClusterNode, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Return what the node's database says."""
    with closing(sqlite3.connect(node.data_dir / "metadata.db", timeout=30)) as connection:
        return connection.execute(statement, values).fetchall()


def pushed(pair: Cluster) -> tuple[str, Image]:
    """Push an image of which both nodes have everything, and return its repository."""
    a, b = pair
    name, pushed_image = new_name(), image(new_name(), layers=1)
    push(a.repository(name), pushed_image, "v1")
    eventually(lambda: all(b.has_blob(blob.digest) for blob in pushed_image.blobs), what="b has the blobs")
    return name, pushed_image


def test_nodes_that_nobody_touched_are_equal_and_have_no_faults(pair: Cluster) -> None:
    pushed(pair)
    a, _ = pair
    told = a.ask("POST", "/verify", {"deep": True})
    assert told["equal"], told
    assert not told["faults"]
    assert not told["peers"][0]["faults"]
    assert "equal" in a.cli("verify")


def test_lost_records_are_listed_by_who_lacks_them_and_come_back(pair: Cluster) -> None:
    a, b = pair
    name, pushed_image = pushed(pair)
    assert behind(b, "DELETE FROM records WHERE kind = 'tag' AND key = ?", f"{name}:v1") == 1
    assert behind(a, "DELETE FROM records WHERE kind = 'repository' AND key = ?", name) == 1

    told = a.ask("POST", "/verify")

    assert not told["equal"]
    differing = {one["kind"]: one for one in told["peers"][0]["differing"]}
    assert differing["tag"]["keys"] == differing["tag"]["only_here"] == [f"{name}:v1"]
    assert differing["repository"]["keys"] == differing["repository"]["only_there"] == [name]
    text = a.cli("verify", code=1)
    assert f"{name}:v1: b lacks it" in text
    assert f"{name}: this node lacks it" in text

    assert "records mended on either side: 2" in a.cli("verify", "--repair")

    for node in (a, b):
        assert node.ask("POST", "/verify", {"deep": True})["equal"]
        check_pull(node.repository(name), pushed_image, "v1")


def test_forged_record_and_forged_rows_are_put_right_on_the_node_that_has_them(pair: Cluster) -> None:
    a, b = pair
    name, pushed_image = pushed(pair)
    right = rows(b, "SELECT record FROM records WHERE kind = 'user' AND key = 'admin'")
    assert behind(b, "UPDATE records SET record = CAST(x'ff' || record AS BLOB) WHERE kind = 'user' AND key = 'admin'") == 1
    assert behind(b, "UPDATE manifest_contents SET content = 'forged' WHERE digest = ?", pushed_image.digest) == 1
    assert behind(b, "UPDATE users SET sysadmin = 0 WHERE name = 'admin'") == 1
    assert behind(b, "INSERT INTO tags SELECT repository, 'forged', id, digest, 0, 1, 'x' FROM tags WHERE name = 'v1'") >= 1

    found = a.ask("POST", "/verify", {"deep": True})["peers"][0]
    assert {(fault["what"], fault["mended"]) for fault in found["faults"]} == {
        ("record", False),
        ("content", False),
        ("rows", False),
    }
    mended = a.ask("POST", "/verify", REPAIR)

    assert mended["equal"], mended
    assert rows(b, "SELECT record FROM records WHERE kind = 'user' AND key = 'admin'") == right
    assert rows(b, "SELECT sysadmin FROM users WHERE name = 'admin'") == [(1,)]
    b.repository(name).get("manifests/forged").expect(404)
    check_pull(b.repository(name), pushed_image, "v1")
    assert b.ask("POST", "/verify", {"deep": True})["equal"]


def test_forged_manifest_is_not_served_but_asked_of_the_peer(pair: Cluster) -> None:
    _, b = pair
    name, pushed_image = pushed(pair)
    assert behind(b, "UPDATE manifest_contents SET content = 'forged' WHERE digest = ?", pushed_image.digest) == 1
    check_pull(b.repository(name), pushed_image, "v1")
    assert rows(b, "SELECT content FROM manifest_contents WHERE digest = ?", pushed_image.digest) == [
        (pushed_image.manifest.content,)
    ]


def test_lost_and_cut_blobs_come_back_from_the_peer(pair: Cluster) -> None:
    _, b = pair
    name, pushed_image = pushed(pair)
    lost, cut = (blob.digest for blob in pushed_image.blobs[:2])
    b.blob_path(lost).unlink()
    whole = b.blob_path(cut).read_bytes()
    b.blob_path(cut).write_bytes(whole[:-1])

    faults = b.ask("POST", "/verify", {"deep": True})["faults"]
    assert {fault["key"] for fault in faults} == {lost, cut}
    told = b.ask("POST", "/verify", REPAIR)

    assert told["equal"], told
    assert b.has_blob(lost)
    assert b.blob_path(cut).read_bytes() == whole
    check_pull(b.repository(name), pushed_image, "v1")


def test_node_alone_mends_its_records_from_its_own_log(pair: Cluster) -> None:
    a, b = pair
    name, pushed_image = pushed(pair)
    a.pause()
    b.pause()
    assert behind(b, "UPDATE records SET record = x'00' WHERE kind = 'tag' AND key = ?", f"{name}:v1") == 1
    assert [fault["mended"] for fault in b.ask("POST", "/verify", REPAIR)["faults"]] == [True]
    b.resume()
    a.resume()
    pair.wait_in_sync()
    assert a.ask("POST", "/verify", {"deep": True})["equal"]
    check_pull(b.repository(name), pushed_image, "v1")
