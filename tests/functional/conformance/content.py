"""Makes the manifests and blobs that the conformance tests push, and walks one through its life in a registry."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import secrets
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.registry_client import Repository, location_of

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_FOREIGN_LAYER: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
ARTIFACT_ONE: Final = "application/vnd.example.conformance.one"
ARTIFACT_TWO: Final = "application/vnd.example.conformance.two"
ACCEPT: Final = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"

Document = Mapping[str, object]


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of the content, computed apart from the code under test."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def encode(document: Document) -> bytes:
    """Return the document as JSON bytes."""
    return json.dumps(document).encode()


def noise(size_bytes: int) -> bytes:
    """Return that many bytes that no registry has seen before."""
    return secrets.token_bytes(size_bytes)


def layer(*, compressed: bool = True) -> bytes:
    """Return a small valid layer whose content nobody has pushed before."""
    text = f"lucky number {secrets.token_hex(8)}\n".encode()
    entry = tarfile.TarInfo("conformance.txt")
    entry.size = len(text)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(text))
    return gzip.compress(buffer.getvalue(), mtime=0) if compressed else buffer.getvalue()


def describe(content: bytes, media_type: str, *, algorithm: str = "sha256", data: bool = False) -> dict[str, object]:
    """Return a descriptor of the content, with the content itself in its `data` field if asked for."""
    descriptor: dict[str, object] = {
        "mediaType": media_type,
        "digest": digest_of(content, algorithm),
        "size": len(content),
    }
    if data:
        descriptor["data"] = base64.b64encode(content).decode()
    return descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A manifest or index with all that must be pushed before it."""

    media_type: str
    content: bytes
    blobs: Sequence[bytes] = ()
    children: Sequence[Made] = ()
    algorithm: str = "sha256"
    reported: Document = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the digest under which it is pushed."""
        return digest_of(self.content, self.algorithm)

    @property
    def descriptor(self) -> dict[str, object]:
        """Return the descriptor by which an index or a referrer names it."""
        return describe(self.content, self.media_type, algorithm=self.algorithm)

    def everything(self) -> Iterator[Made]:
        """Yield all manifests below it and itself, each after its children."""
        for child in self.children:
            yield from child.everything()
        yield self

    def push_blobs(self, repository: Repository) -> None:
        """Push all blobs that it and its children name."""
        for made in self.everything():
            for content in made.blobs:
                repository.push_blob(content, digest_of(content, made.algorithm)).expect(201)

    def push(self, repository: Repository) -> None:
        """Push blobs, children and itself, by digest."""
        self.push_blobs(repository)
        for made in self.everything():
            answer = repository.put_manifest(made.digest, made.content, made.media_type).expect(201)
            assert answer.header("Docker-Content-Digest") == made.digest, answer


def image(
    *,
    algorithm: str = "sha256",
    compressed: bool = True,
    layers: int = 2,
    data: bool = False,
    extra: Document | None = None,
    config_extra: Document | None = None,
    docker: bool = False,
) -> Made:
    """Return an image of random layers; `extra` is put into its manifest, `config_extra` into its configuration."""
    contents = [layer(compressed=compressed) for _ in range(layers)]
    config = encode(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(content) for content in contents]},
            "author": secrets.token_hex(8),
            **(config_extra or {}),
        }
    )
    media_type, config_type, layer_type = OCI_MANIFEST, OCI_CONFIG, OCI_LAYER_GZIP if compressed else OCI_LAYER
    if docker:
        media_type, config_type, layer_type = DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": describe(config, config_type, algorithm=algorithm, data=data),
        "layers": [describe(content, layer_type, algorithm=algorithm, data=data) for content in contents],
        **(extra or {}),
    }
    return Made(
        media_type=media_type,
        content=encode(document),
        blobs=[config, *contents],
        algorithm=algorithm,
        reported=_reported(document, config_type),
    )


def artifact(
    *,
    artifact_type: str | None = ARTIFACT_ONE,
    layer_content: bytes | None = None,
    layer_type: str = ARTIFACT_ONE,
    config_type: str = OCI_EMPTY,
    subject: Made | Document | None = None,
    annotations: Mapping[str, str] | None = None,
    algorithm: str = "sha256",
) -> Made:
    """Return an artifact packed as an image manifest with the empty configuration `{}`."""
    content = noise(200) if layer_content is None else layer_content
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        **({"artifactType": artifact_type} if artifact_type else {}),
        "config": describe(b"{}", config_type, algorithm=algorithm),
        "layers": [describe(content, layer_type, algorithm=algorithm)],
        **_subject(subject),
        "annotations": {"org.example.unique": secrets.token_hex(8), **(annotations or {})},
    }
    return Made(
        media_type=OCI_MANIFEST,
        content=encode(document),
        blobs=[b"{}"] if content == b"{}" else [b"{}", content],
        algorithm=algorithm,
        reported=_reported(document, config_type),
    )


def index(
    children: Sequence[Made],
    *,
    algorithm: str = "sha256",
    artifact_type: str | None = None,
    subject: Made | Document | None = None,
    annotations: Mapping[str, str] | None = None,
    extra: Document | None = None,
    docker: bool = False,
) -> Made:
    """Return an index of these manifests, each for a platform of its own."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        **({"artifactType": artifact_type} if artifact_type else {}),
        "manifests": [
            {**child.descriptor, "platform": {"os": "linux", "architecture": f"arch{number}"}}
            for number, child in enumerate(children)
        ],
        **_subject(subject),
        **({"annotations": dict(annotations)} if annotations else {}),
        **(extra or {}),
    }
    return Made(
        media_type=media_type,
        content=encode(document),
        children=tuple(children),
        algorithm=algorithm,
        reported=_reported(document, None),
    )


