"""The gateway's settings and nginx's file made of them: what is refused, and what must stand in the file."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinhull.gateway.nginx import CURRENT, Nginx, parse_build
from twinhull.gateway.render import render
from twinhull.gateway.settings import Address, Backend, GatewaySettings, gateway_settings, quoted_path, read_gateway_toml
from twinhull.kit.errors import SettingsInvalid, Unavailable

ROOT = Path(__file__).parents[2]
LEAST: dict[str, object] = {"backends": ["http://10.0.0.1:8081", "http://10.0.0.2:8082"], "listen": ["0.0.0.0:80"]}
TLS: dict[str, object] = {"tls_listen": ["[::]:443"], "certificate": "/etc/twinhull/a b.pem", "key": "/etc/twinhull/密钥.key"}
RUN_DIR = Path("/run/twinhull")


def rendered(changes: dict[str, object], nginx: Nginx = CURRENT) -> str:
    return render(gateway_settings(LEAST | changes), run_dir=RUN_DIR, nginx=nginx)


def directives(text: str, name: str) -> list[str]:
    return re.findall(rf"^\s*{name} (.*);$", text, re.MULTILINE)


def test_least_settings_pass_everything_through() -> None:
    text = rendered({})
    assert directives(text, "client_max_body_size") == ["0"]
    assert directives(text, "proxy_request_buffering") == directives(text, "proxy_buffering") == ["off"]
    assert directives(text, "proxy_read_timeout") == ["900s"]
    assert directives(text, "proxy_pass") == ["http://twinhull_nodes"]
    assert directives(text, "proxy_next_upstream") == ["error timeout"]
    assert directives(text, "server") == ["10.0.0.1:8081 max_fails=0", "10.0.0.2:8082 max_fails=0"]
    assert directives(text, "listen") == ["0.0.0.0:80"]
    assert "ip_hash" not in text
    assert "ssl" not in text


def test_node_that_is_down_keeps_its_place() -> None:
    settings = gateway_settings(LEAST | {"affinity": "ip"})
    first, second = settings.backends
    text = render(settings, run_dir=RUN_DIR, down={first}, addresses={first: "10.0.0.1:8081", second: None})
    assert directives(text, "server") == ["10.0.0.1:8081 down", "127.0.0.1:9 down"]
    assert "ip_hash;" in text


def test_tls_entrance_and_redirect() -> None:
    text = rendered(TLS | {"redirect": True})
    assert directives(text, "ssl_certificate") == ['"/etc/twinhull/a b.pem"']
    assert directives(text, "ssl_certificate_key") == ['"/etc/twinhull/密钥.key"']
    assert directives(text, "ssl_protocols") == ["TLSv1.2 TLSv1.3"]
    assert directives(text, "return")[0] == "308 https://$host$request_uri"
    assert (
        directives(rendered(TLS | {"tls_listen": [":8443"], "redirect": True}), "return")[0]
        == "308 https://$host:8443$request_uri"
    )
    assert directives(rendered(TLS), "proxy_pass") == ["http://twinhull_nodes"] * 2


def test_syntax_follows_the_version_of_nginx() -> None:
    old = rendered(TLS | {"http2": True}, Nginx(binary=Path("/nginx"), version=(1, 22, 1), temp_modules=("proxy",)))
    new = rendered(TLS | {"http2": True}, Nginx(binary=Path("/nginx"), version=(1, 31, 3)))
    assert directives(old, "listen")[1] == "[::]:443 ssl http2"
    assert directives(new, "listen")[1] == "[::]:443 ssl"
    assert directives(new, "http2") == ["on"]
    assert directives(old, "http2") == directives(old, "keepalive_min_timeout") == directives(old, "uwsgi_temp_path") == []
    assert directives(new, "uwsgi_temp_path") == ['"/run/twinhull/uwsgi_temp"']


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"backends": []}, "needs a node"),
        ({"backends": ["http://a:1", "http://a:1"]}, "named twice"),
        ({"backends": ["http://a:1/path"]}, "more than an address"),
        ({"backends": ["http://user:word@a:1"]}, "more than an address"),
        ({"backends": ["https://a:1"]}, "speaks TLS"),
        ({"backends": ["ftp://a:1"]}, "more than an address"),
        ({"backends": ["http://a:99999"]}, "is not a URL"),
        ({"backends": ["http://a b:1"]}, "is not an address"),
        ({"backends": ["http://a;}:1"]}, "is not an address"),
        ({"backends": ["http://$host:1"]}, "is not an address"),
        ({"backends": ["unix:/run/x"]}, "is not an address"),
        ({"backends": ["10.0.0.999:1"]}, "is not an address"),
        ({"backends": ["a:0"]}, "is not an address"),
        ({"backends": "x" * 300 + ":1"}, "is not an address"),
        ({"backends": [1]}, "list of texts"),
        ({"listen": []}, "needs an address"),
        ({"listen": ["80"]}, "is not an address"),
        ({"listen": ["0.0.0.0:80 ssl"]}, "is not an address"),
        ({"listen": ["0.0.0.0:80\n"]}, None),
        ({"listen": ["[::1%lo]:80"]}, "is not an IPv6 address"),
        ({"listen": ["0.0.0.0:80", ":80"]}, "named twice"),
        ({"listen": ["0.0.0.0:８０"]}, "is not an address"),  # noqa: RUF001 - full-width digits are digits to Python
        ({"tls_listen": [":443"]}, "needs a certificate"),
        ({"redirect": True}, "no TLS entrance"),
        ({"redirect": "yes"}, "true or false"),
        (TLS | {"certificate": "relative.pem"}, "can't be used"),
        (TLS | {"certificate": '/a"; load_module x;'}, "can't be used"),
        (TLS | {"key": "/a/$host"}, "can't be used"),
        (TLS | {"key": "/a\nb"}, "can't be used"),
        ({"access_log": "/var/log/a\\"}, "can't be used"),
        ({"access_log": "syslog:server=1.2.3.4"}, "can't be used"),
        ({"access_log_format": "xml"}, "one of json, text"),
        ({"affinity": "cookie"}, "one of none, ip"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "is not a network"),
        ({"trusted_proxies": ["10.0.0.0/8; }"]}, "is not a network"),
        ({"user": "nobody; daemon on"}, "is not valid"),
        ({"workers": 0}, "from 1 to 256"),
        ({"workers": True}, "must be a number"),
        ({"workers": 1.5}, "from 1 to 256"),
        ({"timeout_s": "900"}, "must be a number"),
        ({"check_interval_s": float("nan")}, "from 0.01"),
        ({"bakend": ["a:1"]}, "did you mean backends"),
    ],
)
def test_bad_settings_are_refused_by_name(changes: dict[str, object], complaint: str | None) -> None:
    if complaint is None:
        assert gateway_settings(LEAST | changes).listen == (Address("0.0.0.0", 80),)  # noqa: S104 - a value, not a socket
        return
    with pytest.raises(SettingsInvalid, match=re.escape(complaint)):
        gateway_settings(LEAST | changes)


def test_run_directory_that_nginx_would_misread_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="can't be used"):
        render(gateway_settings(LEAST), run_dir=Path('/run/"x'))


@given(st.text(max_size=40))
def test_no_text_escapes_from_its_place(text: str) -> None:
    """Whatever is taken as an address is one nginx word, and whatever is taken as a path is one quoted nginx word."""
    for prefix in ("", "http://"):
        try:
            backend = Backend.parse(f"{prefix}{text}")
        except SettingsInvalid:
            continue
        assert re.fullmatch(r"[A-Za-z0-9.-]+:[0-9]+|\[[0-9a-fA-F:.]+\]:[0-9]+", str(backend.address))
    try:
        quoted = quoted_path(f"/{text}")
    except SettingsInvalid:
        return
    assert re.fullmatch(r'"[^"\\$\x00-\x1f]*"', quoted)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://registry-a:8080", "http://registry-a:8080"),
        ("http://registry-a/", "http://registry-a:80"),
        ("10.0.0.1:8081", "http://10.0.0.1:8081"),
        ("http://[2001:db8::1]:8081", "http://[2001:db8::1]:8081"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_backends_are_written_as_urls_or_addresses(text: str, url: str) -> None:
    assert Backend.parse(text).url == url


def test_file_may_use_the_names_of_the_options(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        'backend = ["http://a:1", "http://b:2"]\nlisten = "0.0.0.0:80"\ntls_listen = [":443"]\n'
        'cert = "tls/a.pem"\nkey = "/k.pem"\ntrusted_proxy = ["10.0.0.0/8"]\naccess_log = "off"\nworkers = 4\n'
    )
    settings = gateway_settings(read_gateway_toml(file))
    assert [backend.url for backend in settings.backends] == ["http://a:1", "http://b:2"]
    assert (settings.certificate, settings.key) == (tmp_path / "tls/a.pem", Path("/k.pem"))
    assert (settings.trusted_proxies, settings.workers) == (("10.0.0.0/8",), 4)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("cert = '/a'\ncertificate = '/b'", "has both"), ("listen = [", "can't be read"), ("\xff", "can't be read")],
)
def test_file_that_makes_no_sense_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(SettingsInvalid, match=complaint):
        read_gateway_toml(file)


DEBIAN = (
    "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.15\n"
    "configure arguments: --with-http_ssl_module --with-http_realip_module --with-http_v2_module"
)


def test_build_is_read_from_what_nginx_says() -> None:
    found = parse_build(Path("/nginx"), f"{DEBIAN} --without-http_uwsgi_module")
    assert (found.version, found.version_text) == ((1, 22, 1), "1.22.1")
    assert found.temp_modules == ("client_body", "proxy", "fastcgi", "scgi")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (DEBIAN.replace("1.22.1", "1.18.0"), "too old"),
        (DEBIAN.replace("--with-http_realip_module", ""), "built without http_realip"),
        ("hello", "is not an nginx"),
    ],
)
def test_nginx_that_will_not_do_is_refused(said: str, complaint: str) -> None:
    with pytest.raises(Unavailable, match=complaint):
        parse_build(Path("/nginx"), said)


@pytest.mark.parametrize("page", ["gateway.md", "gateway.zh.md"])
def test_every_setting_is_documented(page: str) -> None:
    text = (ROOT / "docs/operating" / page).read_text(encoding="utf-8")
    assert [field.name for field in fields(GatewaySettings) if f"`{field.name}`" not in text] == []
