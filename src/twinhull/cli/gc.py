"""`twinhull gc`: collect the garbage of the running node, or see what that would do."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from twinhull.cli.agent_client import AgentClient
from twinhull.cli.options import DataDirOption, JsonOption
from twinhull.kit.errors import SettingsInvalid

_DEFAULT_DIR: Final = Path("data")
_LOOK_S: Final = 0.2
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="DURATION", help="What is younger stays, e.g. 30m.  [default: gc.grace_s, a day]"),
    ] = None,
    delete_untagged: Annotated[bool, typer.Option("--delete-untagged", help="Delete manifests without a tag too.")] = False,
    walk: Annotated[bool, typer.Option("--walk", help="Look at every file, for blobs that no record knows.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the collection that is under way.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Show the latest collections.")] = False,
    json_: JsonOption = False,
    data_dir: DataDirOption = None,
) -> int:
    """Remove blobs that nothing names any more from the running node; pushes and pulls go on."""
    agent = AgentClient(data_dir or Path(os.environ.get("TWINHULL_DATA_DIR") or _DEFAULT_DIR))
    if stop:
        return _stop(agent, json_=json_)
    if history:
        return _history(agent, json_=json_)
    order: dict[str, object] = {"dry_run": dry_run, "delete_untagged": delete_untagged, "walk": walk}
    if grace is not None:
        order["grace_s"] = duration_s(grace)
    number = agent.post("/gc", order)["id"]
    try:
        done = _wait(agent, number)
    except KeyboardInterrupt:
        agent.post("/gc/stop")
        print("stopping", file=sys.stderr)
        done = _wait(agent, number)
    if json_:
        print(json.dumps(done, indent=2, ensure_ascii=False))
    else:
        _tell(done)
    return 0 if done["status"] == "done" else 1


def duration_s(text: str) -> float:
    """Return the seconds that a duration such as 90, 90s, 30m, 2h or 7d says, or raise SettingsInvalid."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise SettingsInvalid(f"{text!r} is not a duration", hint="write it as 90s, 30m, 2h or 7d")
    return float(match[1]) * _UNITS_S[match[2] or "s"]


def _wait(agent: AgentClient, number: int) -> dict[str, Any]:
    shown = ""
    while True:
        found: dict[str, Any] = agent.post("/gc/show", {"id": number})["collections"][0]
        if sys.stderr.isatty():
            outcome = found["outcome"]
            print("\r" + " " * len(shown), end="\r", file=sys.stderr)
            shown = "" if found["ended"] else f"{outcome['links']} links, {outcome['blobs']} blobs removed"
            print(shown, end="", file=sys.stderr, flush=True)
        if found["ended"]:
            return found
        time.sleep(_LOOK_S)


def _stop(agent: AgentClient, *, json_: bool) -> int:
    answer = agent.post("/gc/stop")
    if json_:
        print(json.dumps(answer))
    else:
        print("stopping" if answer.get("id") is not None else "no collection is under way")
    return 0


def _history(agent: AgentClient, *, json_: bool) -> int:
    found = agent.post("/gc/show")["collections"]
    if json_:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for one in found:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["asked_ms"] / 1000))
        print(f"{started}  {one['order']['trigger']}  {one['status']}  {_sentence(one)}")
    return 0


def _tell(done: dict[str, Any]) -> None:
    from twinhull.cli.progress import human_bytes

    outcome = done["outcome"]
    print(f"{_sentence(done)}, {human_bytes(outcome['freed_bytes'])}")
    if outcome["note"]:
        print(f"some stay: {outcome['note']}")
    if outcome["kept"]:
        print(f"kept, being in use elsewhere or again: {outcome['kept']}")
    if done["status"] != "done":
        print(f"error: collection {done['status']}: {done['error'] or 'as it was asked to'}", file=sys.stderr)


def _sentence(one: dict[str, Any]) -> str:
    outcome = one["outcome"]
    verb = "would remove" if one["order"]["dry_run"] else "removed"
    parts = [f"{outcome['blobs']} blobs", f"{outcome['links']} links"]
    parts.extend([f"{outcome['manifests']} manifests"] if outcome["manifests"] else [])
    return f"{verb} {', '.join(parts)}"
