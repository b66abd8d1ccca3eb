"""What tools/install_clients.py lists, what it takes for asked for, and when a missing client is a failure."""

from __future__ import annotations

import pytest

from tests.support.clients import SYSTEM_PATHS
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
