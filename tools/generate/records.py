"""Writes records of artifacts, tags, labels and repositories straight into a stopped node's database."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from twinhull.blobs.layout import Layout
from twinhull.catalog.audit import Deed, record_deed
from twinhull.catalog.documents import attach_label, create_document, existing_document
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import digest_of
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import LABEL, MANIFEST, PROJECT, REPOSITORY, TAG, content_key, tag_key

PROJECT_NAME: Final = "big"
REPOSITORY_NAME: Final = f"{PROJECT_NAME}/app"
LABELS: Final = 3
_AT_ONCE: Final = 500
_ARTIFACTS_OF_A_LAYER: Final = 100
_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"


def write_records(data_dir: Path, *, artifacts: int, with_blobs: bool = False) -> str:
    """Make a project with one repository of so many tagged and labelled artifacts, and return what came of it.

    Beside it are as many further repositories with one artifact each, and as many audit records. Blobs are small: a
    configuration for each number, and a layer for each hundred.
    """
    started = time.monotonic()
    database = SqliteDatabase(data_dir / "metadata.db", run_dir=data_dir / "run")
    store = Store(database, node="generated", slot=31, clock=SystemClock())
    layout = Layout(data_dir)
    layout.make()
    with store.write() as transaction:
        labels = _begin(transaction)
    for first in range(0, artifacts, _AT_ONCE):
        with store.write() as transaction:
            for number in range(first, min(first + _AT_ONCE, artifacts)):
                if with_blobs:
                    _write_blobs(layout, number)
                digest = _artifact(transaction, REPOSITORY_NAME, number)
                attach_label(
                    transaction, REPOSITORY_NAME, digest, existing_document(transaction, LABEL, labels[number % LABELS])
                )
                alone = f"{PROJECT_NAME}/r{number:06}"
                _repository(transaction, alone)
                _artifact(transaction, alone, number)
                _deed(transaction, number)
    store.close()
    return f"{artifacts} artifacts and {artifacts + 1} repositories in {time.monotonic() - started:.0f} s"


def _begin(transaction: Transaction) -> list[int]:
    fields = {"owner": "admin", "metadata.public": "true", "created_ms": 1, "updated_ms": 1}
    transaction.create(PROJECT, PROJECT_NAME, fields, number=transaction.next_id(PROJECT))
    _repository(transaction, REPOSITORY_NAME)
    said = {"description": "", "color": "#00FF00"}
    return [create_document(transaction, LABEL, said, project=PROJECT_NAME, name=f"label{each}") for each in range(LABELS)]


def _repository(transaction: Transaction, name: str) -> None:
    now_ms = transaction.now_ms()
    fields = {"description": "", "created_ms": now_ms, "updated_ms": now_ms}
    transaction.create(REPOSITORY, name, fields, number=transaction.next_id(REPOSITORY))


def _artifact(transaction: Transaction, repository: str, number: int) -> str:
    config_content, layer_content = _blobs_of(number)
    config, layer = digest_of(config_content), digest_of(layer_content)
    content = json.dumps({"config": config, "layer": layer, "number": number}).encode()
    digest = digest_of(content)
    attributes = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"] * 5, "Cmd": ["/app"]}, "author": ""}
    transaction.put_content(digest, content)
    fields = {
        "media_type": _IMAGE,
        "artifact_type": _CONFIG,
        "config_type": _CONFIG,
        "type": "IMAGE",
        "attributes": json.dumps(attributes),
        "config_digest": config,
        "manifest_bytes": len(content),
        "total_bytes": len(content) + len(config_content) + len(layer_content),
        "annotations": {},
        "blobs": [(config, len(config_content), True), (layer, len(layer_content), True)],
        "children": [],
        "pushed_ms": transaction.now_ms(),
        "pushed_by": "admin",
    }
    transaction.create(MANIFEST, content_key(repository, digest), fields, number=transaction.next_id(MANIFEST))
    target = {"digest": digest, "immutable": False, "pushed_ms": transaction.now_ms(), "pushed_by": "admin"}
    transaction.create(TAG, tag_key(repository, f"v{number:06}"), {"target": target}, number=transaction.next_id(TAG))
    return digest


def _blobs_of(number: int) -> tuple[bytes, bytes]:
    """Return the configuration and the layer of that artifact."""
    return f"configuration {number} ".encode() * 60, f"layer {number // _ARTIFACTS_OF_A_LAYER} ".encode() * 5000


def _write_blobs(layout: Layout, number: int) -> None:
    # Not synced: what is generated can be generated again.
    for content in _blobs_of(number):
        path = layout.blob(digest_of(content))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def _deed(transaction: Transaction, number: int) -> None:
    resource = f"{REPOSITORY_NAME}:v{number:06}"
    deed = Deed(username="admin", operation="create", resource_type="artifact", resource=resource, project=PROJECT_NAME)
    record_deed(transaction, deed)
