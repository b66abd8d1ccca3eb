"""The mutants can still be put into the program, and the tests that are to notice them are there."""

from __future__ import annotations

import pytest

from tools.mutants.catalogue import ROOT, Mutant, read_mutants

MUTANTS = {mutant.name: mutant for mutant in read_mutants()}


def test_names_are_told_apart() -> None:
    assert len(MUTANTS) == len(read_mutants()) > 20


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_changes_the_program_and_leaves_it_one(name: str) -> None:
    mutant = MUTANTS[name]
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    mutated = mutant.applied_to(source)
    assert mutated != source
    compile(mutated, mutant.file, "exec")
    assert all((ROOT / test).is_file() for test in mutant.tests)


def test_mutant_whose_text_is_gone_is_refused() -> None:
    gone = Mutant(name="gone", file="x.py", old="a rule", new="", tests=())
    for source in ("", "a rule, and a rule"):
        with pytest.raises(ValueError, match="not once"):
            gone.applied_to(source)
