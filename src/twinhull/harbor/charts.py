"""Helm charts at ChartMuseum's paths, as Harbor had them: `helm repo add`, uploads, lists, deletion, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import yaml
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from twinhull.catalog.chart_store import PROVENANCE_BYTES_MAX, ChartStore, ChartVersion, Unpacked
from twinhull.catalog.charts import CHART_BYTES_MAX
from twinhull.catalog.labelling import Labelling
from twinhull.catalog.projects import LIBRARY
from twinhull.catalog.pulls import Pulls
from twinhull.harbor.access import Access, legacy_id
from twinhull.harbor.content_views import label_view
from twinhull.harbor.places import Places
from twinhull.harbor.requests import answer, nothing, on, read_body
from twinhull.harbor.views import Json
from twinhull.kit.clock import Clock, rfc3339
from twinhull.kit.errors import Conflict, Invalid, NotFound, TooLarge
from twinhull.metadata.accounts import Snapshot, find_project
from twinhull.metadata.documents import labels_of
from twinhull.web.identity import Caller

_CHART: Final = "helm-chart"
_VERSION: Final = "helm-chart-version"
_LABEL: Final = "helm-chart-version-label"
_SAVED: Final = {"saved": True}
_NAMED: Final = "/chartrepo/{repo}/charts/{name}"
_FORM_BYTES_MAX: Final = CHART_BYTES_MAX + 2 * PROVENANCE_BYTES_MAX


# Labels as they are shown, by repository and digest.
_Labels = dict[tuple[str, str], list[Json]]


class _LabelBody(msgspec.Struct):
    id: int = 0


class ChartsApi:
    """Handlers for charts: what helm asks for, and what ChartMuseum's clients ask for."""

    def __init__(
        self, *, access: Access, places: Places, charts: ChartStore, labelling: Labelling, pulls: Pulls, clock: Clock
    ) -> None:
        """Take what every handler needs, the charts, what puts labels on them, and the time."""
        self._access = access
        self._places = places
        self._charts = charts
        self._labelling = labelling
        self._pulls = pulls
        self._clock = clock

    def routes(self) -> Sequence[BaseRoute]:
        """Return what stands below /api."""
        return [
            on("/chartrepo/health", get=self.health),
            on("/chartrepo/charts", post=self.upload_to_library),
            on("/chartrepo/{repo}/charts", get=self.list, post=self.upload),
            on("/chartrepo/{repo}/prov", post=self.sign),
            on(_NAMED, get=self.versions, delete=self.delete_all),
            on(_NAMED + "/{version}", get=self.version, delete=self.delete),
        ]

    def repository_routes(self) -> Sequence[BaseRoute]:
        """Return what helm asks for, at the root."""
        return [
            on("/chartrepo/{repo}/index.yaml", get=self.index, head=self.index),
            on("/chartrepo/{repo}/charts/{path:path}", get=self.file, head=self.file),
        ]

    def label_routes(self) -> Sequence[BaseRoute]:
        """Return what stands below the management API's root."""
        return [
            on(_NAMED + "/{version}/labels", get=self.labels, post=self.add_label),
            on(_NAMED + "/{version}/labels/{id}", delete=self.remove_label),
        ]

    # -- helm ------------------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """Return the index that helm reads."""
        _, project = await self._allowed(request, _VERSION, "read")
        found = await self._charts.versions(project)
        # In a thread: of some thousand versions it takes seconds.
        content = await self._access.read(lambda _connection: index_of(found, self._clock.unix_ms()))
        return Response(content, headers={"content-type": "application/x-yaml"})

    async def file(self, request: Request) -> Response:
        """Return a packaged chart or its provenance."""
        caller, project = await self._allowed(request, _VERSION, "read")
        path = request.path_params["path"]
        found, content = await self._charts.file(project, path)
        is_provenance = path.endswith(".prov")
        if request.method == "GET" and not is_provenance:
            self._pulls.count_chart(found.artifact.repository, found.artifact.digest, found.version, user=caller.name)
        kind = "application/pgp-signature" if is_provenance else "application/x-tar"
        return Response(content, headers={"content-type": kind})

    # -- lists -----------------------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """Say that charts are served."""
        await self._access.admin(request)
        return answer({"healthy": True})

    async def list(self, request: Request) -> Response:
        """Return the charts of a project, each with how many versions it has."""
        _, project = await self._allowed(request, _CHART, "list")
        charts: dict[str, list[ChartVersion]] = {}
        for found in await self._charts.versions(project):
            charts.setdefault(found.name, []).append(found)
        return answer([chart_view(versions) for _, versions in sorted(charts.items())])

    async def versions(self, request: Request) -> Response:
        """Return all versions of a chart, newest first."""
        _, project = await self._allowed(request, _VERSION, "list")
        found = await self._named(project, request)
        labels = await self._labels(project, found)
        return answer([{**version_view(each), "labels": labels[each.artifact.key]} for each in found])

    async def version(self, request: Request) -> Response:
        """Return a version of a chart with what is in it."""
        _, project = await self._allowed(request, _VERSION, "read")
        found = await self._one(project, request)
        unpacked = await self._charts.unpacked(found)
        labels = await self._labels(project, [found])
        return answer(details_view(found, unpacked, project=project, labels=labels[found.artifact.key]))

    # -- writing ---------------------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        """Take a packaged chart, with its provenance if that comes along."""
        caller, project = await self._allowed(request, _VERSION, "create")
        return await self._upload(request, caller, project)

    async def upload_to_library(self, request: Request) -> Response:
        """Take a packaged chart for the project that all have."""
        caller, project = await self._places.named_project(await self._access.caller(request), LIBRARY, _VERSION, "create")
        return await self._upload(request, caller, project.name)

    async def _upload(self, request: Request, caller: Caller, project: str) -> Response:
        files = await _form(request)
        if "chart" not in files:
            raise Invalid('the form has no file "chart"')
        pushed = await self._charts.upload(project, files["chart"], files.get("prov"), pushed_by=caller.name)
        return answer(_SAVED, status=201, headers=await self._access.settled(request, pushed.seq))

    async def sign(self, request: Request) -> Response:
        """Take a provenance file for a chart that is there."""
        caller, project = await self._allowed(request, _VERSION, "create")
        files = await _form(request)
        if "prov" not in files:
            raise Invalid('the form has no file "prov"')
        pushed = await self._charts.sign(project, files["prov"], pushed_by=caller.name)
        return answer(_SAVED, status=201, headers=await self._access.settled(request, pushed.seq))

    async def delete_all(self, request: Request) -> Response:
        """Delete all versions of a chart."""
        _, project = await self._allowed(request, _CHART, "delete")
        seq = await self._charts.delete(await self._named(project, request))
        return nothing(headers=await self._access.settled(request, seq))

    async def delete(self, request: Request) -> Response:
        """Delete a version of a chart."""
        _, project = await self._allowed(request, _VERSION, "delete")
        seq = await self._charts.delete([await self._one(project, request)])
        return nothing(headers=await self._access.settled(request, seq))

    # -- labels ----------------------------------------------------------------------------------------------------

    async def labels(self, request: Request) -> Response:
        """Return the labels of a version."""
        _, project = await self._allowed(request, _VERSION, "read")
        found = await self._one(project, request)
        return answer((await self._labels(project, [found]))[found.artifact.key])

    async def add_label(self, request: Request) -> Response:
        """Put a label on a version."""
        _, project = await self._allowed(request, _LABEL, "create")
        found = await self._one(project, request)
        body = await read_body(request, _LabelBody, legacy=True)
        try:
            seq = await self._labelling.add(found.artifact.repository, found.artifact.digest, body.id)
        except Conflict as error:
            raise Conflict(f"label {body.id} is already added to the chart {found.name}-{found.version}") from error
        return nothing(headers=await self._access.settled(request, seq))

    async def remove_label(self, request: Request) -> Response:
        """Take a label off a version."""
        _, project = await self._allowed(request, _LABEL, "delete")
        found = await self._one(project, request)
        number = legacy_id(request, "id")
        seq = await self._labelling.remove(found.artifact.repository, found.artifact.digest, number)
        return nothing(headers=await self._access.settled(request, seq))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _allowed(self, request: Request, resource: str, action: str) -> tuple[Caller, str]:
        caller = await self._access.caller(request)
        _, project = await self._places.named_project(caller, request.path_params["repo"], resource, action)
        return caller, project.name

    async def _named(self, project: str, request: Request) -> Sequence[ChartVersion]:
        name = request.path_params["name"]
        found = await self._charts.versions(project, name)
        if not found:
            raise NotFound(f"chart {name} not found")
        return found

    async def _one(self, project: str, request: Request) -> ChartVersion:
        return await self._charts.version(project, request.path_params["name"], request.path_params["version"])

    async def _labels(self, project: str, found: Sequence[ChartVersion]) -> _Labels:
        def read(connection: Snapshot) -> _Labels:
            owner = find_project(connection, project)
            number = owner.id if owner is not None else 0
            shown: _Labels = {each.artifact.key: [] for each in found}
            for repository in {each.artifact.repository for each in found}:
                digests = [each.artifact.digest for each in found if each.artifact.repository == repository]
                for digest, labels in labels_of(connection, repository, digests).items():
                    shown[repository, digest] = [label_view(label, project_id=number) for label in labels]
            return shown

        return await self._access.read(read)


