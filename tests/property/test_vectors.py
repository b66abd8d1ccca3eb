"""Version vectors form a lattice, and missing counts what separates two of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinhull.records.change import VersionVector, covers, joined, missing

VECTORS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 4))


@given(VECTORS, VECTORS)
def test_joined_vector_is_the_least_that_covers_both(ours: VersionVector, theirs: VersionVector) -> None:
    both = joined(ours, theirs)
    assert both == joined(theirs, ours)
    assert covers(both, ours)
    assert covers(both, theirs)
    assert all(seq in (ours.get(origin, 0), theirs.get(origin, 0)) for origin, seq in both.items())
    assert covers(ours, theirs) == (missing(ours, theirs) == 0)
    assert missing(ours, both) == missing(ours, theirs)
