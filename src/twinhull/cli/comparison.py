"""What a comparison of nodes has found, as people read it."""

from __future__ import annotations

from typing import Any, Final

_SHOWN_MAX: Final = 20
_FAULTS: Final = {
    "record": "damaged record",
    "content": "wrong or missing bytes of the manifest",
    "rows": "query tables tell something else of",
    "blob": "missing or cut",
    "log": "change damaged or missing in the log of",
}


def print_comparison(answer: dict[str, Any]) -> None:
    """Print the answer to POST /verify."""
    _print_faults("this node", answer.get("faults") or [])
    for peer in answer.get("peers") or []:
        name = str(peer.get("name", "?"))
        print(f"{name}: {peer.get('error') or ('equal' if peer.get('equal') else 'differs')}")
        if peer.get("mended"):
            print(f"  records mended on either side: {peer['mended']}")
        if peer.get("settled") is False and not peer.get("error"):
            print("  changes kept flowing: what differs may only be on its way")
        _print_faults(name, peer.get("faults") or [])
        for found in peer.get("differing") or []:
            _print_kind(name, found)
        if peer.get("missing_blobs"):
            print(f"  blobs not there yet: {peer['missing_blobs']}")
    if answer.get("missing_blobs"):
        print(f"blobs not here yet: {answer['missing_blobs']}")
    for alarm in answer.get("alarms") or []:
        print(f"{alarm.get('name', '?')}: {alarm.get('message', '')}")
    print("equal" if answer.get("equal") else "not equal")


def _print_kind(peer: str, found: dict[str, Any]) -> None:
    keys = [str(key) for key in found.get("keys") or []]
    here, there = set(found.get("only_here") or ()), set(found.get("only_there") or ())
    print(f"  {found.get('kind', '?')}: {found.get('count', len(keys))} differ")
    for key in keys[:_SHOWN_MAX]:
        print(f"    {key}: {f'{peer} lacks it' if key in here else 'this node lacks it' if key in there else 'not alike'}")
    if len(keys) > _SHOWN_MAX:
        print("    …; --json lists more")


def _print_faults(node: str, faults: list[dict[str, Any]]) -> None:
    for fault in faults[:_SHOWN_MAX]:
        outcome = "mended" if fault.get("mended") else "not mended"
        print(f"  {node}: {_FAULTS.get(str(fault.get('what')), '?')} {fault.get('kind')} {fault.get('key')}: {outcome}")
    if len(faults) > _SHOWN_MAX:
        print(f"  {node}: {len(faults) - _SHOWN_MAX} faults more; --json lists them")
