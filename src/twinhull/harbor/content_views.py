"""The dictionary between Harbor's words and ours, for what is stored: repositories, artifacts, tags, accessories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from twinhull.catalog.describing import CHART, IMAGE, SBOM
from twinhull.catalog.icons import ICONS
from twinhull.catalog.immutability import NO_RULES, Immutability
from twinhull.catalog.media import INDEX_TYPES
from twinhull.harbor.views import NEVER_TIME, Json, time_of
from twinhull.kit.clock import rfc3339
from twinhull.metadata.accounts import Project
from twinhull.metadata.artifact_parts import NEVER_PULLED, Child, Pulled, Tag
from twinhull.metadata.artifacts import Artifact, decoded
from twinhull.metadata.documents import Document
from twinhull.metadata.repositories import Repository

ADDITIONS: Final[Mapping[str, Sequence[str]]] = {
    IMAGE: ("build_history",),
    CHART: ("values.yaml", "readme.md", "dependencies"),
    SBOM: ("sbom",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is shown of an artifact beside its own row; None: it was not asked for."""

    project_id: int
    tags: Sequence[Tag] | None = None
    labels: Sequence[Document] | None = None
    accessories: Sequence[Artifact] | None = None
    children: Sequence[Child] = ()
    # The manifest itself, of an index.
    content: bytes = b""
    pulled: Pulled = NEVER_PULLED
    rules: Immutability = NO_RULES


def repository_view(repository: Repository, *, pulls: int = 0) -> Json:
    """Return a repository; an empty description is left out, as in Harbor."""
    view: Json = {
        "artifact_count": repository.artifacts,
        "creation_time": rfc3339(repository.created_ms),
        "id": repository.id,
        "name": repository.name,
        "project_id": repository.project_id,
        "pull_count": pulls,
        "update_time": rfc3339(repository.updated_ms),
    }
    if repository.description:
        view["description"] = repository.description
    return view


def found_repository_view(repository: Repository, *, pulls: int = 0) -> Json:
    """Return a repository as the search shows it."""
    return {
        "artifact_count": repository.artifacts,
        "project_id": repository.project_id,
        "project_name": repository.project,
        "project_public": repository.public,
        "pull_count": pulls,
        "repository_name": repository.name,
    }


def found_project_view(project: Project, *, owner_id: int, role: int | None, repositories: int) -> Json:
    """Return a project as the search shows it, which leaves nothing out."""
    return {
        "project_id": project.id,
        "owner_id": owner_id,
        "name": project.name,
        "creation_time": rfc3339(project.created_ms),
        "update_time": rfc3339(project.updated_ms),
        "deleted": False,
        "owner_name": project.owner,
        "current_user_role_id": role or 0,
        "current_user_role_ids": [role] if role is not None else None,
        "repo_count": repositories,
        "chart_count": 0,
        "metadata": dict(sorted(project.metadata.items())),
        "cve_allowlist": {"id": 0, "project_id": 0, "items": None, "creation_time": NEVER_TIME, "update_time": NEVER_TIME},
        "registry_id": 0,
    }


def artifact_view(artifact: Artifact, details: Details) -> Json:
    """Return an artifact with what was asked for; what Harbor leaves out is left out."""
    view: Json = {
        "accessories": None,
        "artifact_type": artifact.artifact_type or artifact.config_type,
        "digest": artifact.digest,
        "icon": artifact.icon or ICONS.get(artifact.type, ICONS[""]),
        "id": artifact.id,
        "labels": [label_view(each, project_id=details.project_id) for each in details.labels] if details.labels else None,
        "manifest_media_type": artifact.media_type,
        "media_type": artifact.config_type,
        "project_id": details.project_id,
        "pull_time": time_of(_since(details.pulled.last_ms, artifact.pushed_ms)),
        "push_time": rfc3339(artifact.pushed_ms),
        "references": references_view(artifact, details),
        "repository_id": artifact.repository_id,
        "repository_name": artifact.repository,
        "size": artifact.total_bytes + sum(child.total_bytes for child in details.children),
        "tags": None,
        "type": artifact.type,
    }
    if details.accessories:
        view["accessories"] = [accessory_view(each, artifact) for each in details.accessories]
    if details.tags:
        view["tags"] = [tag_view(tag, artifact, details.pulled, details.rules) for tag in details.tags]
    for name, shown in (
        ("addition_links", _addition_links(artifact)),
        ("annotations", decoded(artifact.annotations)),
        ("extra_attrs", decoded(artifact.attributes)),
    ):
        if shown:
            view[name] = shown
    return view


