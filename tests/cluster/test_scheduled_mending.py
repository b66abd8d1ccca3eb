"""Two nodes find and mend by themselves what was changed behind their backs."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.test_mending import behind, pushed
from tests.support.nodes import eventually, running_cluster
from tests.support.pushes import check_pull


def test_what_was_changed_behind_a_nodes_back_is_mended_by_the_schedule(tmp_path: Path) -> None:
    schedule = {"TWINHULL_VERIFY_INTERVAL_S": "1", "TWINHULL_VERIFY_OWN_INTERVAL_S": "2"}
    with running_cluster(tmp_path, ("a", "b"), schedule) as pair:
        a, b = pair
        name, pushed_image = pushed(pair)
        assert behind(b, "DELETE FROM records WHERE kind = 'tag' AND key = ?", f"{name}:v1") == 1
        assert behind(b, "UPDATE manifests SET media_type = 'forged' WHERE digest = ?", pushed_image.digest) == 1
        assert behind(a, "UPDATE records SET record = x'00' WHERE kind = 'manifest'") >= 1
        b.blob_path(pushed_image.blobs[0].digest).unlink()

        eventually(lambda: a.ask("POST", "/verify", {"deep": True})["equal"], what="both are whole and equal")

        check_pull(b.repository(name), pushed_image, "v1")
