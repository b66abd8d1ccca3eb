"""Passwords are judged as Harbor judges them, stored hashed, remembered for a short while, and hard to guess."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from twinhull.auth import passwords
from twinhull.auth.passwords import (
    GuessBrake,
    GuessLimits,
    PasswordChecker,
    VerifiedPasswords,
    fingerprint,
    hash_password,
    hash_secret,
    new_secret,
    random_text,
    require_strong,
    verify,
)
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Invalid, LoginSlowedDown


@pytest.mark.parametrize("password", ["Passw0rd", "Harbor12345", "äÖ1aA567", "Aa1" + "x" * 119, "Aa1\n5678"])
def test_strong_password_is_taken(password: str) -> None:
    require_strong(password, "the password")


@pytest.mark.parametrize(
    "password", ["", "short1A", "alllowercase1", "ALLUPPER1", "NoDigitsHere", "Aa1" + "x" * 5000, "Aa1aaaaa\ud800"]
)
def test_weak_password_is_refused_in_harbors_words(password: str) -> None:
    with pytest.raises(
        Invalid, match="must longer than 8 chars with at least 1 uppercase letter, 1 lowercase letter and 1 number"
    ):
        require_strong(password, "the password or secret")


def test_stored_password_is_argon2id_and_tells_right_from_wrong() -> None:
    stored = hash_password("Passw0rd1")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert verify("Passw0rd1", stored)
    assert not verify("Passw0rd2", stored)
    assert hash_password("Passw0rd1") != stored


def test_unknown_user_costs_the_same_hash_as_a_wrong_password() -> None:
    nobody: str = vars(passwords)["_NOBODY"]
    assert nobody.split("$")[:4] == hash_password("Passw0rd1").split("$")[:4]
    assert not verify("Passw0rd1", None)


@pytest.mark.parametrize("stored", ["", "garbage", "$argon2id$v=19$broken"])
def test_password_is_wrong_when_what_is_stored_cannot_be_read(stored: str) -> None:
    assert not verify("Passw0rd1", stored)


def test_password_that_is_no_text_is_wrong() -> None:
    assert not verify("\ud800", hash_password("Passw0rd1"))
    assert not verify("\ud800", hash_secret("x"))


def test_robot_secret_is_stored_salted_and_tells_right_from_wrong() -> None:
    secret = new_secret()
    stored = hash_secret(secret)
    assert secret not in stored
    assert verify(secret, stored)
    assert not verify(secret + "x", stored)
    assert not verify("", stored)
    assert hash_secret(secret) != stored


def test_new_secret_has_32_letters_and_digits_and_passes_the_rule() -> None:
    for _ in range(200):
        secret = new_secret()
        assert len(secret) == 32
        assert secret.isascii()
        assert secret.isalnum()
        require_strong(secret, "the secret")


def test_random_text_skips_bytes_that_would_make_some_letters_likelier() -> None:
    given = iter([bytes([255, 0, 248, 61, 247]), bytes([62, 1, 2, 3, 4])])
    assert random_text(5, lambda _: next(given)) == "A9" + "9" + "AB"


def test_fingerprint_changes_with_the_stored_hash() -> None:
    first, second = hash_secret("a"), hash_secret("a")
    assert fingerprint(first) == fingerprint(first) != fingerprint(second)


def test_verified_password_is_known_until_it_runs_out_or_the_stored_hash_changes() -> None:
    clock = ManualClock()
    verified = VerifiedPasswords(clock=clock, ttl_s=60)
    verified.remember("alice", "Passw0rd1", "stored")
    assert verified.knows("alice", "Passw0rd1", "stored")
    assert not verified.knows("alice", "Passw0rd2", "stored")
    assert not verified.knows("alic", "ePassw0rd1", "stored")
    assert not verified.knows("alice", "Passw0rd1", "changed")
    clock.advance(60_000)
    assert not verified.knows("alice", "Passw0rd1", "stored")
    assert len(verified) == 0


def test_verified_passwords_are_kept_in_bounded_memory_and_not_in_the_clear() -> None:
    verified = VerifiedPasswords(clock=ManualClock(), entries_max=3)
    for number in range(10):
        verified.remember(f"u{number}", "Passw0rd1", "stored")
    assert len(verified) == 3
    assert "Passw0rd1" not in repr(vars(verified))


def fail(brake: GuessBrake, user: str, address: str, times: int) -> None:
    for _ in range(times):
        brake.failed(user, address)


def test_repeated_wrong_passwords_have_to_wait_longer_and_longer() -> None:
    clock = ManualClock()
    brake = GuessBrake(clock=clock, limits=GuessLimits(pair_max=3, first_wait_s=1, wait_s_max=5))
    fail(brake, "alice", "10.0.0.1", 2)
    brake.check("alice", "10.0.0.1")
    waits = []
    for _ in range(5):
        brake.failed("alice", "10.0.0.1")
        with pytest.raises(LoginSlowedDown) as slowed:
            brake.check("alice", "10.0.0.1")
        waits.append(slowed.value.retry_after_s)
        clock.advance(slowed.value.retry_after_s * 1000)
        brake.check("alice", "10.0.0.1")
    assert waits == [1, 2, 4, 5, 5]


def test_other_user_from_the_same_address_gets_a_try_while_the_address_waits() -> None:
    brake = GuessBrake(clock=ManualClock(), limits=GuessLimits(pair_max=100, address_max=3))
    for user in ("u1", "u2", "u3"):
        brake.failed(user, "10.0.0.1")
    brake.check("alice", "10.0.0.1")
    with pytest.raises(LoginSlowedDown):
        brake.check("u1", "10.0.0.1")
    brake.failed("alice", "10.0.0.1")
    with pytest.raises(LoginSlowedDown):
        brake.check("alice", "10.0.0.1")
    brake.check("alice", "10.0.0.2")


def test_user_guessed_at_from_many_addresses_is_slowed_down_too() -> None:
    brake = GuessBrake(clock=ManualClock(), limits=GuessLimits(user_max=4))
    for number in range(4):
        brake.failed("alice", f"10.0.0.{number}")
    with pytest.raises(LoginSlowedDown):
        brake.check("alice", "10.9.9.9")
    brake.check("bob", "10.9.9.9")


def test_right_password_clears_the_users_count_but_not_the_addresss() -> None:
    brake = GuessBrake(clock=ManualClock(), limits=GuessLimits(pair_max=3, address_max=3))
    fail(brake, "mallory", "10.0.0.1", 1)
    fail(brake, "alice", "10.0.0.1", 2)
    brake.succeeded("mallory", "10.0.0.1")
    with pytest.raises(LoginSlowedDown):
        brake.check("alice", "10.0.0.1")
    brake.check("mallory", "10.0.0.1")


def test_failures_are_forgotten_after_a_while() -> None:
    clock = ManualClock()
    brake = GuessBrake(clock=clock, limits=GuessLimits(pair_max=3, forget_after_s=60))
    fail(brake, "alice", "10.0.0.1", 2)
    clock.advance(61_000)
    fail(brake, "alice", "10.0.0.1", 2)
    brake.check("alice", "10.0.0.1")


def test_counts_are_kept_in_bounded_memory_whatever_names_are_tried() -> None:
    brake = GuessBrake(clock=ManualClock(), limits=GuessLimits(entries_max=30))
    for number in range(100):
        brake.failed("x" * 10_000 + str(number), "10.0.0.1")
    assert len(brake) == 30
    assert max(len(key[0]) for key in vars(brake)["_failures"]) <= 64


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def checker(executor: ThreadPoolExecutor, clock: ManualClock, **limits: int) -> PasswordChecker:
    brake = GuessBrake(clock=clock, limits=GuessLimits(**limits))
    return PasswordChecker(verified=VerifiedPasswords(clock=clock), brake=brake, executor=executor)


async def test_remembered_password_passes_while_others_guess(executor: ThreadPoolExecutor) -> None:
    check = checker(executor, ManualClock(), pair_max=1, user_max=1)
    stored = hash_password("Passw0rd1")
    assert await check.is_right("alice", "Passw0rd1", stored, address="10.0.0.1")
    assert not await check.is_right("alice", "wrong", stored, address="10.0.0.2")
    with pytest.raises(LoginSlowedDown):
        await check.is_right("alice", "wrong", stored, address="10.0.0.2")
    assert await check.is_right("alice", "Passw0rd1", stored, address="10.0.0.1")
    with pytest.raises(LoginSlowedDown):
        await check.is_right("alice", "Passw0rd1", hash_password("Passw0rd1"), address="10.0.0.1")


async def test_guesses_made_at_once_are_counted_before_each_is_tried(executor: ThreadPoolExecutor) -> None:
    check = checker(executor, ManualClock(), pair_max=3)
    tries = [check.is_right("alice", f"wrong{number}", None, address="10.0.0.1") for number in range(20)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    tried = [result for result in results if result is False]
    assert len(tried) <= 4
    assert sum(isinstance(result, LoginSlowedDown) for result in results) == 20 - len(tried)


async def test_hashes_that_wait_are_limited(executor: ThreadPoolExecutor) -> None:
    clock = ManualClock()
    check = PasswordChecker(
        verified=VerifiedPasswords(clock=clock), brake=GuessBrake(clock=clock), executor=executor, waiting_max=3
    )
    results = await asyncio.gather(*(check.hash("Passw0rd1") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, LoginSlowedDown) for result in results) == 2
    assert sum(isinstance(result, str) for result in results) == 3
