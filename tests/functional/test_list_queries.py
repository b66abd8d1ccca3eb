"""A list takes the same number of queries however many entries its page has, and whichever page it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from tests.support.accounts import AccountsNode, site
from twinhull.catalog.documents import attach_label, create_document, existing_document
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import LABEL, MANIFEST, REPOSITORY, TAG, content_key, tag_key

__all__ = ["site"]

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
FLAGS = "with_tag=true&with_label=true&with_accessory=true&with_immutable_status=true&with_scan_overview=true"


@contextmanager
def counted() -> Iterator[list[str]]:
    """Give the queries that are made inside the block."""
    made: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        made.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    yield made
    event.remove(Engine, "before_cursor_execute", count)


def manifest(transaction: Transaction, repository: str, number: int, **fields: object) -> str:
    """Write an artifact down, and return its digest."""
    digest = f"sha256:{number:064x}"
    said = {"media_type": "m", "type": "IMAGE", "attributes": "{}", "pushed_ms": number, "annotations": {}, **fields}
    transaction.put_content(digest, b'{"manifests": []}')
    transaction.create(MANIFEST, content_key(repository, digest), said, number=transaction.next_id(MANIFEST))
    return digest


def fill(site: AccountsNode, artifacts: int) -> None:
    """Make artifacts with tags, labels and accessories, a third of them indexes, and as many repositories."""
    with site.store.write() as transaction:
        labels = [create_document(transaction, LABEL, {"color": "", "description": ""}, name=name) for name in ("one", "two")]
        for number in range(1, artifacts + 1):
            child = manifest(transaction, "library/app", 1000 + number)
            index = {"media_type": INDEX_TYPE, "children": [child]} if number % 3 == 0 else {}
            digest = manifest(transaction, "library/app", number, **index)
            manifest(transaction, "library/app", 2000 + number, subject=digest, accessory_type="subject.accessory")
            for tag in (f"v{number}", f"w{number}"):
                target = {"digest": digest, "pushed_ms": number}
                transaction.create(TAG, tag_key("library/app", tag), {"target": target}, number=transaction.next_id(TAG))
            for label in labels:
                attach_label(transaction, "library/app", digest, existing_document(transaction, LABEL, label))
            fields = {"created_ms": number, "updated_ms": number, "description": ""}
            name = f"library/r{number}"
            transaction.create(REPOSITORY, name, fields, number=transaction.next_id(REPOSITORY))
            manifest(transaction, name, number)
        fields = {"created_ms": 1, "updated_ms": 1, "description": ""}
        transaction.create(REPOSITORY, "library/app", fields, number=transaction.next_id(REPOSITORY))


@pytest.mark.parametrize(
    "path",
    [
        f"/projects/library/repositories/app/artifacts?{FLAGS}&q=tags%3D*",
        f"/projects/library/artifacts?{FLAGS}&q=tags%3D*",
        "/projects/library/repositories/app/artifacts/v9/tags",
        "/projects/library/repositories/app/artifacts/v9/accessories",
        "/projects/library/repositories",
        "/repositories",
    ],
)
async def test_number_of_queries_does_not_depend_on_the_page(site: AccountsNode, path: str) -> None:
    fill(site, 30)
    counts = set()
    join = "&" if "?" in path else "?"
    await site.admin.ok(200, "GET", path)
    for page, size in ((1, 3), (1, 27), (2, 12)):
        with counted() as made:
            await site.admin.ok(200, "GET", f"{path}{join}page={page}&page_size={size}")
        counts.add(len(made))
    assert len(counts) == 1
    assert max(counts) <= 20


async def test_number_of_queries_of_a_search_does_not_depend_on_what_it_finds(site: AccountsNode) -> None:
    fill(site, 30)
    counts = set()
    await site.admin.ok(200, "GET", "/search?q=r")
    for text in ("r", "r1", "r30"):
        with counted() as made:
            assert (await site.admin.ok(200, "GET", f"/search?q={text}"))["repository"]
        counts.add(len(made))
    # Owners and roles are asked for where projects were found.
    assert max(counts) - min(counts) <= 3
    assert max(counts) <= 20
