"""What the recording calls a thing, and what this node calls it: ids, digests, sessions, secrets, uploads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

Json = Any

_NUMBER: Final = re.compile(r"[0-9]+")
_DIGEST: Final = re.compile(r"sha256(?::|%3A)([0-9a-f]{64})")
_UPLOAD: Final = re.compile(r"(/v2/(.+)/blobs/uploads/)([0-9a-f-]{36})(?:\?(.*))?")
_ROOT: Final = "/api/v2.0/"
# Which kind of thing an id in a body or a query belongs to, by its name.
_FIELDS: Final = {
    "project_id": "projects",
    "ProjectID": "projects",
    "reference_id": "projects",
    "registry_id": "registries",
    "user_id": "users",
    "label_id": "labels",
    "ref": "projects",
}
_INSIDE: Final = {"dest_registry": "registries", "src_registry": "registries"}


class Names:
    """Translates requests of the recording into requests to this node; learns from the answers."""

    def __init__(self, digests: dict[str, str], texts: dict[str, str]) -> None:
        """Begin with digests of known content, and with words (addresses) to put for others."""
        self._ids: dict[str, dict[int, int]] = {}
        self._digests = {theirs[7:]: ours[7:] for theirs, ours in digests.items()}
        self._texts = dict(texts)
        # By the recording's id of the upload session: where it goes on here.
        self.uploads: dict[str, str] = {}

    # -- learning --------------------------------------------------------------------------------------------------

    def learn(self, collection: str, theirs: int, ours: int) -> None:
        """Keep that this node calls that thing `ours`."""
        self._ids.setdefault(collection, {})[theirs] = ours

    def learn_location(self, theirs: str, ours: str) -> None:
        """Learn from the address of what was made: an id, or where an upload goes on."""
        upload = _UPLOAD.search(theirs)
        if upload:
            self.uploads[upload[3]] = ours
        for (collection, their_id), (_, our_id) in zip(numbers_in(theirs), numbers_in(ours), strict=False):
            self.learn(collection, their_id, our_id)

    def learn_body(self, theirs: Json, ours: Json) -> None:
        """Learn digests that stand at the same place of two answers: icons, for instance."""
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for name in theirs.keys() & ours.keys():
                self.learn_body(theirs[name], ours[name])
        elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours) == 1:
            self.learn_body(theirs[0], ours[0])
        elif isinstance(theirs, str) and isinstance(ours, str) and _DIGEST.fullmatch(theirs) and _DIGEST.fullmatch(ours):
            self._digests.setdefault(theirs[7:], ours[7:])

    def learn_text(self, theirs: str, ours: str) -> None:
        """Keep that this node has another word for something: a cookie, a token."""
        self._texts[theirs] = ours

    # -- translating -----------------------------------------------------------------------------------------------

    def id_of(self, collection: str, theirs: int) -> int:
        """Return this node's id of a thing; the same when nothing is known of it."""
        return self._ids.get(collection, {}).get(theirs, theirs)

    def text(self, theirs: str) -> str:
        """Return a text with this node's words and digests in it."""
        for word, ours in self._texts.items():
            theirs = theirs.replace(word, ours)
        translated = _DIGEST.sub(lambda found: found[0][:-64] + self._digests.get(found[1], found[1]), theirs)
        return re.sub(r"/project/([0-9]+)", lambda found: f"/project/{self.id_of('projects', int(found[1]))}", translated)

    def path(self, theirs: str) -> str:
        """Return the path and query of a request to this node."""
        path, mark, query = theirs.partition("?")
        parts = path.split("/")
        for place, collection, number in _numbered(path):
            parts[place] = str(self.id_of(collection, number))
        policies = _policies_of(path)

        def renamed(found: re.Match[str]) -> str:
            return f"{found[1]}{found[2]}{self.id_of(_FIELDS.get(found[1], policies), int(found[3]))}"

        fields = "|".join([*_FIELDS, "policy_id"])
        return self.text("/".join(parts) + mark + re.sub(rf"\b({fields})(=|%3D)([0-9]+)", renamed, query))

    def upload_of(self, theirs: str) -> tuple[str, str, str] | None:
        """Return repository, session and query of a path that goes on with an upload, else None."""
        found = _UPLOAD.fullmatch(theirs)
        return (found[2], found[3], found[4] or "") if found else None

    def body(self, theirs: Json, path: str) -> Json:
        """Return the body of a request to this node."""
        own = path.partition("?")[0].removeprefix(_ROOT)
        found = list(_numbered(path.partition("?")[0]))
        collection = "labels" if own.endswith("/labels") else found[-1][1] if found else own.partition("/")[0]
        return self._inside(theirs, collection, _policies_of(path))

    def _inside(self, value: Json, collection: str, policies: str) -> Json:
        if isinstance(value, dict):
            translated = {}
            for name, item in value.items():
                kind = collection if name == "id" else policies if name == "policy_id" else _FIELDS.get(name)
                if kind and isinstance(item, int):
                    translated[name] = self.id_of(kind, item)
                else:
                    translated[name] = self._inside(item, _INSIDE.get(name, ""), policies)
            return translated
        if isinstance(value, list):
            return [self._inside(item, "", policies) for item in value]
        return self.text(value) if isinstance(value, str) else value


def numbers_in(path: str) -> Iterator[tuple[str, int]]:
    """Return each id in a path with the collection that it belongs to."""
    for _, collection, number in _numbered(urlsplit(path).path):
        yield collection, number


def _numbered(path: str) -> Iterator[tuple[int, str, int]]:
    if not path.startswith(_ROOT):
        return
    names: list[str] = []
    parts = path.split("/")
    for place, part in enumerate(parts[3:], start=3):
        if _NUMBER.fullmatch(part):
            yield place, "labels" if names[-1:] == ["labels"] else "/".join(names), int(part)
        elif parts[3] != "projects" or place == 3 or place > 4:
            names.append(part)
        if parts[3] == "projects" and place == 4:
            # What is below a project is known by its own name.
            names.clear()


def _policies_of(path: str) -> str:
    return "webhook/policies" if "/webhook/" in path else "replication/policies"
