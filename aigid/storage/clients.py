"""The clients that reach object stores and web servers: one for each in a process, with its connections.

Credentials come from where each store's own tools look for them (environment, files of the user's, the machine's role), and
from nowhere else: a URI ends up in results and logs.
"""

import os
from datetime import timedelta
from functools import lru_cache

from pyarrow import fs

from aigid.errors import UsageError
from aigid.storage.uri import StoreUri
from aigid.storage.web_files import WebFiles

# With pauses that double between them, up to 20 s, a store may fail for most of a minute; AWS_MAX_ATTEMPTS says otherwise.
_ATTEMPTS = "10"
_CONNECT_S, _SILENCE_S = 10, 30
_RETRY_GCS = timedelta(seconds=60)


def open_store(uri: StoreUri) -> fs.FileSystem:
    """The client for a URI. Raises UsageError where its account is not said, and OSError where it cannot be reached."""
    if uri.kind == "web":
        return _web(uri.scheme, uri.query)
    options = tuple(uri.options.items())
    if uri.kind == "s3":
        return _s3(uri.bucket, options)
    return _gs(options) if uri.kind == "gs" else _az(uri.account, options)


@lru_cache(maxsize=64)
def _s3(bucket: str, options: tuple[tuple[str, str], ...]) -> fs.S3FileSystem:
    given = dict(options)
    region = given.get("region")
    elsewhere = "endpoint_override" in given or _environment(
        "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"
    )
    if region is None and not elsewhere and not _environment("AWS_REGION", "AWS_DEFAULT_REGION"):
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region,
        anonymous=given.get("anonymous") == "true",
        endpoint_override=given.get("endpoint_override"),
        scheme=given.get("scheme"),
        connect_timeout=_CONNECT_S,
        request_timeout=_SILENCE_S,
        # Small results are one PUT then; larger ones a multipart upload, which is completed whole or not at all.
        allow_delayed_open=True,
        retry_strategy=fs.AwsStandardS3RetryStrategy(
            max_attempts=int(_environment("AWS_MAX_ATTEMPTS") or _ATTEMPTS)
        ),
    )


@lru_cache(maxsize=64)
def _gs(options: tuple[tuple[str, str], ...]) -> fs.GcsFileSystem:
    given = dict(options)
    anonymous = given.pop("anonymous", "") == "true"
    return fs.GcsFileSystem(anonymous=anonymous, **given, retry_time_limit=_RETRY_GCS)


@lru_cache(maxsize=64)
def _az(account: str | None, options: tuple[tuple[str, str], ...]) -> fs.AzureFileSystem:
    account = account or _environment("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    if account is None:
        raise UsageError(
            "az://: of which account? Set AZURE_STORAGE_ACCOUNT_NAME, or give abfss://CONTAINER@ACCOUNT.../KEY"
        )
    key = _environment("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
    token = None if key else _environment("AZURE_STORAGE_SAS_TOKEN")
    return fs.AzureFileSystem(account, account_key=key, sas_token=token, **dict(options))


@lru_cache(maxsize=64)
def _web(scheme: str, query: str) -> fs.PyFileSystem:
    return fs.PyFileSystem(WebFiles(scheme, query))


def _environment(*names: str) -> str | None:
    return next((value for value in map(os.environ.get, names) if value), None)