def additions_of(artifact: Artifact) -> Sequence[str]:
    """Return the names of what can be shown beside an artifact."""
    return () if artifact.media_type in INDEX_TYPES else ADDITIONS.get(artifact.type, ())


def artifact_path(artifact: Artifact) -> str:
    """Return where the management API has the artifact."""
    project, _, name = artifact.repository.partition("/")
    return f"/api/v2.0/projects/{project}/repositories/{quote(quote(name, safe=''), safe='')}/artifacts/{artifact.digest}"


def _addition_links(artifact: Artifact) -> Json:
    path = artifact_path(artifact)
    return {name: {"absolute": False, "href": f"{path}/additions/{name}"} for name in additions_of(artifact)}


def references_view(artifact: Artifact, details: Details) -> list[Json] | None:
    """Return what an index lists of what is there, in its order; None for everything else."""
    if not details.children:
        return None
    ids = {child.digest: child.id for child in details.children}
    found: list[Json] = []
    for entry in json.loads(details.content or b"{}").get("manifests") or []:
        if entry.get("digest") not in ids:
            continue
        shown: Json = {
            "child_digest": entry["digest"],
            "child_id": ids[entry["digest"]],
            "parent_id": artifact.id,
            "platform": _platform(entry.get("platform")),
            "urls": entry.get("urls") or None,
        }
        if entry.get("annotations"):
            shown["annotations"] = entry["annotations"]
        found.append(shown)
    return found


def _platform(platform: object) -> Json | None:
    if not isinstance(platform, dict):
        return None
    shown: Json = {
        "OsFeatures": platform.get("os.features"),
        "architecture": platform.get("architecture", ""),
        "os": platform.get("os", ""),
    }
    if platform.get("os.version"):
        shown["'os.version'"] = platform["os.version"]
    if platform.get("variant"):
        shown["variant"] = platform["variant"]
    return shown


def _since(at_ms: int, pushed_ms: int) -> int:
    """Return the time of a pull, 0 if it is of an earlier life: what was deleted and pushed anew was not pulled yet."""
    return at_ms if at_ms >= pushed_ms else 0


def tag_view(tag: Tag, artifact: Artifact, pulled: Pulled, rules: Immutability) -> Json:
    """Return a tag, as these rules hold it; `signed` is Notary's, which is no more."""
    return {
        "artifact_id": artifact.id,
        "id": tag.id,
        "immutable": rules.holds(tag.repository, tag.name),
        "name": tag.name,
        "pull_time": time_of(_since(pulled.tags_ms.get(tag.name, 0), tag.pushed_ms)),
        "push_time": rfc3339(tag.pushed_ms),
        "repository_id": artifact.repository_id,
        "signed": False,
    }


def accessory_view(accessory: Artifact, subject: Artifact) -> Json:
    """Return what belongs to an artifact: a signature, an SBOM and the like."""
    return {
        "artifact_id": accessory.id,
        "creation_time": rfc3339(accessory.pushed_ms),
        "digest": accessory.digest,
        "icon": ICONS.get(accessory.accessory_type, ""),
        "id": accessory.id,
        "size": accessory.total_bytes,
        "subject_artifact_digest": subject.digest,
        "subject_artifact_id": subject.id,
        "subject_artifact_repo": subject.repository,
        "type": accessory.accessory_type,
    }


def label_view(label: Document, *, project_id: int) -> Json:
    """Return a label; the project's id is left out for one that all projects have, and an empty description."""
    view: Json = {
        "color": str(label.fields.get("color") or ""),
        "creation_time": rfc3339(label.created_ms),
        "id": label.id,
        "name": label.name,
        "scope": "p" if label.project else "g",
        "update_time": rfc3339(label.updated_ms),
    }
    if label.project:
        view["project_id"] = project_id
    if label.fields.get("description"):
        view["description"] = label.fields["description"]
    return view