async def _form(request: Request) -> dict[str, bytes]:
    """Return the files of a form by their fields; a body that is no form is the chart itself, as ChartMuseum has it."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > _FORM_BYTES_MAX:
        raise TooLarge(f"up to {CHART_BYTES_MAX} bytes are taken")
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return {"chart": await _whole(request)}
    files: dict[str, bytes] = {}
    try:
        async with request.form(max_files=4, max_fields=16) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if (value.size or 0) > CHART_BYTES_MAX:
                        raise TooLarge(f"up to {CHART_BYTES_MAX} bytes are taken")
                    files[name] = await value.read()
    except (MultiPartException, HTTPException) as error:
        raise Invalid("the body is not a form") from error
    return files


async def _whole(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > CHART_BYTES_MAX:
            raise TooLarge(f"up to {CHART_BYTES_MAX} bytes are taken")
    return bytes(body)


# -- views ---------------------------------------------------------------------------------------------------------


def index_of(versions: Sequence[ChartVersion], now_ms: int) -> bytes:
    """Return the index of these versions as helm reads it."""
    entries: dict[str, list[Json]] = {}
    for found in versions:
        entries.setdefault(found.name, []).append(version_view(found))
    document = {"apiVersion": "v1", "entries": entries, "generated": rfc3339(now_ms), "serverInfo": {}}
    text: str = yaml.dump(document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), allow_unicode=True)
    return text.encode()


def version_view(found: ChartVersion) -> Json:
    """Return a version as helm's index has it."""
    return {
        **found.metadata,
        "created": rfc3339(found.artifact.pushed_ms),
        "digest": found.archive.digest.partition(":")[2],
        "urls": [f"charts/{found.path}"],
    }


def chart_view(versions: Sequence[ChartVersion]) -> Json:
    """Return a chart, of whose versions the newest comes first, as Harbor's list has it."""
    newest, oldest = versions[0], versions[-1]
    return {
        "name": newest.name,
        "total_versions": len(versions),
        "latest_version": newest.version,
        "created": rfc3339(oldest.artifact.pushed_ms),
        "updated": rfc3339(newest.artifact.pushed_ms),
        "icon": str(newest.metadata.get("icon") or ""),
        "home": str(newest.metadata.get("home") or ""),
        "deprecated": bool(newest.metadata.get("deprecated")),
    }


def details_view(found: ChartVersion, unpacked: Unpacked, *, project: str, labels: Sequence[Json]) -> Json:
    """Return a version with its values, README and dependencies."""
    signed = found.provenance is not None
    files = unpacked.files
    return {
        "metadata": version_view(found),
        "dependencies": unpacked.dependencies,
        "values": unpacked.values,
        "files": {name: files[name].decode("utf-8", "replace") for name in ("values.yaml", "README.md") if name in files},
        "security": {
            "signature": {
                "signed": signed,
                "prov_file": f"/chartrepo/{project}/charts/{found.path}.prov" if signed else "",
            }
        },
        "labels": list(labels),
    }
