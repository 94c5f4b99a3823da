"""Proxies of the environment: which hosts go through them, how, and under which policy."""

import logging
import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme
from support.manifests import encoded_image
from support.proxy import Proxy, proxy_server
from support.web_server import Answer, WebServer, reset_client, web_server
from urllib3.util import parse_url

from aigid.errors import UsageError
from aigid.storage import HostHeader, WebSettings, exists, http_errors, locate
from aigid.storage.http import download
from aigid.storage.http_errors import ProxyFailedError, RefusalReason, RefusedError
from aigid.storage.proxies import bypasses, proxy_for

LIMIT = 1 << 20


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    reset_client(monkeypatch)
    with web_server() as server:
        yield server


@pytest.fixture
def proxy(site: WebServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy for all URLs that knows images.example, and the server behind it."""
    with proxy_server() as running:
        running.hosts["images.example"] = ("127.0.0.1", site.port)
        monkeypatch.setenv("ALL_PROXY", f"http://{running.address}")
        yield running


def resolve(monkeypatch: pytest.MonkeyPatch, **hosts: str) -> list[str]:
    """Resolve these hosts (named with _ for a dot) and addresses alone. Returns all look-ups."""
    real, lookups = socket.getaddrinfo, []
    known = {name.replace("_", "."): address for name, address in hosts.items()}

    def look_up(host: str, *rest: object, **more: object) -> object:
        lookups.append(host)
        if "example" in host and host not in known:
            raise socket.gaierror("unknown")
        return real(known.get(host, host), *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return lookups


def public_download(url: str, **settings: object) -> bytes:
    return download(url, LIMIT, allow_private=False, settings=WebSettings(**settings))  # type: ignore[arg-type]


def test_http_is_asked_from_the_proxy(
    site: WebServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, images_example="93.184.216.34")
    site.serve("/a%20b.png?x=1", Answer(b"data"))
    assert public_download("http://user:pass@images.example/a b.png?x=1#top") == b"data"
    assert proxy.requests == ["GET http://images.example/a%20b.png?x=1"]
    assert proxy.headers[0]["Host"] == "images.example"


def test_https_goes_through_a_tunnel_and_the_certificate_is_the_server_s(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("images.example").configure_cert(context)
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    resolve(monkeypatch, images_example="93.184.216.34", other_example="93.184.216.34")
    with web_server(context) as server:
        server.serve("/x.png", Answer(b"data"))
        proxy.hosts = dict.fromkeys(("images.example", "other.example"), ("127.0.0.1", server.port))
        for _ in range(2):
            assert public_download("https://images.example/x.png", user_agent="me") == b"data"
        assert proxy.requests == ["CONNECT images.example:443"]
        # Only the server may see them, which is behind the tunnel.
        assert proxy.headers[0]["User-Agent"] is None
        assert server.headers[0]["User-Agent"] == "me"
        with pytest.raises(RefusedError) as caught:
            public_download("https://other.example/x.png")
    assert caught.value.reason is RefusalReason.TLS


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_the_variables_may_be_in_either_case(
    variable: str, proxy: Proxy, site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALL_PROXY")
    monkeypatch.setenv(variable, proxy.address)
    site.serve("/x.png", Answer(b"data"))
    assert download("http://images.example/x.png", LIMIT, allow_private=True) == b"data"
    assert proxy.requests == ["GET http://images.example/x.png"]


def test_the_lower_case_goes_before_and_an_empty_one_means_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = parse_url("https://images.example/")
    monkeypatch.setenv("ALL_PROXY", "all.example")
    monkeypatch.setenv("HTTPS_PROXY", "upper.example:1")
    assert proxy_for(url).url == "http://upper.example:1"  # type: ignore[union-attr]
    monkeypatch.setenv("https_proxy", "https://lower.example")
    found = proxy_for(url)
    assert found is not None
    assert (found.url, found.variable) == ("https://lower.example:443", "https_proxy")
    assert proxy_for(parse_url("http://x/")).url == "http://all.example:80"  # type: ignore[union-attr]
    monkeypatch.setenv("https_proxy", "")
    assert proxy_for(url) is None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_user_and_password_of_a_proxy_are_sent_to_it_alone_and_never_shown(
    scheme: str, proxy: Proxy, site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://me%40x:S%C3%A9CRET@{proxy.address}")
    site.serve("/x.png", Answer(b"data"))
    resolve(monkeypatch, images_example="93.184.216.34")
    proxy.refusal = 407
    with pytest.raises(ProxyFailedError) as caught:
        public_download(f"{scheme}://images.example/x.png")
    assert str(caught.value) == (
        f"the proxy http://{proxy.address} (ALL_PROXY) answers 407: check the user and the "
        "password in its URL"
    )
    # me@x:SéCRET
    assert proxy.headers[0]["Proxy-Authorization"] == "Basic bWVAeDpTw6lDUkVU"
    assert "CRET" not in repr(proxy_for(parse_url(f"{scheme}://images.example/x.png")))
    if scheme == "http":
        proxy.refusal = None
        assert public_download("http://images.example/x.png") == b"data"


def test_a_proxy_that_is_down_fails_every_request(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://me:SECRET@127.0.0.1:1")
    for scheme in ("http", "https"):
        with pytest.raises(ProxyFailedError) as caught:
            download(f"{scheme}://images.example/x.png", LIMIT, allow_private=True)
        text = "the proxy http://127.0.0.1:1 (ALL_PROXY) cannot be reached: check it"
        assert str(caught.value) == text


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, RefusedError), (502, http_errors.UnreachableError), (504, http_errors.UnreachableError)],
)
def test_a_tunnel_that_the_proxy_refuses_is_that_url_s_failure(
    status: int, kind: type[Exception], proxy: Proxy
) -> None:
    proxy.refusal = status
    with pytest.raises(kind, match=f"^the proxy answers {status}$"):
        download("https://images.example/x.png", LIMIT, allow_private=True)


PRIVATE = [
    "127.0.0.1",
    "10.0.0.7",
    "169.254.169.254",
    "[::1]",
    "[::ffff:10.0.0.7]",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "inside.example",
    "INSIDE.example",
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", PRIVATE)
def test_what_is_private_here_is_not_asked_from_the_proxy(
    host: str, scheme: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, inside_example="10.1.2.3")
    with pytest.raises(RefusedError, match="is not public: ") as caught:
        public_download(f"{scheme}://{host}/x.png")
    assert caught.value.reason is RefusalReason.PRIVATE_ADDRESS
    assert proxy.requests == []


def test_a_redirect_to_a_private_host_is_not_asked_from_the_proxy(
    proxy: Proxy, site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, images_example="93.184.216.34")
    target = (("Location", "http://169.254.169.254/latest"),)
    site.serve("/to", Answer(status=302, headers=target))
    with pytest.raises(RefusedError, match="is not public: 169"):
        public_download("http://images.example/to")
    assert proxy.requests == ["GET http://images.example/to"]


def test_a_host_that_resolves_at_the_proxy_alone_is_asked_and_a_warning_says_so_once(
    proxy: Proxy,
    site: WebServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lookups = resolve(monkeypatch)
    site.serve("/x.png", Answer(b"data"))
    proxy.hosts["second.example"] = proxy.hosts["images.example"]
    with caplog.at_level(logging.WARNING):
        for host in ("images.example", "images.example", "second.example"):
            assert public_download(f"http://{host}/x.png") == b"data"
    assert [record.getMessage() for record in caplog.records] == [
        "images.example does not resolve here, only at the proxy: aigid cannot check that such "
        "hosts have public addresses; have the proxy refuse private ones"
    ]
    # The name server may be slow, and is asked once for a host.
    assert lookups.count("images.example") == 1


def test_private_addresses_may_be_allowed_through_a_proxy_too(
    proxy: Proxy, site: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    site.serve("/x.png", Answer(b"data"))
    proxy.hosts["10.0.0.7"] = proxy.hosts["images.example"]
    assert download("http://10.0.0.7/x.png", LIMIT, allow_private=True) == b"data"
    assert download("http://images.example/x.png", LIMIT, allow_private=True) == b"data"
    assert not caplog.records


def test_a_host_of_no_proxy_is_asked_directly_under_the_same_policy(
    proxy: Proxy, site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = site.serve("/x.png", Answer(b"data"))
    monkeypatch.setenv("NO_PROXY", "other.example, localhost")
    assert download(url, LIMIT, allow_private=True) == b"data"
    with pytest.raises(RefusedError, match="is not public"):
        public_download(url)
    assert proxy.requests == []


NO_PROXY = [
    ("example.com", "http://example.com/", True),
    ("example.com", "http://EXAMPLE.com/", True),
    ("example.com", "http://a.b.example.com/", True),
    ("example.com", "http://badexample.com/", False),
    ("example.com", "http://example.com.evil.org/", False),
    (".example.com", "http://example.com/", True),
    (".example.com", "http://a.example.com/", True),
    ("*.example.com", "http://a.example.com/", True),
    ("example.com.", "http://example.com/", True),
    ("example.com:8080", "http://example.com:8080/", True),
    ("example.com:8080", "http://example.com/", False),
    ("example.com:443", "https://example.com/", True),
    ("example.com:80", "http://a.example.com/", True),
    ("*", "http://anything.example/", True),
    ("*", "http://[2001:db8::1]/", True),
    ("", "http://example.com/", False),
    (",, ,", "http://example.com/", False),
    ("a.org,example.com", "http://example.com/", True),
    ("a.org example.com", "http://example.com/", True),
    ("10.0.0.7", "http://10.0.0.7/", True),
    ("10.0.0.7", "http://10.0.0.77/", False),
    ("0.0.7", "http://10.0.0.7/", False),
    ("10.0.0.0/8", "http://10.200.3.4/", True),
    ("10.0.0.0/8", "http://11.0.0.1/", False),
    ("10.0.0.1/8", "http://10.200.3.4/", True),
    ("10.0.0.7:81", "http://10.0.0.7:81/", True),
    ("10.0.0.7:81", "http://10.0.0.7/", False),
    ("::1", "http://[::1]/", True),
    ("[::1]", "http://[::1]:9/", True),
    ("[::1]:8080", "http://[::1]:8080/", True),
    ("[::1]:8080", "http://[::1]/", False),
    ("fd00::/8", "http://[fd12::3]/", True),
    ("fd00::/8", "http://[2001:db8::1]/", False),
    ("10.0.0.0/8", "http://ten.example/", False),
    ("10.0.0.0/99", "http://10.0.0.1/", False),
    ("1", "http://10.0.0.1/", False),
]


@pytest.mark.parametrize(("no_proxy", "url", "direct"), NO_PROXY)
def test_what_no_proxy_lists_is_asked_directly(no_proxy: str, url: str, direct: bool) -> None:
    assert bypasses(parse_url(url), no_proxy) == direct


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks5://me:SECRET@host:1", "socks5:// proxies are not supported: give http://"),
        ("http://me:SECRET@", "is not the URL of a proxy: give http://HOST:PORT"),
        ("http://me:SECRET@host:port", "is not the URL of a proxy"),
        ("file:///SECRET", "file:// proxies are not supported"),
    ],
)
def test_what_is_no_proxy_is_refused_without_its_secrets(
    value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(UsageError, match="^HTTPS_PROXY") as caught:
        download("https://images.example/x.png", LIMIT, allow_private=True)
    assert message in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_manifest_is_read_through_the_proxy(
    proxy: Proxy, site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch)
    site.serve("/m.parquet", Answer(encoded_image(0), ranges=True))
    assert exists(locate("http://images.example/m.parquet"))
    assert proxy.requests == ["GET http://images.example/m.parquet"]


def test_a_header_for_a_host_is_not_for_the_proxy(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, images_example="93.184.216.34")
    header = HostHeader("images.example", "Authorization", "SECRET")
    proxy.refusal = 502
    with pytest.raises(http_errors.UnreachableError):
        public_download("https://images.example/x.png", headers=(header,))
    assert proxy.headers[0]["Authorization"] is None
