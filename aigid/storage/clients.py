"""The clients of object stores, web servers and the hub: one of each in a process.

Credentials come only from where each store's own tools look for them: the environment, files in the
home folder, and the host's role. A URI never holds them, because it ends up in results and logs.
"""

import os
from datetime import timedelta
from functools import lru_cache

from pyarrow import fs
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from aigid.errors import UsageError
from aigid.extras import missing_extra
from aigid.storage.endpoints import gcs_endpoint, s3_endpoint
from aigid.storage.proxies import proxy_for
from aigid.storage.uri import StoreUri
from aigid.storage.web_files import WebFiles

# The pauses between attempts double, up to 20 s, so a store may fail for most of a minute.
# The environment variable AWS_MAX_ATTEMPTS overrides it.
_S3_ATTEMPTS = 10
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 30
_GCS_RETRY_TIME = timedelta(seconds=60)
_ENDPOINTS = {"s3": s3_endpoint, "gs": gcs_endpoint}


def open_store(uri: StoreUri) -> fs.FileSystem:
    """Return the client for a URI.

    Raises UsageError where an Azure account or the package of a client is missing, and OSError or
    pyarrow.ArrowException where the client cannot be made.
    """
    if uri.kind == "web":
        return _web(uri.scheme, uri.query)
    if uri.kind == "hub":
        return _hub(uri.bucket)
    options = _options(uri)
    if uri.kind == "s3":
        return _s3(uri.bucket, options)
    return _gs(options) if uri.kind == "gs" else _az(uri.account, options)


def _options(uri: StoreUri) -> tuple[tuple[str, str], ...]:
    """Return a URI's options, with the server of the store's own settings where it names none."""
    find = _ENDPOINTS.get(uri.kind)
    if find is None or "endpoint_override" in uri.options:
        return tuple(uri.options.items())
    return tuple((find() | uri.options).items())


@lru_cache(maxsize=64)
def _s3(bucket: str, options: tuple[tuple[str, str], ...]) -> fs.S3FileSystem:
    given = dict(options)
    region = given.get("region")
    if (
        region is None
        and "endpoint_override" not in given
        and not _first_variable("AWS_REGION", "AWS_DEFAULT_REGION")
    ):
        if _s3_proxy("https", f"{bucket}.s3.amazonaws.com") is not None:
            raise UsageError(
                f"s3://{bucket}: the region of a bucket cannot be found through a proxy: set "
                f"AWS_REGION, or give s3://{bucket}/...?region=REGION"
            )
        region = fs.resolve_s3_region(bucket)
    host = given.get("endpoint_override", f"s3.{region or 'us-east-1'}.amazonaws.com")
    return fs.S3FileSystem(
        region=region,
        anonymous=given.get("anonymous") == "true",
        endpoint_override=given.get("endpoint_override"),
        scheme=given.get("scheme"),
        proxy_options=_s3_proxy(given.get("scheme", "https"), host),
        connect_timeout=_CONNECT_TIMEOUT_S,
        request_timeout=_READ_TIMEOUT_S,
        # A small file is then one PUT. A larger one is a multipart upload, which appears when it
        # is complete, or never.
        allow_delayed_open=True,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_s3_attempts()),
    )


def _s3_proxy(scheme: str, host: str) -> dict[str, str | int] | None:
    """Return the proxy of the environment for a server, which Amazon's client does not look for.

    Google's and Azure's clients find it themselves.
    """
    try:
        proxy = proxy_for(parse_url(f"{scheme}://{host}"))
    except LocationParseError:
        # The client says what is wrong with it.
        return None
    if proxy is None:
        return None
    url = parse_url(proxy.url)
    options: dict[str, str | int] = {
        "scheme": url.scheme or "http",
        "host": url.host or "",
        "port": url.port or 80,
    }
    if proxy.user is not None:
        options |= {"username": proxy.user, "password": proxy.password}
    return options


@lru_cache(maxsize=64)
def _gs(options: tuple[tuple[str, str], ...]) -> fs.GcsFileSystem:
    given = dict(options)
    anonymous = given.pop("anonymous", "") == "true"
    return fs.GcsFileSystem(anonymous=anonymous, **given, retry_time_limit=_GCS_RETRY_TIME)


def azure_account() -> str | None:
    """Return the storage account that the environment names."""
    return _first_variable("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")


@lru_cache(maxsize=64)
def _az(account: str | None, options: tuple[tuple[str, str], ...]) -> fs.AzureFileSystem:
    account = account or azure_account()
    if account is None:
        raise UsageError(
            "az://: no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or give "
            "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY"
        )
    key = _first_variable("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
    token = None if key else _first_variable("AZURE_STORAGE_SAS_TOKEN")
    return fs.AzureFileSystem(account, account_key=key, sas_token=token, **dict(options))


@lru_cache(maxsize=64)
def _web(scheme: str, query: str) -> fs.PyFileSystem:
    return fs.PyFileSystem(WebFiles(scheme, query))


@lru_cache(maxsize=64)
def _hub(bucket: str) -> fs.PyFileSystem:
    try:
        from aigid.storage.hub import HubFiles
    except ModuleNotFoundError as error:
        raise missing_extra("reading from the Hugging Face Hub", error, "hub") from error
    return fs.PyFileSystem(HubFiles(bucket))


def _s3_attempts() -> int:
    value = _first_variable("AWS_MAX_ATTEMPTS")
    if value is not None and not value.isdecimal():
        raise UsageError(f"AWS_MAX_ATTEMPTS must be a whole number: got {value!r}")
    return int(value or _S3_ATTEMPTS)


def _first_variable(*names: str) -> str | None:
    """Return the first of these environment variables that is set and not empty."""
    return next((value for value in map(os.environ.get, names) if value), None)