def _subject(subject: Made | Document | None) -> dict[str, object]:
    if subject is None:
        return {}
    return {"subject": subject.descriptor if isinstance(subject, Made) else dict(subject)}


def _reported(document: Document, config_type: str | None) -> Document:
    """Return what a list of referrers must say of the manifest beside its digest, size and media type."""
    said = {}
    if kind := document.get("artifactType") or config_type:
        said["artifactType"] = kind
    if document.get("annotations"):
        said["annotations"] = document["annotations"]
    return said


def check_pullable(repository: Repository, made: Made, references: Sequence[str]) -> None:
    """Check that HEAD and GET give the manifest, by each of these references, in its very bytes and with all headers."""
    for reference in references:
        for method in ("HEAD", "GET"):
            answer = repository.client.request(
                method, repository.path(f"manifests/{reference}"), headers={"Accept": ACCEPT}
            ).expect(200)
            assert answer.header("Content-Type") == made.media_type, answer
            assert answer.header("Content-Length") == str(len(made.content)), answer
            assert answer.header("Docker-Content-Digest") == made.digest, answer
            assert answer.body == (made.content if method == "GET" else b""), answer


def check_blob(repository: Repository, content: bytes, digest: str) -> None:
    """Check that HEAD and GET give the blob, with all headers."""
    for method in ("HEAD", "GET"):
        answer = repository.client.request(method, repository.path(f"blobs/{digest}")).expect(200)
        assert answer.header("Content-Length") == str(len(content)), answer
        assert answer.header("Docker-Content-Digest") == digest, answer
        assert answer.body == (content if method == "GET" else b""), answer


def check_absent(repository: Repository, rest: str) -> None:
    """Check that neither HEAD nor GET finds it."""
    code = {"manifests": "MANIFEST_UNKNOWN", "blobs": "BLOB_UNKNOWN"}[rest.partition("/")[0]]
    repository.head(rest).expect(404)
    # A repository that holds nothing may be as unknown as what was asked of it.
    repository.get(rest).refused(404, (code, "NAME_UNKNOWN"))


def check_life(repository: Repository, made: Made, tag: str) -> None:
    """Push, tag, list, pull and delete it with all that belongs to it, checking after each step what must hold."""
    made.push(repository)
    if made.algorithm == "sha256":
        answer = repository.put_manifest(tag, made.content, made.media_type).expect(201)
    else:
        # A push by tag alone would store it a second time, under the digest of the default algorithm.
        answer = repository.put_manifest(made.digest, made.content, made.media_type, query=[("tag", tag)]).expect(201)
    assert answer.header("Docker-Content-Digest") == made.digest, answer
    assert repository.client.request("GET", location_of(answer), headers={"Accept": ACCEPT}).expect(200).body == made.content
    assert tag in repository.tags()
    for one in made.everything():
        check_pullable(repository, one, [one.digest, tag] if one is made else [one.digest])
        for content in one.blobs:
            check_blob(repository, content, digest_of(content, one.algorithm))
    repository.delete(f"manifests/{tag}").expect(202)
    check_absent(repository, f"manifests/{tag}")
    assert tag not in repository.tags()
    check_pullable(repository, made, [made.digest])
    check_deletable(repository, made)


def check_deletable(repository: Repository, made: Made) -> None:
    """Delete it, then what it named, checking that each is gone at once."""
    for one in reversed(list(made.everything())):
        repository.delete(f"manifests/{one.digest}").expect(202)
        check_absent(repository, f"manifests/{one.digest}")
    for digest in {digest_of(content, one.algorithm) for one in made.everything() for content in one.blobs}:
        repository.delete(f"blobs/{digest}").expect(202)
        check_absent(repository, f"blobs/{digest}")
