"""Settings: what is read from where, which source wins, what is refused and how the way out is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from twinhull.config.harbor_yml import parse_harbor_yml
from twinhull.config.load import Loaded, load_settings
from twinhull.config.settings import SETTINGS, Settings, build_settings
from twinhull.config.values import Address, DurabilityLevel, LogLevel, Networks, Secret
from twinhull.kit.errors import SettingsInvalid

# The file of Harbor's own installer, as most people have it: comments left out.
SAMPLE = """
hostname: reg.mydomain.com
http:
  port: 80
https:
  port: 443
  certificate: /your/certificate/path
  private_key: /your/private/key/path
harbor_admin_password: Harbor12345
database:
  password: root123
  max_idle_conns: 50
  max_open_conns: 1000
data_volume: /data
trivy:
  ignore_unfixed: false
  skip_update: false
  insecure: false
jobservice:
  max_job_workers: 10
notification:
  webhook_job_max_retry: 10
chart:
  absolute_url: disabled
log:
  level: info
  local:
    rotate_count: 50
    rotate_size: 200M
    location: /var/log/harbor
_version: 2.2.0
proxy:
  http_proxy:
  https_proxy:
  no_proxy:
  components:
    - core
    - jobservice
    - trivy
"""


def load(
    yml: str | None = None, tmp_path: Path | None = None, environ: Mapping[str, str] | None = None, **options: object
) -> Loaded:
    """Return settings from these sources."""
    config = None
    if yml is not None and tmp_path is not None:
        config = tmp_path / "harbor.yml"
        config.write_text(yml, encoding="utf-8")
    return load_settings(config, environ or {}, options)


class TestHarborsFile:
    def test_sample_file_is_taken_as_it_is(self, tmp_path: Path) -> None:
        settings, warnings = load(SAMPLE, tmp_path)
        assert settings.external_url == "https://reg.mydomain.com"
        assert settings.listen == Address.parse(":80")
        assert settings.admin_password == Secret("Harbor12345")
        assert settings.data_dir == Path("/data")
        assert settings.jobs.workers_max == 10
        assert settings.log.level is LogLevel.INFO
        reported = "\n".join(warnings)
        for key in ("https.certificate", "trivy.skip_update", "log.local.location", "proxy.components", "chart.absolute_url"):
            assert f"{key} is known and has no effect here" in reported
        for key in ("hostname", "http.port", "data_volume", "_version", "http_proxy"):
            assert key not in reported

    def test_external_url_wins_over_hostname(self) -> None:
        values = parse_harbor_yml("hostname: one.example\nexternal_url: https://two.example:8443/\n").values
        assert values["external_url"] == "https://two.example:8443"

    def test_hostname_gets_the_port_when_it_is_not_the_usual_one(self) -> None:
        assert parse_harbor_yml("hostname: h\nhttp: {port: 8080}").values["external_url"] == "http://h:8080"
        assert parse_harbor_yml("hostname: h\nhttp: {port: 80}").values["external_url"] == "http://h"

    def test_external_database_becomes_a_url_with_its_parts_quoted(self) -> None:
        values = parse_harbor_yml(
            "external_database: {harbor: {host: db, port: 5433, db_name: reg, username: 'a@b', password: 'p/w:1', "
            "ssl_mode: disable, max_open_conns: 0}}"
        ).values
        assert values["database.url"] == "postgresql+psycopg://a%40b:p%2Fw%3A1@db:5433/reg?sslmode=disable"
        assert "database.connections_max" not in values

    def test_password_of_digits_keeps_its_zeros(self) -> None:
        assert parse_harbor_yml("harbor_admin_password: 0123").values["admin_password"] == "0123"

    def test_durations_are_gos(self) -> None:
        assert parse_harbor_yml("upload_purging: {age: 1h30m}").values["limits.upload_idle_s"] == "5400.0"
        with pytest.raises(SettingsInvalid, match=r"upload_purging.age: 'a week' is not a duration"):
            parse_harbor_yml("upload_purging: {age: a week}")

    def test_fatal_is_critical(self) -> None:
        assert parse_harbor_yml("log: {level: fatal}").values["log.level"] == "critical"

    def test_ours_stand_under_twinhull_and_win(self, tmp_path: Path) -> None:
        ours = "{data_dir: /srv, durability: {level: full, full_copies: 2}, cluster_listen: ':7000'}"
        yml = f"data_volume: /data\ntwinhull: {ours}\n"
        settings, warnings = load(yml, tmp_path)
        assert settings.data_dir == Path("/srv")
        assert settings.durability.level is DurabilityLevel.FULL
        assert settings.durability.full_copies == 2
        assert settings.cluster_address == Address.parse(":7000")
        assert warnings == ()

    @pytest.mark.parametrize(
        ("yml", "key", "nearest"),
        [
            ("hostnam: x", "hostnam", "hostname"),
            ("http: {prot: 80}", "http.prot", "http.port"),
            ("harbor_admin_pasword: x", "harbor_admin_pasword", "harbor_admin_password"),
            (
                "twinhull: {durability: {ack_timeout: 1}}",
                "twinhull.durability.ack_timeout",
                "twinhull.durability.ack_timeout_s",
            ),
            ("workers: 3", "workers", "twinhull.workers"),
        ],
    )
    def test_unknown_key_is_refused_with_the_nearest_known_one(self, yml: str, key: str, nearest: str) -> None:
        with pytest.raises(SettingsInvalid) as refused:
            parse_harbor_yml(yml)
        assert refused.value.message == f"harbor.yml: unknown key {key}"
        assert refused.value.hint == f"did you mean {nearest}?"

    @pytest.mark.parametrize("yml", ["- a\n- b", "just text", "a: [1, 2", "\t: 1", "a: *nobody"])
    def test_what_is_no_mapping_is_refused(self, yml: str) -> None:
        with pytest.raises(SettingsInvalid):
            parse_harbor_yml(yml)

    @pytest.mark.parametrize("yml", ["", "# nothing\n", "twinhull:\n", "proxy:\n"])
    def test_empty_file_and_empty_sections_say_nothing(self, yml: str) -> None:
        assert parse_harbor_yml(yml).values == {}

    def test_python_objects_in_yaml_are_not_made(self) -> None:
        with pytest.raises(SettingsInvalid, match="unknown key"):
            parse_harbor_yml("x: !!python/object/apply:os.system ['true']")

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsInvalid, match=r"cannot read .*none\.yml: No such file"):
            load_settings(tmp_path / "none.yml", {}, {})


class TestOrder:
    def test_each_source_wins_over_the_one_before(self, tmp_path: Path) -> None:
        yml = "twinhull: {name: file, workers: 3, log: {level: error}}"
        environ = {"TWINHULL_NAME": "environment", "TWINHULL_WORKERS": "4"}
        settings, _ = load(yml, tmp_path, environ, name="option", workers=None)
        assert (settings.name, settings.workers, settings.log.level) == ("option", 4, LogLevel.ERROR)
        assert settings.durability.ack_timeout_s == 2.0

    def test_password_of_the_environment_is_only_a_fallback(self, tmp_path: Path) -> None:
        environ = {"TWINHULL_ADMIN_PASSWORD": "from environment"}
        assert load(None, None, environ).settings.admin_password == Secret("from environment")
        assert load("harbor_admin_password: from file", tmp_path, environ).settings.admin_password == Secret("from file")

    def test_file_can_be_named_by_the_environment(self, tmp_path: Path) -> None:
        (tmp_path / "h.yml").write_text("twinhull: {name: x}", encoding="utf-8")
        assert load(None, None, {"TWINHULL_CONFIG": str(tmp_path / "h.yml")}).settings.name == "x"

    def test_empty_variable_is_as_good_as_none(self) -> None:
        assert load(None, None, {"TWINHULL_WORKERS": ""}).settings.workers == Settings().workers

    def test_unknown_variable_is_reported_not_refused(self) -> None:
        _, warnings = load(None, None, {"TWINHULL_WORKRES": "3", "TWINHULL_TEST_TWINS": "x", "PATH": "/bin"})
        assert warnings == ("environment: TWINHULL_WORKRES is not a setting; did you mean TWINHULL_WORKERS?",)

    @pytest.mark.parametrize("path", sorted(SETTINGS))
    def test_every_setting_can_be_set_by_its_variable(self, path: str) -> None:
        info = SETTINGS[path]
        text = {int: "7", float: "7.5", bool: str(not info.default), Address: "127.0.0.1:7"}.get(info.kind)
        text = text or {
            "durability.level": "local",
            "durability.on_peer_loss": "refuse",
            "log.level": "debug",
            "log.format": "json",
            "external_url": "https://x.example",
            "database.url": "postgresql+psycopg://u@h/d",
            "limits.connection_backlog": "256",
            "cluster.advertise": "h:1",
            "trusted_proxies": "10.0.0.0/8",
            "transfer.limits": "far=5@08:00-18:00",
        }.get(path, "127.0.0.1:7")
        if path == "limits.connection_backlog":
            text = "256"
        if path == "limits.page_size_max":
            text = "70"
        if path == "compaction.keep_changes":
            text = "20000"
        settings: object = load(None, None, {info.variable: text}).settings
        for name in path.split("."):
            settings = getattr(settings, name)
        assert settings != info.default


class TestValues:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
            ("[::1]:80", Address("::1", 80)),
            ("host.example:0", Address("host.example", 0)),
        ],
    )
    def test_address_is_read_and_written(self, text: str, address: Address) -> None:
        assert Address.parse(text) == address
        assert Address.parse(str(address)) == address

    @pytest.mark.parametrize("text", ["", "8080", "host", "host:", "host:99999", "::1:80", "h:8o", "h:٣", "h:-1"])
    def test_what_is_no_address_is_refused(self, text: str) -> None:
        with pytest.raises(SettingsInvalid, match="is not an address"):
            Address.parse(text)

    def test_networks_contain_addresses(self) -> None:
        networks = Networks.parse("10.0.0.0/8, ::1, 192.0.2.7")
        assert "10.1.2.3" in networks
        assert "192.0.2.7" in networks
        assert "::1" in networks
        assert "11.0.0.1" not in networks
        assert "no address" not in networks

    @pytest.mark.parametrize(
        ("variable", "text", "said"),
        [
            ("TWINHULL_WORKERS", "many", "workers: 'many' is not a whole number"),
            ("TWINHULL_WORKERS", "0", "workers must be from 1 to 64"),
            ("TWINHULL_LOG_ACCESS", "maybe", "log.access: 'maybe' is neither true nor false"),
            ("TWINHULL_DURABILITY_LEVEL", "most", "durability.level: 'most' is not one of local, metadata, full"),
            ("TWINHULL_DURABILITY_ACK_TIMEOUT_S", "inf", "durability.ack_timeout_s: 'inf' is not a finite number"),
            ("TWINHULL_DURABILITY_ACK_TIMEOUT_S", "0", "durability.ack_timeout_s must be more than 0"),
            ("TWINHULL_EXTERNAL_URL", "reg.example", "external_url 'reg.example' must begin with http:// or https://"),
            ("TWINHULL_DATABASE_URL", "mysql://x", "database.url must begin with postgresql"),
            ("TWINHULL_LIMITS_PAGE_SIZE", "101", "limits.page_size must not be more than limits.page_size_max"),
            ("TWINHULL_LIMITS_MANIFEST_SIZE_BYTES", "0", "limits.manifest_size_bytes must be at least 1"),
            ("TWINHULL_TRUSTED_PROXIES", "10.0.0.0/99", "trusted_proxies: "),
            ("TWINHULL_LISTEN", "80", "listen: '80' is not an address"),
        ],
    )
    def test_bad_value_is_refused_by_name(self, variable: str, text: str, said: str) -> None:
        with pytest.raises(SettingsInvalid) as refused:
            load(None, None, {variable: text})
        assert refused.value.message.startswith(said)

    @pytest.mark.parametrize(("text", "size"), [("4MiB", 4 << 20), ("2 GB", 2_000_000_000), ("1_000", 1000), ("12", 12)])
    def test_sizes_may_have_units(self, text: str, size: int) -> None:
        assert load(None, None, {"TWINHULL_LIMITS_UPLOAD_SIZE_BYTES": text}).settings.limits.upload_size_bytes == size

    def test_secrets_show_nowhere(self) -> None:
        secret = Secret("hunter2")
        settings = build_settings({"admin_password": "hunter2", "database.url": "postgresql+psycopg://u:hunter2@h/d"})
        for text in (repr(secret), str(secret), f"{secret}", repr(settings), f"{settings}"):
            assert "hunter2" not in text
            assert "***" in text
        assert secret.reveal() == "hunter2"
        assert secret == Secret("hunter2")
        assert secret != "hunter2"

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Settings().workers = 3  # type: ignore[misc]


class TestDerived:
    def test_cluster_port_is_the_clients_plus_200(self) -> None:
        assert build_settings({"listen": "127.0.0.1:8081"}).cluster_address == Address("127.0.0.1", 8281)
        assert build_settings({"listen": "127.0.0.1:65500"}).cluster_address == Address("127.0.0.1", 65300)

    def test_peers_are_told_an_address_they_can_dial(self) -> None:
        assert not build_settings({"listen": ":8080"}).advertised_address.is_everywhere
        assert build_settings({"cluster.advertise": "a.example:1"}).advertised_address == Address("a.example", 1)
        assert build_settings({"listen": "192.0.2.1:80"}).advertised_address == Address("192.0.2.1", 280)

    def test_database_is_sqlite_in_the_data_directory(self) -> None:
        assert build_settings({"data_dir": "/srv/x"}).database_url.reveal() == "sqlite:////srv/x/metadata.db"

    def test_every_setting_says_what_it_is_for(self) -> None:
        for info in SETTINGS.values():
            assert len(info.doc) > 10, info.path
