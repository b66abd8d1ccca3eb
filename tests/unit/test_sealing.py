"""Secrets that only the cluster's nodes can read."""

from __future__ import annotations

import pytest

from twinhull.auth.sealing import Sealer, key_id
from twinhull.kit.errors import Invalid, Unavailable

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
SECRET = "пароль of the other registry 密码"


def test_sealed_secret_comes_back_and_shows_nothing_of_itself() -> None:
    sealer = Sealer(lambda: [OLD])
    sealed = sealer.seal(SECRET)
    assert sealer.unseal(sealed) == SECRET
    assert "registry" not in sealed
    assert sealer.seal(SECRET) != sealed
    assert sealer.unseal(sealer.seal("")) == ""


def test_what_was_sealed_before_a_rotation_is_read_after_it() -> None:
    keys = [OLD]
    sealer, elsewhere = Sealer(lambda: keys), Sealer(lambda: keys)
    before = sealer.seal(SECRET)
    assert elsewhere.unseal(before) == SECRET
    keys.insert(0, NEW)
    after = sealer.seal(SECRET)
    assert key_id(NEW) in after
    assert [elsewhere.unseal(sealed) for sealed in (before, after)] == [SECRET, SECRET]


def test_secret_without_its_key_is_unavailable_until_the_key_comes() -> None:
    sealed = Sealer(lambda: [NEW]).seal(SECRET)
    keys = [OLD]
    late = Sealer(lambda: keys)
    with pytest.raises(Unavailable, match=key_id(NEW)) as failed:
        late.unseal(sealed)
    assert "peers" in failed.value.hint
    keys.append(NEW)
    assert late.unseal(sealed) == SECRET


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda _: "Harbor12345",
        lambda sealed: sealed.rpartition(":")[0],
        lambda sealed: sealed[:-8],
        lambda sealed: sealed[:-4] + ("AAA=" if not sealed.endswith("AAA=") else "BBB="),
        lambda sealed: sealed.rpartition(":")[0] + ":",
        lambda sealed: sealed + "\N{SNOWMAN}",
    ],
)
def test_what_was_never_sealed_or_was_changed_is_refused(damage: object) -> None:
    sealer = Sealer(lambda: [OLD])
    assert callable(damage)
    with pytest.raises(Invalid):
        sealer.unseal(damage(sealer.seal(SECRET)))
