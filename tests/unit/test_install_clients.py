"""What tools/install_clients.py lists, what it takes for asked for, and when a missing client is a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.clients import NODE_MODULES, PYTHON, SYSTEM_PATHS
from tools import install_clients

NOWHERE = install_clients.DebianClient(name="nowhere", packages=("nowhere", "nowhere-data"), probe="/nowhere/bin/*")


class TestCatalogue:
    def test_every_system_program_that_tests_ask_for_is_installed_by_a_row(self) -> None:
        probes = {
            client.probe for client in install_clients.read_catalogue() if isinstance(client, install_clients.DebianClient)
        }
        # These two come with dockerd's row and with every Debian.
        given = {SYSTEM_PATHS["docker"], SYSTEM_PATHS["setpriv"]}
        assert set(SYSTEM_PATHS.values()) - given <= probes

    def test_go_clients_have_a_fixed_version(self) -> None:
        clients = [client for client in install_clients.read_catalogue() if isinstance(client, install_clients.GoClient)]
        assert {client.name for client in clients} == {"crane", "oras", "regctl", "helm"}
        assert all(
            client.source().endswith(f"@{client.version}") and client.version[:2] in {"v0", "v1", "v3"} for client in clients
        )

    def test_pinned_clients_come_after_what_they_run_on_and_their_pins_are_there(self) -> None:
        clients = [client for client in install_clients.read_catalogue() if isinstance(client, install_clients.PinnedClients)]
        assert [client.folder for client in clients] == [PYTHON.resolve(), NODE_MODULES.parent.resolve()]
        assert install_clients.NODE_BIN == PYTHON / "bin"
        for client in clients:
            assert len(client.fingerprint()) == 64

    def test_pinned_clients_are_there_once_just_these_pins_were_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install_clients, "ROOT", tmp_path)
        pins = tmp_path / "pins.txt"
        pins.write_text("client==1\n")
        client = install_clients.PythonClients(name="python", pins=(pins,))
        assert not client.present()
        client.folder.mkdir(parents=True)
        client.marker.write_text(client.fingerprint())
        assert client.present()
        pins.write_text("client==2\n")
        assert not client.present()

    def test_packages_for_node_are_locked_at_the_versions_that_are_asked_for(self) -> None:
        folder = install_clients.ROOT / "tools" / "npm"
        asked = json.loads((folder / "package.json").read_text())["dependencies"]
        locked = json.loads((folder / "package-lock.json").read_text())["packages"]
        assert {name: locked[f"node_modules/{name}"]["version"] for name in asked} == asked
        assert all(row["integrity"].startswith("sha512-") and "resolved" not in row for name, row in locked.items() if name)


class TestChoice:
    def test_named_clients_alone_are_chosen(self) -> None:
        chosen = install_clients.choose(install_clients.read_catalogue(), ["oras", "skopeo"])
        assert [client.name for client in chosen] == ["skopeo", "oras"]

    def test_unknown_name_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(install_clients.InstallError, match=r"no client is called nope; there are: .*helm"):
            install_clients.choose(install_clients.read_catalogue(), ["nope", "oras"])

    def test_command_fails_for_an_unknown_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert install_clients.main(["--only", "nope"]) == 1
        assert "error: no client is called nope" in capsys.readouterr().err


class TestReport:
    @pytest.mark.parametrize(("strict", "code"), [(True, 1), (False, 0)])
    def test_missing_client_is_a_failure_only_when_it_must_be_there(
        self, strict: bool, code: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert not NOWHERE.present()
        assert install_clients.report_missing([NOWHERE], strict=strict) == code
        assert "missing: nowhere (Debian packages nowhere nowhere-data)" in capsys.readouterr().out

    def test_nothing_missing_is_a_success(self) -> None:
        assert install_clients.report_missing([], strict=True) == 0
