"""The part of the management API that is about what is stored, put together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from twinhull.catalog.peers import Peers
from twinhull.catalog.repositories import Repositories
from twinhull.catalog.tagging import Tagging
from twinhull.harbor.access import Access
from twinhull.harbor.artifacts import ArtifactsApi
from twinhull.harbor.places import Places
from twinhull.harbor.repositories import RepositoriesApi
from twinhull.harbor.routes import Subject
from twinhull.harbor.tags import TagsApi
from twinhull.metadata.store import Store


def stored_subjects(*, access: Access, store: Store, executor: Executor, peers: Peers) -> Sequence[Subject]:
    """Return the subjects, in the order in which their paths are tried."""
    places = Places(access=access, peers=peers)
    repositories = Repositories(store=store, executor=executor, peers=peers)
    tagging = Tagging(store=store, executor=executor)
    return [
        RepositoriesApi(access=access, places=places, repositories=repositories),
        ArtifactsApi(access=access, places=places, repositories=repositories, tagging=tagging),
        TagsApi(access=access, places=places, repositories=repositories, tagging=tagging),
    ]
