"""`twinhull scrub`: hash every blob of the running node again, and mend what has rotted."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from twinhull.cli.agent_client import AgentClient
from twinhull.cli.options import DataDirOption, JsonOption

_DEFAULT_DIR: Final = Path("data")
_LOOK_S: Final = 0.2
_SHOWN_MAX: Final = 50


def scrub(
    *,
    pace: Annotated[
        float | None,
        typer.Option("--pace", metavar="MB/S", help="How fast to read; 0: no limit.  [default: scrub.pace_mb_s]"),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the scrub that is under way.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Show the latest scrub, and how far it is.")] = False,
    json_: JsonOption = False,
    data_dir: DataDirOption = None,
) -> int:
    """Hash every blob of the running node again; what has rotted is put aside and comes back from a peer."""
    agent = AgentClient(data_dir or Path(os.environ.get("TWINHULL_DATA_DIR") or _DEFAULT_DIR))
    if stop:
        answer = agent.post("/scrub/stop")
        print(json.dumps(answer) if json_ else "stopping" if answer.get("number") else "no scrub is under way")
        return 0
    if show:
        latest = agent.post("/scrub/show")["scrub"]
        return _tell(latest, json_=json_) if latest else _nothing(json_=json_)
    number = agent.post("/scrub", {"pace_mb_s": pace})["number"]
    try:
        done = _wait(agent, number)
    except KeyboardInterrupt:
        agent.post("/scrub/stop")
        print("stopping", file=sys.stderr)
        done = _wait(agent, number)
    return _tell(done, json_=json_)


def _wait(agent: AgentClient, number: int) -> dict[str, Any]:
    from twinhull.cli.progress import transfer_progress

    with transfer_progress("scrubbing") as track:
        while True:
            found: dict[str, Any] = agent.post("/scrub/show")["scrub"]
            track(found["bytes"], max(found["total_bytes"], found["bytes"]) or None)
            if found["ended"] or found["number"] != number:
                return found
            time.sleep(_LOOK_S)


def _nothing(*, json_: bool) -> int:
    print("null" if json_ else "this node has not been scrubbed yet")
    return 0


def _tell(one: dict[str, Any], *, json_: bool) -> int:
    from twinhull.cli.progress import human_bytes

    if json_:
        print(json.dumps(one, indent=2, ensure_ascii=False))
    else:
        looked = f"{one['blobs']} blobs, {human_bytes(one['bytes'])}"
        print(f"{one['status']}: {looked}; {one['found_count']} bad, {one['left']} not mended")
        for found in one["found"][:_SHOWN_MAX]:
            outcome = "mended" if found["is_mended"] else "not mended" if found["is_named"] else "named by nothing"
            print(f"  {found['digest']}: {found['what']}, {outcome}")
    return 0 if not one["left"] and one["status"] != "stopped" else 1
