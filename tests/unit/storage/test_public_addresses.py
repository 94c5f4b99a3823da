"""Which addresses count as public, and that downloads connect to no others unless allowed."""

import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import trustme
from support.web_server import Answer, WebServer, make_public, reset_client, web_server

from aigid.storage import connections, public_addresses
from aigid.storage.http import download
from aigid.storage.http_errors import (
    HttpError,
    NotFoundError,
    RefusalReason,
    RefusedError,
    UnknownHostError,
)
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


# Each leads to this host in one reader or another of URLs and names. `{port}` is the server's.
PRIVATE, NO_URL, NO_HOST = "private", "no URL", "no host"
EVASIONS = {
    # Names and plain addresses.
    "http://localhost:{port}/x.png": PRIVATE,
    "http://LOCALHOST:{port}/x.png": PRIVATE,
    "http://localhost.:{port}/x.png": PRIVATE,
    "HTTP://127.0.0.1:{port}/x.png": PRIVATE,
    "http://127.0.0.1:{port}/x.png": PRIVATE,
    "http://127.0.0.1:{port}": PRIVATE,
    "http://127.255.255.254:{port}/x.png": PRIVATE,
    "http://0.0.0.0:{port}/x.png": PRIVATE,
    # Numbers: short, decimal, octal, hexadecimal, mixed, with zeros before.
    "http://127.1:{port}/x.png": PRIVATE,
    "http://127.0.1:{port}/x.png": PRIVATE,
    "http://0:{port}/x.png": PRIVATE,
    "http://2130706433:{port}/x.png": PRIVATE,
    "http://017700000001:{port}/x.png": PRIVATE,
    "http://0x7f000001:{port}/x.png": PRIVATE,
    "http://0X7F.0.0.1:{port}/x.png": PRIVATE,
    "http://0x7f.1:{port}/x.png": PRIVATE,
    "http://0177.0.0.1:{port}/x.png": PRIVATE,
    "http://0177.0x0.1:{port}/x.png": PRIVATE,
    "http://127.0x1:{port}/x.png": PRIVATE,
    "http://00000177.0.0.1:{port}/x.png": PRIVATE,
    "http://127.0.0.1.:{port}/x.png": (PRIVATE, NO_HOST),
    "http://127.0.0.256:{port}/x.png": NO_HOST,
    "http://4294967296:{port}/x.png": NO_HOST,
    "http://127.0.0.1.1:{port}/x.png": NO_HOST,
    "http://127..1:{port}/x.png": NO_HOST,
    "http://0x:{port}/x.png": (PRIVATE, NO_HOST),
    "http://1e3:{port}/x.png": NO_HOST,
    # Metadata services and private networks.
    "http://169.254.169.254/latest/meta-data/": PRIVATE,
    "http://2852039166/latest/meta-data/": PRIVATE,
    "http://0xa9fea9fe/": PRIVATE,
    "http://0251.0376.0251.0376/": PRIVATE,
    "http://168.63.129.16/": PRIVATE,
    "http://192.0.0.192/": PRIVATE,
    "http://100.100.100.200/": PRIVATE,
    "http://10.0.0.1/": PRIVATE,
    "http://012.0.0.1/": PRIVATE,
    "http://192.168.1/": PRIVATE,
    "http://172.16.1/": PRIVATE,
    # IPv6, and IPv4 within it.
    "http://[::1]:{port}/x.png": PRIVATE,
    "http://[0:0:0:0:0:0:0:1]:{port}/x.png": PRIVATE,
    "http://[0000::0001]:{port}/x.png": PRIVATE,
    "http://[::]:{port}/x.png": PRIVATE,
    "http://[::ffff:127.0.0.1]:{port}/x.png": PRIVATE,
    "http://[::FFFF:7f00:1]:{port}/x.png": PRIVATE,
    "http://[::127.0.0.1]:{port}/x.png": PRIVATE,
    "http://[::ffff:0:127.0.0.1]:{port}/x.png": PRIVATE,
    "http://[64:ff9b::7f00:1]/": PRIVATE,
    "http://[64:ff9b:1::7f00:1]/": PRIVATE,
    "http://[2002:7f00:1::]/": PRIVATE,
    "http://[2001:0:1::1]/": PRIVATE,
    "http://[fe80::1%25lo]:{port}/x.png": PRIVATE,
    "http://[fe80::1%lo]:{port}/x.png": PRIVATE,
    "http://[::1%25lo]:{port}/x.png": (PRIVATE, NO_HOST),
    "http://[fd00:ec2::254]/": PRIVATE,
    "http://[fec0::1]/": PRIVATE,
    "http://[ff02::1]/": PRIVATE,
    "http://::1:{port}/x.png": NO_URL,
    "http://[::1:{port}/x.png": NO_URL,
    "http://[127.0.0.1]:{port}/x.png": NO_URL,
    "http://[::1]x:{port}/x.png": NO_URL,
    # Other digits, dots and letters, and escapes.
    "http://\uff11\uff12\uff17.0.0.1:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://127\u30020\u30020\u30021:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://127\uff0e0\uff0e0\uff0e1:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/x.png": (
        PRIVATE,
        NO_URL,
        NO_HOST,
    ),
    "http://\u0661\u0662\u0667.0.0.1:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://local\u00adhost:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://local\u200bhost:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://%31%32%37.0.0.1:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://127%2e0%2e0%2e1:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://loc%61lhost:{port}/x.png": (PRIVATE, NO_URL, NO_HOST),
    "http://127.0.0.1%00.public.example:{port}/x.png": (NO_URL, NO_HOST),
    # What is host, and what is not.
    "http://public.example@127.0.0.1:{port}/x.png": PRIVATE,
    "http://public.example:80@127.0.0.1:{port}/x.png": PRIVATE,
    "http://a@public.example@127.0.0.1:{port}/x.png": PRIVATE,
    "http://public.example%40127.0.0.1:{port}/x.png": (NO_URL, NO_HOST),
    "http://127.0.0.1:{port}#@public.example/x.png": PRIVATE,
    "http://127.0.0.1:{port}?@public.example/x.png": PRIVATE,
    "http://127.0.0.1:{port}\\@public.example/x.png": PRIVATE,
    "http:\\\\127.0.0.1:{port}/x.png": NO_URL,
    "http:/127.0.0.1:{port}/x.png": NO_URL,
    "http:127.0.0.1:{port}/x.png": NO_URL,
    "http:///127.0.0.1:{port}/x.png": NO_URL,
    "//127.0.0.1:{port}/x.png": NO_URL,
    "http://127.0.0.1\t:{port}/x.png": (NO_URL, NO_HOST),
    "http://127.0.0.1\n:{port}/x.png": (NO_URL, NO_HOST),
    "http://127.0.0.1\r\nHost: public.example:{port}/x.png": (NO_URL, NO_HOST),
    " http://127.0.0.1:{port}/x.png": NO_URL,
    "http:// 127.0.0.1:{port}/x.png": (NO_URL, NO_HOST),
    "ht\ttp://127.0.0.1:{port}/x.png": NO_URL,
    "http://127.0.0.1 .public.example:{port}/x.png": (NO_URL, NO_HOST),
    "http://127.0.0.1;public.example:{port}/x.png": (NO_URL, NO_HOST),
    # Ports, and other schemes.
    "http://127.0.0.1:0/x.png": NO_URL,
    "http://127.0.0.1:65536/x.png": NO_URL,
    "http://127.0.0.1:-1/x.png": NO_URL,
    "http://127.0.0.1:{port}:80/x.png": NO_URL,
    "http://127.0.0.1:\u0661/x.png": NO_URL,
    "gopher://127.0.0.1:{port}/x.png": NO_URL,
    "file://127.0.0.1/etc/passwd": NO_URL,
    "ftp://127.0.0.1:{port}/x.png": NO_URL,
    "unix:///run/docker.sock": NO_URL,
}
_ERRORS = {PRIVATE: RefusedError, NO_URL: NotFoundError, NO_HOST: UnknownHostError}


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve localhost and numbers as the system does; no name is asked from a name server."""
    real = socket.getaddrinfo

    def look_up(host: str, *rest: object, **more: object) -> object:
        plain = host.strip("[]").partition("%")[0].rstrip(".").lower()
        numeric = re.fullmatch(r"[0-9a-fx.]+|[0-9a-f:.]+", plain)
        if plain != "localhost" and not numeric:
            raise socket.gaierror("unknown")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that are connected to: none may be."""
    made: list[object] = []

    def connect(address: object, *rest: object, **more: object) -> None:
        made.append(address)
        raise OSError("not in this test")

    monkeypatch.setattr(connections, "create_connection", connect)
    return made


