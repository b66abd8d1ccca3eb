"""Docker 20.10, client and daemon, against the masters and their entrance."""

from __future__ import annotations

import pytest

from tests.compat import held
from tests.compat.contract import Index, PushAndPull, TwoMasters, new_target
from tests.compat.docker import Docker
from tests.support import images
from tests.support.clients import ClientFailed
from tests.support.twins import Registry


class TestDocker(PushAndPull, Index, TwoMasters):
    @pytest.fixture
    def driver(self, docker: Docker) -> Docker:
        return docker

    def test_built_image_is_pushed_and_pulled(self, driver: Docker, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        context = driver.home.new_path()
        context.mkdir()
        (context / "Dockerfile").write_text("FROM scratch\nCOPY words /srv/words\nLABEL made=here\n")
        (context / "words").write_text("built by the test\n")
        driver.run("build", "--tag", target.tagged, context)
        built = driver.run("image", "inspect", "--format={{.Id}}", target.tagged)
        digest = driver.push_local(target)
        assert target.served() == digest
        assert driver.pull(target).digest == digest
        assert driver.run("image", "inspect", "--format={{.Id}}", target.tagged) == built

    def test_imported_root_file_system_is_pushed_and_pulled(self, driver: Docker, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        tar = driver.home.new_path()
        tar.write_bytes(images.layer("imported", 100_000))
        driver.run("import", tar, target.tagged)
        digest = driver.push_local(target)
        layer = held.sha256_of(tar)
        pulled = driver.pull(target)
        assert pulled.digest == digest
        assert pulled.content[1:] == (layer,)

    def test_pull_by_digest_gives_the_image_after_its_tag_moved(self, driver: Docker, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        first = driver.push(target, "first")
        driver.push(target, "second")
        driver.forget_images()
        name = f"{target.name}@{first.digest}"
        driver.run("pull", name)
        archive = driver.home.new_path()
        driver.run("save", "--output", archive, name)
        assert held.in_archive(archive) == first.content

    def test_all_tags_are_pushed_and_pulled_at_once(self, driver: Docker, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        tags = {target.with_tag(tag) for tag in ("1.0.0", "1.1.0", "latest")}
        for each in tags:
            driver.run(
                "load", "--input", images.write_archive(driver.home.new_path(), images.image(each.tag), name=each.tagged)
            )
        driver.run("push", "--all-tags", target.name)
        driver.forget_images()
        driver.run("pull", "--all-tags", target.name)
        assert set(driver.run("image", "ls", "--format={{.Tag}}", target.name).split()) == {each.tag for each in tags}

    def test_logged_out_client_is_refused(self, driver: Docker, registry: Registry) -> None:
        driver.login(registry)
        target = new_target(registry)
        driver.push(target, "first")
        driver.run("logout", registry.address)
        with pytest.raises(ClientFailed, match=r"(?i)unauthorized|no basic auth|denied|authentication required"):
            driver.push_local(target)
