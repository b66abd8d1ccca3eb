"""`twinhull cluster …`: join a cluster, and look at and after the one that the running node is in."""

from __future__ import annotations

import json
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from twinhull.cli.agent_client import VERIFY_TIMEOUT_S, AgentClient
from twinhull.cli.options import (
    ClusterListenOption,
    ConfigOption,
    DataDirOption,
    JsonOption,
    ListenOption,
    NameOption,
    StopWithParentOption,
    WorkersOption,
    serve_options,
)
from twinhull.kit.errors import SettingsInvalid

app: Final = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Invite, join, look at and look after the nodes.",
)
_DEFAULT_DIR: Final = Path("data")
_WAIT_TIMEOUT_S: Final = 300.0
_MARGIN_S: Final = 30.0
# Takes a setting of the cluster back.
_UNSET: Final = "none"

PeerArgument = Annotated[str | None, typer.Argument(metavar="[PEER]", help="Name or id of a peer; all when not given.")]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name or id of the node.")]


class Own(StrEnum):
    """What becomes of data that a joining node has already."""

    REFUSE = "refuse"
    MERGE = "merge"
    DISCARD = "discard"


def _agent(data_dir: Path | None) -> AgentClient:
    return AgentClient(data_dir or Path(os.environ.get("TWINHULL_DATA_DIR") or _DEFAULT_DIR))


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


@app.command()
def invite(*, data_dir: DataDirOption = None) -> None:
    """Print a token with which one node can join within an hour."""
    answer = _agent(data_dir).post("/invite")
    print("Run this on the new node, with the options of `twinhull serve`; the token holds once, for an hour:")
    # The token is the last word of the output: scripts take it from there.
    print(f"twinhull cluster join {answer['token']}")


@app.command()
def join(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What `twinhull cluster invite` printed on a member.")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    listen: ListenOption = None,
    cluster_listen: ClusterListenOption = None,
    name: NameOption = None,
    workers: WorkersOption = None,
    merge: Annotated[bool, typer.Option("--merge", help="Bring this node's own data into the cluster.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Set this node's own data aside.")] = False,
    stop_with_parent: StopWithParentOption = None,
) -> None:
    """Make this node a member of the token's cluster, then serve."""
    if merge and discard:
        raise SettingsInvalid("--merge and --discard exclude each other", hint="see `twinhull cluster join --help`")
    from twinhull.config.load import load_settings

    loaded = load_settings(config, os.environ, serve_options(data_dir, listen, cluster_listen, name, workers))
    # The whole program is imported here, when the arguments are known to be right.
    from twinhull.cli.node_processes import Join, run_node

    own = Own.MERGE if merge else Own.DISCARD if discard else Own.REFUSE
    run_node(loaded, join=Join(token, own.value), stop_with_parent=stop_with_parent)


