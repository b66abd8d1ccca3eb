"""Puts a node's settings together, in one order: defaults, then harbor.yml, then the environment, then the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from twinhull.config.harbor_yml import HarborFile, read_harbor_yml
from twinhull.config.settings import SETTINGS, Settings, build_settings
from twinhull.kit import fail_points

_VARIABLES: Final = {info.variable: path for path, info in SETTINGS.items()}
# The file named by --config can come from the environment too; it is the only variable that is not a setting.
CONFIG_VARIABLE: Final = "TWINHULL_CONFIG"
# Variables of our own test suite and tools; they are no settings of a node and no typing mistake.
_FOREIGN: Final = ("TWINHULL_TEST_", "TWINHULL_BENCH_", fail_points.VARIABLE)


class Loaded(NamedTuple):
    """Settings, and what was given for them without having any effect: worth a warning, never a stop."""

    settings: Settings
    warnings: tuple[str, ...]


def load_settings(config: Path | None, environ: Mapping[str, str], options: Mapping[str, object]) -> Loaded:
    """Return the settings, a later source winning over an earlier one, or raise SettingsInvalid.

    `options` are by path; None stands for an option that was not given. There is one exception to the order: the
    administrator's first password of harbor.yml comes before TWINHULL_ADMIN_PASSWORD, which is a fallback.
    """
    config = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    file = read_harbor_yml(config) if config else HarborFile({}, ())
    variables = {path: environ[name] for name, path in _VARIABLES.items() if environ.get(name)}
    given = {path: value for path, value in options.items() if value is not None}
    values: dict[str, object] = {**file.values, **variables, **given}
    if file.values.get("admin_password"):
        values["admin_password"] = file.values["admin_password"]
    warnings = [f"{config}: {key} is known and has no effect here" for key in file.without_effect]
    return Loaded(build_settings(values), (*warnings, *_unknown_variables(environ)))


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    warnings = []
    for name in sorted(environ):
        if not name.startswith("TWINHULL_") or name in _VARIABLES or name == CONFIG_VARIABLE or name.startswith(_FOREIGN):
            continue
        nearest = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=0.6)
        warnings.append(f"environment: {name} is not a setting" + (f"; did you mean {nearest[0]}?" if nearest else ""))
    return warnings