@pytest.mark.parametrize("url", EVASIONS)
def test_no_spelling_of_a_private_address_is_connected_to(
    url: str, resolver: None, connects: list[object]
) -> None:
    answers = EVASIONS[url]
    wanted = (
        tuple(_ERRORS[answer] for answer in answers)
        if isinstance(answers, tuple)
        else (_ERRORS[answers],)
    )
    with pytest.raises(HttpError) as caught:
        public_download(url.replace("{port}", "8080"))
    assert type(caught.value) in wanted
    if isinstance(caught.value, RefusedError):
        assert caught.value.reason is RefusalReason.PRIVATE_ADDRESS
    assert connects == []


# Without a host, a redirect leads to another path of the same server.
@pytest.mark.parametrize("url", [url for url in EVASIONS if re.match("http://[^/]", url)])
def test_a_redirect_to_any_of_them_is_refused_as_well(
    url: str, site: WebServer, resolver: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server stands for a public one. Its own address must not be among the targets.
    public = "127.9.9.9"
    real = public_addresses.addresses_of
    monkeypatch.setattr(public_addresses, "is_public", lambda address: address == public)
    monkeypatch.setattr(
        public_addresses,
        "addresses_of",
        lambda host, port: [public] if host == "public.example" else real(host, port),
    )
    monkeypatch.setattr(
        connections,
        "create_connection",
        lambda address, *rest, **more: socket.create_connection(("127.0.0.1", site.port)),
    )
    target = url.replace("{port}", str(site.port)).encode().decode("latin-1")
    if any(character in target for character in "\r\n\t"):
        target = quote(target, safe=":/%")
    to = site.serve("/to", Answer(status=302, headers=(("Location", target),)))
    with pytest.raises(HttpError):
        public_download(to.replace("localhost", "public.example"))
    assert site.requests == ["/to"]


def test_there_are_evasions_enough() -> None:
    assert len(EVASIONS) >= 60


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
