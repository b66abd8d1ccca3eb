"""What every registry client must be able to do, as test classes over a driver for one client each."""

from __future__ import annotations

import abc
import dataclasses
import secrets
from dataclasses import dataclass

import pytest

from tests.compat import wire
from tests.compat.held import Held
from tests.support.clients import ClientFailed
from tests.support.twins import Registry, Twins


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where something is pushed to or pulled from."""

    registry: Registry
    repository: str
    tag: str

    @property
    def name(self) -> str:
        """Return the name without the tag, as clients want it."""
        return f"{self.registry.address}/{self.repository}"

    @property
    def tagged(self) -> str:
        """Return the whole name."""
        return f"{self.name}:{self.tag}"

    def at(self, registry: Registry) -> Target:
        """Return the same name at another address."""
        return dataclasses.replace(self, registry=registry)

    def with_tag(self, tag: str) -> Target:
        """Return another tag of the same repository."""
        return dataclasses.replace(self, tag=tag)

    def served(self) -> str | None:
        """Return the digest that the registry serves here, or None."""
        return wire.digest_of(self.registry, self.repository, self.tag)


class Driver(abc.ABC):
    """One client: each method runs the real program, and raises ClientFailed when the program fails."""

    @abc.abstractmethod
    def login(self, registry: Registry) -> None:
        """Log in with the registry's user and password."""

    @abc.abstractmethod
    def push(self, target: Target, seed: str) -> Held:
        """Make content from the seed, push it, and return what a pull must give."""

    @abc.abstractmethod
    def pull(self, target: Target) -> Held:
        """Pull with nothing kept from before, and return what came."""


class ListingDriver(Driver):
    """A client that can list tags."""

    @abc.abstractmethod
    def tags(self, target: Target) -> list[str]:
        """Return the tags of the repository."""


class DeletingDriver(Driver):
    """A client that can delete from a registry."""

    @abc.abstractmethod
    def delete(self, target: Target) -> None:
        """Delete what the tag names."""


class IndexDriver(Driver):
    """A client that can move an image of several platforms as a whole."""

    @abc.abstractmethod
    def push_index(self, target: Target, seed: str) -> Held:
        """Make an index of two platforms from the seed, push it with its images, and return what a pull must give."""

    @abc.abstractmethod
    def pull_index(self, target: Target) -> Held:
        """Pull the index with its images, and return what came."""


def new_target(registry: Registry, tag: str = "1.0.0") -> Target:
    """Return a name in a repository that no other test has used."""
    return Target(registry=registry, repository=f"{registry.project}/app-{secrets.token_hex(6)}", tag=tag)


def delete_by(driver: Driver, target: Target) -> None:
    """Delete what the tag names by the client itself where it can, else by plain HTTP."""
    if isinstance(driver, DeletingDriver):
        driver.delete(target)
    else:
        wire.delete_manifest(target.registry, target.repository, target.tag)


class PushAndPull:
    """One registry, one client."""

    def test_pull_gives_what_was_pushed(self, driver: Driver, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        pushed = driver.push(target, "first")
        assert target.served() == pushed.digest
        assert driver.pull(target) == pushed

    def test_second_push_moves_the_tag(self, driver: Driver, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        first = driver.push(target, "first")
        second = driver.push(target, "second")
        assert first.digest != second.digest
        assert driver.pull(target) == second

    def test_pushing_the_same_again_changes_nothing(self, driver: Driver, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        assert driver.push(target, "same") == driver.push(target, "same")
        assert driver.pull(target).digest == target.served()

    def test_pull_of_an_unknown_tag_fails(self, driver: Driver, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        driver.push(target, "first")
        with pytest.raises(ClientFailed, match=r"(?i)unknown|not found|\b404\b"):
            driver.pull(target.with_tag("2.0.0"))

    def test_login_with_a_wrong_password_is_refused(self, driver: Driver, registry: Registry, stranger: str) -> None:
        with pytest.raises(ClientFailed, match=r"(?i)unauthorized|\b401\b|authentication required|invalid username/password"):
            driver.login(registry.seen_by(stranger, "Wrong-password-1"))

    def test_push_without_login_is_refused_and_leaves_nothing(self, driver: Driver, registry: Registry) -> None:
        target = new_target(registry)
        with pytest.raises(ClientFailed, match=r"(?i)unauthorized|\b401\b|authentication|denied|credential"):
            driver.push(target, "first")
        assert target.served() is None


class TagList:
    """A client that lists tags."""

    def test_all_tags_are_listed(self, driver: ListingDriver, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        for tag in ("0.2.0", "0.10.0", "0.1.0"):
            driver.push(target.with_tag(tag), tag)
        assert sorted(driver.tags(target)) == ["0.1.0", "0.10.0", "0.2.0"]


class Delete:
    """A client that deletes."""

    def test_deleted_tag_is_gone_and_the_others_stay(self, driver: DeletingDriver, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        kept = driver.push(target.with_tag("kept"), "kept")
        driver.push(target, "dropped")
        driver.delete(target)
        assert target.served() is None
        with pytest.raises(ClientFailed):
            driver.pull(target)
        assert driver.pull(target.with_tag("kept")) == kept


class Index:
    """A client that moves images of several platforms."""

    def test_index_comes_back_with_every_platform(self, driver: IndexDriver, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        pushed = driver.push_index(target, "many")
        assert target.served() == pushed.digest
        assert driver.pull_index(target) == pushed


class TwoMasters:
    """Both masters, one client: what one has acknowledged the other has at once."""

    @pytest.fixture(params=["a to b", "b to a"])
    def pair(self, request: pytest.FixtureRequest, twins: Twins, driver: Driver) -> tuple[Registry, Registry]:
        """Return the master to push to and the one to pull from, the client being logged in to both."""
        pair = (twins.a, twins.b) if request.param == "a to b" else (twins.b, twins.a)
        for registry in pair:
            driver.login(registry)
        return pair

    def test_pushed_to_one_is_pulled_from_the_other_at_once(self, driver: Driver, pair: tuple[Registry, Registry]) -> None:
        here, there = pair
        target = new_target(here)
        pushed = driver.push(target, "first")
        assert driver.pull(target.at(there)) == pushed

    def test_overwritten_tag_is_pulled_from_the_other_at_once(self, driver: Driver, pair: tuple[Registry, Registry]) -> None:
        here, there = pair
        target = new_target(here)
        first = driver.push(target, "first")
        assert driver.pull(target.at(there)) == first
        second = driver.push(target, "second")
        assert driver.pull(target.at(there)) == second

    def test_deleted_on_the_other_is_gone_here(self, driver: Driver, pair: tuple[Registry, Registry]) -> None:
        here, there = pair
        target = new_target(here)
        driver.push(target, "first")
        delete_by(driver, target.at(there))
        assert target.served() is None
        with pytest.raises(ClientFailed):
            driver.pull(target)

    def test_pushed_to_one_is_pulled_through_the_entrance(
        self, driver: Driver, twins: Twins, pair: tuple[Registry, Registry]
    ) -> None:
        here, _ = pair
        driver.login(twins.entrance)
        target = new_target(here)
        pushed = driver.push(target, "first")
        assert driver.pull(target.at(twins.entrance)) == pushed
