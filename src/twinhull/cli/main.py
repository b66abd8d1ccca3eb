"""`twinhull`: finds the command, loads only that one, and turns failures into messages and exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from twinhull.kit.errors import SettingsInvalid, TwinhullError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2


class _Lazy(NamedTuple):
    """Where a command is, and what `twinhull --help` says of it without loading it."""

    module: str
    attribute: str
    help: str


COMMANDS: Final = {
    "serve": _Lazy("twinhull.cli.serve", "serve", "Run one node until it is stopped."),
    "up": _Lazy("twinhull.cli.up", "up", "Run two nodes and the gateway on loopback."),
    "cluster": _Lazy("twinhull.cli.cluster", "app", "Invite, join, look at and look after the nodes."),
    "gateway": _Lazy("twinhull.cli.gateway", "gateway", "Run nginx as the one address in front of the nodes."),
    "gc": _Lazy("twinhull.cli.gc", "gc", "Remove blobs that nothing names any more."),
    "scrub": _Lazy("twinhull.cli.scrub", "scrub", "Hash every blob again, and mend what has rotted."),
    "backup": _Lazy("twinhull.cli.backup", "backup", "Write a whole node into one file, while it serves."),
    "restore": _Lazy("twinhull.cli.backup", "restore", "Make a node anew from a backup."),
    "reset-admin-password": _Lazy("twinhull.cli.admin", "reset_admin_password", "Give the administrator a new password."),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - the signature is typer's
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - the signature is typer's
        """Return a stand-in that has the name and the help, which is all that help and completion ask for."""
        lazy = COMMANDS.get(cmd_name)
        return TyperCommand(cmd_name, help=lazy.help) if lazy else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - the signature is typer's
        """Return the real command for what is to be called."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, load_command(str(name)) if stand_in is not None else None, rest


def load_command(name: str) -> Any:  # noqa: ANN401 - typer's class for it is private
    """Return the command of this name, imported."""
    lazy = COMMANDS[name]
    found = getattr(importlib.import_module(lazy.module), lazy.attribute)
    if isinstance(found, typer.Typer):
        return get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, help=found.__doc__)(found)
    return get_command(single)


app: Final = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback(help="A container registry whose nodes are all masters.")
def _twinhull() -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name, and return the exit code."""
    try:
        outcome = get_command(app)(list(arguments), prog_name="twinhull", standalone_mode=False)
    except typer.TyperException as error:
        return _refused(error)
    except (typer.Abort, KeyboardInterrupt):
        return FAILED
    except TwinhullError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return USAGE if isinstance(error, SettingsInvalid) else FAILED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        return FAILED
    return outcome if isinstance(outcome, int) else DONE


def _refused(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return USAGE
    print(f"error: {message[:1].lower()}{message[1:].rstrip('.')}", file=sys.stderr)
    command = context.command_path if context is not None else "twinhull"
    print(f"  see `{command} --help`", file=sys.stderr)
    return USAGE


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