@app.command()
def status(*, json_: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """Show the nodes, and how far each is behind this one."""
    answer = _agent(data_dir).get("/status")
    if json_:
        _print_json(answer)
        return
    node = answer.get("node") or {}
    print(f"this node: {node.get('name', '?')} ({node.get('id', '?')}), log position {answer.get('log_position', '?')}")
    print(f"durability: {answer.get('durability', '?')}, conflicts: {answer.get('conflicts', '?')}")
    _print_members(answer.get("members") or [])
    _print_rates(answer.get("members") or [])
    for alarm in answer.get("alarms") or []:
        print(f"{alarm.get('name', '?')}: {alarm.get('message', '')}")


@app.command()
def conflicts(*, json_: JsonOption = False, data_dir: DataDirOption = None) -> None:
    """List what was written on several nodes at the same time, and what holds, until somebody has seen to it."""
    answer = _agent(data_dir).get("/conflicts")
    if json_:
        _print_json(answer)
        return
    for one in answer.get("conflicts") or []:
        print(f"{one['id']}  {one['recorded_at']}  {one['kind']} {one['key']}: {one['field']}")
        for written in one["candidates"]:
            print(f"    {written['written_at']}  {written['node']}: {written['value']}")
        print(f"    holds: {one['winner']}")
    print(f"{answer.get('total', 0)} conflicts nobody has seen to")


@app.command()
def verify(
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Look through each node's tables, manifests and blobs too.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Look so, and mend what is found, on all nodes.")] = False,
    json_: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Compare this node's data with that of its peers, list what differs, and mend it if asked to."""
    answer = _agent(data_dir).post("/verify", {"deep": deep, "repair": repair}, timeout_s=VERIFY_TIMEOUT_S)
    if json_:
        _print_json(answer)
    else:
        from twinhull.cli.comparison import print_comparison

        print_comparison(answer)
    if not answer.get("equal") or answer.get("alarms"):
        raise typer.Exit(1)


@app.command()
def wait(
    *,
    timeout_s: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Give up after it.")] = _WAIT_TIMEOUT_S,
    json_: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Wait until every peer that answers has all that this node has."""
    answer = _agent(data_dir).get("/wait", {"timeout_s": timeout_s}, timeout_s=timeout_s + _MARGIN_S)
    if json_:
        _print_json(answer)
    elif answer.get("in_sync"):
        print("in sync")
    else:
        print(f"not in sync after {timeout_s:g} s")
        _print_members(answer.get("peers") or [])
    if not answer.get("in_sync"):
        raise typer.Exit(1)


@app.command()
def leave(*, data_dir: DataDirOption = None) -> None:
    """Take this node out of its cluster; it keeps its data and becomes a cluster of one."""
    _agent(data_dir).post("/leave")
    print("left")


@app.command()
def remove(node: NodeArgument, *, data_dir: DataDirOption = None) -> None:
    """Take another node out of the cluster; it need not be reachable, and must be invited again to come back."""
    answer = _agent(data_dir).post("/remove", {"node": node})
    print(f"removed {answer.get('node', node)}")


@app.command()
def replace(node: NodeArgument, *, data_dir: DataDirOption = None) -> None:
    """Take a node out that will not come back, and print a token with which a new one takes its place and name."""
    agent = _agent(data_dir)
    name = agent.post("/remove", {"node": node}).get("node", node)
    token = agent.post("/invite")["token"]
    print(f"removed {name}; run this on the new node, with the options of `twinhull serve`:")
    # As with invite, the token is the last word.
    print(f"twinhull cluster join --name {shlex.quote(str(name))} {token}")


@app.command()
def rotate(
    *,
    authority: Annotated[bool, typer.Option("--authority", help="Also the authority that signs the certificates.")] = False,
    sealing: Annotated[bool, typer.Option("--sealing", help="Also the key that seals passwords of other registries.")] = False,
    json_: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Renew the keys that sign tokens, and the certificates, on all nodes; requests go on meanwhile."""
    answer = _agent(data_dir).post("/rotate", {"authority": authority, "sealing": sealing})
    if json_:
        _print_json(answer)
        return
    print("rotation begun; each node does its part when all the others are ready for it")
    for waited_for in answer.get("pending") or []:
        print(f"  {waited_for}")


@app.command()
def durability(
    *,
    level: Annotated[str | None, typer.Option(metavar="LEVEL", help="local, metadata, full, or none.")] = None,
    on_peer_loss: Annotated[str | None, typer.Option(metavar="WHAT", help="degrade, refuse, or none.")] = None,
    json_: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Show what writes wait for, or set it for the whole cluster; with none, each node goes by its own settings again."""
    wanted = {"level": level, "on_peer_loss": on_peer_loss}
    asked: dict[str, object] = {name: "" if value == _UNSET else value for name, value in wanted.items() if value is not None}
    answer = _agent(data_dir).post("/durability", asked)
    if json_:
        _print_json(answer)
        return
    for name, option in (("level", "level"), ("on_peer_loss", "on peer loss")):
        cluster, node = answer["cluster"][name], answer["node"][name]
        print(f"{option}: {cluster or node} ({'the cluster' if cluster else 'this node'}'s setting)")


@app.command()
def pause(peer: PeerArgument = None, *, data_dir: DataDirOption = None) -> None:
    """Exchange nothing with the peer, or with any, until resume; writes do not wait for it."""
    answer = _agent(data_dir).post("/pause", {"peer": peer})
    print(f"paused: {_names(answer)}")


@app.command()
def resume(peer: PeerArgument = None, *, data_dir: DataDirOption = None) -> None:
    """Go on exchanging with the peer, or with all."""
    answer = _agent(data_dir).post("/resume", {"peer": peer})
    print(f"resumed: {_names(answer)}")


def _names(answer: dict[str, Any]) -> str:
    return ", ".join(str(name) for name in answer.get("peers") or []) or "no peer"


def _print_members(members: list[dict[str, Any]]) -> None:
    # Rich takes a tenth of a second to import, which --json and most commands need not pay.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from twinhull.cli.progress import human_bytes

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("node", "state", "changes behind", "bytes behind", "seconds behind", "for clients", "for peers"):
        table.add_column(heading, justify="right" if heading.endswith("behind") else "left", overflow="fold")
    for member in members:
        behind = member.get("lag_bytes")
        table.add_row(
            str(member.get("name", "?")),
            str(member.get("state", "?")),
            _shown(member.get("lag_changes")),
            "-" if behind is None else human_bytes(behind),
            _shown(member.get("lag_s")),
            _shown(member.get("address")),
            _shown(member.get("cluster_address")),
        )
    Console().print(table)


def _print_rates(members: list[dict[str, Any]]) -> None:
    from twinhull.cli.progress import human_bytes

    for member in members:
        came, went = (member.get(f"{way}_bytes_per_s") or 0 for way in ("received", "sent"))
        if came or went:
            print(f"{member.get('name', '?')}: {human_bytes(came)}/s of blobs in, {human_bytes(went)}/s out")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
