"""`make mutants`: runs the tests against each mutant and prints which of them noticed; exit 1 if one went unnoticed.

Usage: python -m tools.mutants [WORDS OF A NAME …]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tools.mutants.catalogue import Mutant, copy_tree, put_into, read_mutants

_TIMEOUT_S: Final = 900
# Pytest's exit code for "some test failed"; anything else says that the tests did not run.
_FAILED: Final = 1


def main() -> int:
    """Return 0 when the tests pass without a mutant, and each mutant is noticed."""
    wanted = " ".join(sys.argv[1:])
    mutants = [mutant for mutant in read_mutants() if wanted in mutant.name]
    if not mutants:
        print(f"no mutant's name has {wanted!r} in it", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        everything = sorted({test for mutant in mutants for test in mutant.tests})
        code, output = _run(tree, everything)
        if code:
            print(output, f"the tests fail without any mutant ({code})", sep="\n", file=sys.stderr)
            return 1
        unnoticed = [mutant for mutant in mutants if not _is_noticed(tree, mutant)]
    print(f"{len(mutants)} mutants, {len(unnoticed)} unnoticed")
    return 1 if unnoticed else 0


def _is_noticed(tree: Path, mutant: Mutant) -> bool:
    put_back = put_into(tree, mutant)
    began_s = time.monotonic()
    code, output = _run(tree, mutant.tests)
    put_back()
    noticed = code == _FAILED
    by = next((line.removeprefix("FAILED ") for line in output.splitlines() if line.startswith("FAILED ")), f"exit code {code}")
    verdict = "noticed  " if noticed else "UNNOTICED"
    print(f"{verdict} {time.monotonic() - began_s:6.1f} s  {mutant.name}\n{'':20}{by.partition(' - ')[0]}", flush=True)
    return noticed


def _run(tree: Path, tests: tuple[str, ...] | list[str]) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "PYTHONDONTWRITEBYTECODE": "1"}
    # PostgreSQL holds the same rules, and takes long.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-rf", "--tb=no", "-p", "no:cacheprovider", "-k", "not postgres"]
    done = subprocess.run(
        [*command, *tests], cwd=tree, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
