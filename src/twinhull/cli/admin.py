"""`twinhull reset-admin-password`: the way back in for who has lost it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from twinhull.cli.options import ConfigOption, DataDirOption
from twinhull.kit.errors import SettingsInvalid


def reset_admin_password(
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the new password from standard input; else one is made up.")
    ] = False,
) -> None:
    """Give the administrator a new password, on every node; the node may be running or not."""
    from twinhull.config.load import load_settings
    from twinhull.config.values import Secret

    settings = load_settings(config, os.environ, {"data_dir": data_dir}).settings
    if not (settings.data_dir / "node").is_dir():
        raise SettingsInvalid(f"{settings.data_dir} is not a node's data directory", hint="name it with --data-dir")
    wanted = Secret(sys.stdin.readline().rstrip("\r\n")) if password_stdin else None
    if wanted is not None and not wanted:
        raise SettingsInvalid("no password came in", hint="echo PASSWORD | twinhull reset-admin-password --password-stdin")
    # Opens the node's database: the whole program is imported only when it is really to be done.
    from twinhull.kit.clock import SystemClock
    from twinhull.node import start
    from twinhull.observe.log import configure_logging

    configure_logging(settings.log, SystemClock(), fields={"process": "reset-admin-password"})
    password = start.reset_admin_password(settings, wanted)
    print("password of admin is changed")
    if wanted is None:
        print(f"new password, shown only now: {password.reveal()}")
