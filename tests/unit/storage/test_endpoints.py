"""Requests go to the server that a store's own settings name, and to no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.web_server import WebServer, web_server

from aigid.errors import StorageError, UsageError
from aigid.storage import exists, locate
from aigid.storage.endpoints import endpoint_variables, gcs_endpoint, s3_endpoint

OWN = {"endpoint_override": "minio.example:9000", "scheme": "http"}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Remove all settings of stores; returns where AWS's configuration file would be."""
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "STORAGE_EMULATOR_HOST",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as site:
        yield site


def test_without_settings_the_provider_s_servers_are_asked() -> None:
    assert s3_endpoint() == gcs_endpoint() == {}


@pytest.mark.parametrize(
    ("value", "address", "scheme"),
    [
        ("http://minio.example:9000", "minio.example:9000", "http"),
        ("https://account.r2.example/", "account.r2.example", "https"),
        ("HTTP://10.0.0.1", "10.0.0.1", "http"),
        ("http://[::1]:9000", "[::1]:9000", "http"),
        ("minio.example:9000", "minio.example:9000", "https"),
    ],
)
def test_the_variable_names_the_server(
    value: str, address: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    assert s3_endpoint() == {"endpoint_override": address, "scheme": scheme}


def test_the_variable_for_s3_comes_before_the_general_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://other.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio.example:9000")
    assert s3_endpoint() == OWN
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert s3_endpoint() == {}


@pytest.mark.parametrize(
    "text",
    [
        "[default]\nendpoint_url = http://minio.example:9000\n",
        "[default]\nservices = own\nendpoint_url = http://other.example\n"
        "[services own]\ns3 =\n  endpoint_url = http://minio.example:9000\n"
        "ec2 =\n  endpoint_url = http://other.example\n",
        "[default]\nservices = own\nendpoint_url = http://minio.example:9000\n"
        "[services own]\nec2 =\n  endpoint_url = http://other.example\n",
    ],
)
def test_the_configuration_file_names_the_server(text: str, no_settings: Path) -> None:
    no_settings.write_text(text)
    assert s3_endpoint() == OWN


def test_the_profile_in_use_decides(no_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_settings.write_text(
        "[default]\nendpoint_url = http://other.example\n"
        "[profile lab]\nendpoint_url = http://minio.example:9000\n[profile plain]\nregion = x\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert s3_endpoint() == OWN
    for name in ("plain", "unknown"):
        monkeypatch.setenv("AWS_PROFILE", name)
        assert s3_endpoint() == {}


@pytest.mark.parametrize("data", [b"no section\n", b"\xff\xfe", b"[default]\n[default\n"])
def test_a_configuration_file_that_cannot_be_read_names_no_server(
    data: bytes, no_settings: Path
) -> None:
    no_settings.write_bytes(data)
    assert s3_endpoint() == {}


@pytest.mark.parametrize("here", [{}, {"AWS_ENDPOINT_URL": "http://minio.example:9000"}])
@pytest.mark.parametrize("there", [{}, {"AWS_ENDPOINT_URL_S3": "http://other.example"}])
@pytest.mark.parametrize("ignored", ["", "true"])
def test_another_host_asks_the_same_servers(
    here: dict[str, str],
    there: dict[str, str],
    ignored: str,
    no_settings: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as settings:
        for name, value in here.items():
            settings.setenv(name, value)
        expected, variables = (s3_endpoint(), gcs_endpoint()), endpoint_variables()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "other.example")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", ignored)
    no_settings.write_text("[default]\nendpoint_url = http://other.example\n")
    for name, value in (there | variables).items():
        monkeypatch.setenv(name, value)
    assert (s3_endpoint(), gcs_endpoint()) == expected


@pytest.mark.parametrize(
    "value",
    [
        "ftp://minio.example",
        "http://",
        "http://host:port",
        "http://host/path",
        "http://key:secret@host",
        "http://host?token=secret",
        "http://[::1",
    ],
)
@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"])
def test_what_is_no_server_is_refused_and_no_secret_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"^{name}: .* is not a server") as caught:
        locate("s3://bucket/key" if name.startswith("AWS") else "gs://bucket/key")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_object_of_s3_is_asked_from_that_server(
    name: str, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, server.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    # It is no real store: that it was asked is what counts.
    with pytest.raises(StorageError):
        exists(locate("s3://bucket/key"))
    assert any(path.startswith("/bucket") for path in server.requests)


def test_an_object_of_google_is_asked_from_that_server(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address.removeprefix("http://"))
    assert not exists(locate("gs://bucket/key"))
    assert server.requests[0] == "/storage/v1/b/bucket/o/key"


def test_the_options_of_a_uri_come_first(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "other.example")
    address = server.address.removeprefix("http://")
    options = f"endpoint_override={address}&scheme=http&anonymous=true"
    assert not exists(locate(f"gs://bucket/key?{options}"))
    assert server.requests
