"""The part of the management API that is about what is stored, put together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.routing import BaseRoute

from twinhull.blobs.store import BlobStore
from twinhull.catalog.additions import Additions
from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.attributes import Attributes
from twinhull.catalog.chart_store import ChartStore
from twinhull.catalog.contents import Contents
from twinhull.catalog.icons import Icons
from twinhull.catalog.labelling import Labelling
from twinhull.catalog.peers import Peers
from twinhull.catalog.pulls import Pulls
from twinhull.catalog.pushing import Pushing
from twinhull.catalog.repositories import Repositories
from twinhull.catalog.tagging import Tagging
from twinhull.harbor.access import Access
from twinhull.harbor.additions import AdditionsApi, ArtifactLabelsApi
from twinhull.harbor.artifacts import ArtifactsApi
from twinhull.harbor.charts import ChartsApi
from twinhull.harbor.places import Places
from twinhull.harbor.repositories import RepositoriesApi
from twinhull.harbor.routes import Subject
from twinhull.harbor.search import SearchApi
from twinhull.harbor.tags import TagsApi
from twinhull.metadata.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What knows and changes what is stored; the data plane and the management API share it."""

    blobs: BlobStore
    peers: Peers
    artifacts: Artifacts
    contents: Contents
    pushing: Pushing
    pulls: Pulls


class _Labels:
    """The part of the chart API that stands below the management API's root."""

    def __init__(self, charts: ChartsApi) -> None:
        self._charts = charts

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return self._charts.label_routes()


def charts_api(*, access: Access, store: Store, executor: Executor, stored: Stored) -> ChartsApi:
    """Return what answers for charts, in three places."""
    additions = Additions(artifacts=stored.artifacts, contents=stored.contents, executor=executor)
    charts = ChartStore(
        store=store,
        blobs=stored.blobs,
        executor=executor,
        peers=stored.peers,
        contents=stored.contents,
        pushing=stored.pushing,
        repositories=Repositories(store=store, executor=executor, peers=stored.peers),
        additions=additions,
    )
    return ChartsApi(
        access=access,
        places=Places(access=access, peers=stored.peers),
        charts=charts,
        labelling=Labelling(store=store, executor=executor),
        pulls=stored.pulls,
        clock=store.clock,
    )


def stored_subjects(
    *, access: Access, store: Store, executor: Executor, stored: Stored, charts: ChartsApi
) -> Sequence[Subject]:
    """Return the subjects, in the order in which their paths are tried."""
    places = Places(access=access, peers=stored.peers)
    repositories = Repositories(store=store, executor=executor, peers=stored.peers)
    tagging = Tagging(store=store, executor=executor)
    additions = Additions(artifacts=stored.artifacts, contents=stored.contents, executor=executor)
    icons = Icons(store=store, executor=executor, contents=stored.contents)
    labelling = Labelling(store=store, executor=executor)
    return [
        RepositoriesApi(access=access, places=places, repositories=repositories),
        ArtifactsApi(
            access=access,
            places=places,
            repositories=repositories,
            tagging=tagging,
            attributes=Attributes(artifacts=stored.artifacts, additions=additions),
        ),
        TagsApi(access=access, places=places, repositories=repositories, tagging=tagging),
        AdditionsApi(places=places, additions=additions),
        ArtifactLabelsApi(access=access, places=places, labelling=labelling),
        SearchApi(access=access, icons=icons),
        _Labels(charts),
    ]
