"""Which addresses count as public, and that downloads connect to no others unless allowed."""

import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme
from support.web_server import Answer, WebServer, make_public, reset_client, web_server

from aigid.storage import connections, public_addresses
from aigid.storage.http import download
from aigid.storage.http_errors import RefusalReason, RefusedError
from aigid.storage.public_addresses import is_public

LIMIT = 1 << 20


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    reset_client(monkeypatch)
    with web_server() as server:
        yield server


def public_download(url: str) -> bytes:
    return download(url, LIMIT, allow_private=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a9fe:a9fe::1", False),
        ("2002:5db8:d822::1", True),
        # Metadata services outside of the private ranges: Azure, Oracle, Alibaba.
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("100.100.100.200", False),
        ("::ffff:168.63.129.16", False),
        ("64:ff9b::a83f:8110", False),
        # Forms of IPv6 that lead to an IPv4 address: local NAT64, compatible, translated, Teredo.
        ("64:ff9b:1::a9fe:a9fe", False),
        ("::169.254.169.254", False),
        ("::93.184.216.34", False),
        ("::ffff:0:169.254.169.254", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        # Site-local, discard, segment routing, documentation, reserved.
        ("fec0::1", False),
        ("100::1", False),
        ("5f00::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("4000::1", False),
        ("192.0.0.9", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("203.0.113.7", False),
        ("240.0.0.1", False),
        # Beside special ranges.
        ("100.63.255.255", True),
        ("100.128.0.0", True),
        ("168.63.129.17", True),
        ("172.32.0.1", True),
        ("192.0.1.1", True),
        ("223.255.255.255", True),
        ("2001:4860:4860::8888", True),
        ("2a00:1450:4001::1", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "127.1"],
)
def test_private_addresses_are_refused_in_every_spelling(site: WebServer, host: str) -> None:
    site.serve("/x.png", Answer(b"secret"))
    with pytest.raises(RefusedError, match="^the address of .* is not public: ") as caught:
        public_download(f"http://{host}:{site.port}/x.png")
    assert caught.value.reason is RefusalReason.PRIVATE_ADDRESS
    assert site.requests == []


def test_a_redirect_to_a_private_address_is_refused(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first host stands for a public server.
    make_public(monkeypatch, "127.0.0.1", "::1")
    target = f"http://127.0.0.2:{site.port}/x.png"
    url = site.serve("/to", Answer(status=302, headers=(("Location", target),)))
    site.serve("/x.png", Answer(b"secret"))
    with pytest.raises(RefusedError, match=r"127\.0\.0\.2"):
        public_download(url.replace("localhost", "127.0.0.1"))
    assert site.requests == ["/to"]


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, host: str, *answers: list[str], port: int
) -> list[str]:
    """Have a host resolve to these addresses, in turn. Returns the record of its look-ups."""
    real, left, lookups = socket.getaddrinfo, list(answers), []

    def resolve(name: str, *rest: object, **more: object) -> object:
        if name != host:
            return real(name, *rest, **more)
        lookups.append(name)
        found = [real(address, port, type=socket.SOCK_STREAM) for address in left.pop(0)]
        return [info for infos in found for info in infos]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return lookups


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name server that answers with a public address first, and then with a private one.
    make_public(monkeypatch, "127.0.0.1")
    lookups = resolve_to(
        monkeypatch, "rebinding.example", ["127.0.0.1"], ["127.0.0.2"], port=site.port
    )
    site.serve("/x.png", Answer(b"data"))
    assert public_download(f"http://rebinding.example:{site.port}/x.png") == b"data"
    assert len(lookups) == 1


def test_a_host_with_one_private_address_among_others_is_refused(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_public(monkeypatch, "127.0.0.1")
    resolve_to(monkeypatch, "mixed.example", ["127.0.0.1", "127.0.0.2"], port=site.port)
    with pytest.raises(RefusedError, match=r"mixed\.example is not public: 127\.0\.0\.2"):
        public_download(f"http://mixed.example:{site.port}/x.png")
    assert site.requests == []


def test_over_tls_the_certificate_must_be_for_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setattr(public_addresses, "is_public", lambda address: True)
    connections._connections.cache_clear()
    with web_server(context) as server:
        url = server.serve("/x.png", Answer(b"data"))
        assert public_download(url) == b"data"
        with pytest.raises(RefusedError) as caught:
            public_download(url.replace("localhost", "127.0.0.1"))
    assert caught.value.reason is RefusalReason.TLS
