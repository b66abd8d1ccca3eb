"""`twinhull backup` and `twinhull restore`: a whole node as one file."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from twinhull.cli.options import ConfigOption, DataDirOption
from twinhull.kit.errors import Conflict, NotFound, SettingsInvalid, StorageFull, Unavailable

_STREAM: Final = "-"

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="The backup; - for standard output or input.")]


def backup(file: FileArgument, *, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Write the node's metadata, keys and blobs into one file; the node may be serving meanwhile."""
    from twinhull.config.load import load_settings

    settings = load_settings(config, os.environ, {"data_dir": data_dir}).settings
    if not (settings.data_dir / "node").is_dir():
        raise SettingsInvalid(f"{settings.data_dir} is not a node's data directory", hint="name it with --data-dir")
    # Opens the node's database: the whole program is imported only when it is really to be done.
    from twinhull.cli.progress import human_bytes, transfer_progress
    from twinhull.node.backup import back_up

    with _sink(file) as sink, transfer_progress("backup") as track:
        trailer = back_up(settings, sink, track)
    _say(f"{trailer.blobs} blobs, {human_bytes(trailer.blob_bytes)}")
    if trailer.missing:
        _say(f"warning: {trailer.missing} blobs had not arrived on this node; they are not in the backup, but with its peers")
    if trailer.rotten:
        _say(f"warning: {len(trailer.rotten)} blobs are rotten, the first is {trailer.rotten[0]}; run `twinhull scrub`")


def restore(
    file: FileArgument,
    *,
    check: Annotated[bool, typer.Option("--check", help="Only read the backup, and tell whether it is whole.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a node anew from a backup, in an empty data directory; start it with `twinhull serve` then."""
    from twinhull.config.load import load_settings

    settings = load_settings(config, os.environ, {"data_dir": data_dir}).settings
    from twinhull.cli.progress import human_bytes, transfer_progress
    from twinhull.kit.clock import rfc3339
    from twinhull.node.backup import restore as restore_node
    from twinhull.upkeep.restoring import check as check_backup

    with _source(file) as source, transfer_progress("check" if check else "restore") as track:
        header, trailer = check_backup(source, track) if check else restore_node(settings, source, track)
    done = f"is restored in {settings.data_dir}" if not check else f"of {rfc3339(header.created_ms)} is whole in the backup"
    print(f"node {header.name} {done}: {trailer.blobs} blobs, {human_bytes(trailer.blob_bytes)}")
    absent = trailer.missing + len(trailer.rotten)
    if absent:
        _say(f"warning: {absent} blobs were not in the backup, or rotten; the node fetches them from its peers")


@contextlib.contextmanager
def _sink(file: str) -> Iterator[BinaryIO]:
    """Give where to write; a file gets its name when it is whole, and nobody else may read it."""
    if file == _STREAM:
        if sys.stdout.isatty():
            raise SettingsInvalid("a backup is not written to a terminal", hint="twinhull backup - | zstd > FILE")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    partial = path.with_name(path.name + ".partial")
    if path.exists():
        raise Conflict(f"{path} exists already", hint="choose another name, or remove it")
    try:
        with open(partial, "wb", opener=_private) as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        failure = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else Unavailable
        raise failure(f"cannot write {path}: {error.strerror}") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == _STREAM:
        yield sys.stdin.buffer
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below; a failure in between is the reader's
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error
    with source:
        yield source


def _say(text: str) -> None:
    # Standard output may be the backup.
    print(text, file=sys.stderr)
