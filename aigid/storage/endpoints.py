"""The servers that a store's own settings name in place of its provider's.

PyArrow reads none of these settings, and would send results meant for one's own server to the
provider.
"""

import os
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path
from urllib.parse import urlsplit

from aigid.errors import UsageError


def s3_endpoint() -> dict[str, str]:
    """Return PyArrow's options for the S3 server that AWS's settings name; none for Amazon's.

    It is found in AWS_ENDPOINT_URL_S3, in AWS_ENDPOINT_URL, or in the configuration file's profile:
    `endpoint_url` of its services' section, or its own. The order is that of AWS's tools:
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html. Raises UsageError for
    what is no URL of a server.
    """
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return {}
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return _parse(name, os.environ[name], "https")
    file = _config_file()
    value = _configured_url(file) if file else None
    return _parse(f"{file}: endpoint_url", value, "https") if value else {}


def gcs_endpoint() -> dict[str, str]:
    """Return PyArrow's options for the server that STORAGE_EMULATOR_HOST names; none for Google's.

    As in Google's own clients, an emulator gets no credentials. Raises UsageError for what is no
    URL of a server.
    """
    value = os.environ.get("STORAGE_EMULATOR_HOST")
    if not value:
        return {}
    return _parse("STORAGE_EMULATOR_HOST", value, "http") | {"anonymous": "true"}


def hub_endpoint() -> str:
    """Return the URL of the Hugging Face Hub, or of the one that HF_ENDPOINT names.

    Raises UsageError for what is no URL of a server.
    """
    value = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query:
        shown = value.rpartition("@")[2].partition("?")[0]
        raise UsageError(f"HF_ENDPOINT: {shown!r} is not a server: give https://HOST")
    return value


def endpoint_variables() -> dict[str, str]:
    """Return the environment variables by which another host asks the same servers as this one.

    Raises UsageError as `s3_endpoint` does.
    """
    s3, gcs = _url(s3_endpoint()), _url(gcs_endpoint())
    return {
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false" if s3 else "true",
        "STORAGE_EMULATOR_HOST": gcs,
        "HF_ENDPOINT": hub_endpoint(),
    }


def _url(endpoint: dict[str, str]) -> str:
    return f"{endpoint['scheme']}://{endpoint['endpoint_override']}" if endpoint else ""


def _config_file() -> Path | None:
    """Return AWS's configuration file; None where this user has no home folder."""
    try:
        return Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    except RuntimeError:
        # A container with an arbitrary user id and without HOME.
        return None


def _configured_url(file: Path) -> str | None:
    """Return the URL in AWS's configuration file, of the profile in use."""
    parser = ConfigParser(interpolation=None, strict=False, default_section="")
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigError):
        # PyArrow reads the same file for credentials, and says what is wrong with these.
        return None
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    section = next(
        (found for found in (f"profile {name}", name) if parser.has_section(found)), None
    )
    if section is None:
        return None
    services = f"services {parser.get(section, 'services', fallback='')}"
    nested = parser.get(services, "s3", fallback="")
    pairs = (line.partition("=") for line in nested.splitlines())
    urls = [value.strip() for key, _, value in pairs if key.strip() == "endpoint_url"]
    return urls[0] if urls else parser.get(section, "endpoint_url", fallback=None)


def _parse(name: str, value: str, default_scheme: str) -> dict[str, str]:
    text = value if "://" in value else f"{default_scheme}://{value}"
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if (
        not usable
        or parts.scheme not in ("http", "https")
        or "@" in parts.netloc
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        shown = value.rpartition("@")[2].partition("?")[0]
        raise UsageError(f"{name}: {shown!r} is not a server: give https://HOST or HOST:PORT")
    return {"endpoint_override": parts.netloc, "scheme": parts.scheme}
