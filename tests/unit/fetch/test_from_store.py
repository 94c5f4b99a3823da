"""Objects of a store: which errors are one row's, and which end the scan."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from support.manifests import encoded_image
from support.proxy import proxy_server
from support.s3_stand_in import BUCKET, LISTING, Cut, Drip, Fault, Refusal, S3StandIn, s3_stand_in
from support.scan_results import result_rows

from aigid.errors import StorageError, UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, from_store
from aigid.fetch.from_web import HostUnreachable
from aigid.records import ErrorCode, RowError, RowFailure
from aigid.storage import clients, locate

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "2",
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3StandIn]:
    with pytest.MonkeyPatch.context() as environment, s3_stand_in() as store:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        for name, value in ENVIRONMENT.items():
            environment.setenv(name, value)
        yield store


@pytest.fixture
def store(server: S3StandIn) -> S3StandIn:
    """The store with two objects and without faults and requests."""
    server.objects.clear()
    server.objects |= {"set/x.png": b"x" * 1000, "set/y.png": b"y" * 1000}
    server.faults.clear()
    server.requests.clear()
    server.on_request = lambda method, key: None
    return server


def fetch(store: S3StandIn, text: str = "x.png", *, root: str = "set", **policy: object) -> bytes:
    return fetch_image(
        ImageReference(None, text),
        FetchPolicy(locate(store.uri(root)), **policy),  # type: ignore[arg-type]
    )


def failure(store: S3StandIn, text: str = "x.png", **policy: object) -> RowError:
    with pytest.raises(RowFailure) as caught:
        fetch(store, text, **policy)
    return caught.value.error


GET = ("GET",)
OF_ONE_OBJECT: dict[str, tuple[Fault, str, str]] = {
    "no such key, on GET": (Refusal(404, "NoSuchKey", methods=GET), "missing", "no such object"),
    "no such bucket, on GET": (
        Refusal(404, "NoSuchBucket", methods=GET),
        "missing",
        "there is no such bucket",
    ),
    "access denied": (Refusal(403, "AccessDenied"), "forbidden", "access is denied"),
    "access denied, on GET": (
        Refusal(403, "AccessDenied", methods=GET),
        "forbidden",
        "access is denied",
    ),
    "archived": (
        Refusal(
            403,
            "InvalidObjectState",
            "The operation is not valid for the object's storage class",
            GET,
        ),
        "forbidden",
        "the object is archived: restore it, then scan again",
    ),
    "KMS denied": (
        Refusal(403, "AccessDenied", "User: me is not authorized to perform: kms:Decrypt", GET),
        "forbidden",
        "its encryption key is disabled, or the credentials may not use it",
    ),
    "KMS key disabled": (
        Refusal(400, "KMS.DisabledException", "the key is disabled", GET),
        "forbidden",
        "its encryption key is disabled",
    ),
    "SSE-C, on HEAD": (Refusal(400, "InvalidRequest"), "forbidden", "(SSE-C) it cannot be read"),
    "SSE-C, on GET": (
        Refusal(
            400,
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption.",
            GET,
        ),
        "forbidden",
        "(SSE-C) it cannot be read",
    ),
    "requester pays": (Refusal(403, "AccessDenied"), "forbidden", "access is denied"),
    "another region, on HEAD": (
        Refusal(301, "PermanentRedirect"),
        "forbidden",
        "its bucket is in another region",
    ),
    "another region, on GET": (
        Refusal(307, "TemporaryRedirect", methods=GET),
        "forbidden",
        "its bucket is in another region",
    ),
    "invalid range": (Refusal(416, "InvalidRange", methods=GET), "timeout", "was replaced while"),
    "a condition fails": (
        Refusal(412, "PreconditionFailed", methods=GET),
        "timeout",
        "was replaced while",
    ),
    "a shorter object": (Cut(500, 500), "timeout", "was replaced while"),
    "bad request, on GET": (
        Refusal(400, "InvalidArgument", methods=GET),
        "forbidden",
        "the store refuses to give the object",
    ),
    "gone": (Refusal(410, "Gone"), "forbidden", "the store refuses to give the object"),
    "a delete marker": (Refusal(405, "MethodNotAllowed"), "forbidden", "the store refuses"),
    "legal reasons": (Refusal(451, "Unavailable"), "forbidden", "the store refuses"),
    "conflict": (Refusal(409, "OperationAborted", methods=GET), "forbidden", "the store refuses"),
    "a bad signature of one key": (
        Refusal(403, "SignatureDoesNotMatch", methods=GET),
        "forbidden",
        "the store refuses",
    ),
    "a checksum": (
        Refusal(400, "BadDigest", "The checksum is another one", GET),
        "undecodable",
        "its checksum is another one",
    ),
    "500 on HEAD": (Refusal(500), "timeout", "does not deliver the object: scan again later"),
    "500 on GET": (Refusal(500, methods=GET), "timeout", "does not deliver the object"),
    "501": (Refusal(501, "NotImplemented"), "timeout", "does not deliver the object"),
    "503": (Refusal(503, "SlowDown"), "timeout", "does not deliver the object"),
    "429 on GET": (Refusal(429, "TooManyRequests", methods=GET), "timeout", "does not deliver"),
    "cut": (Cut(300), "timeout", "does not deliver the object"),
}


@pytest.mark.parametrize(
    ("fault", "code", "detail"), OF_ONE_OBJECT.values(), ids=OF_ONE_OBJECT.keys()
)
def test_an_error_of_one_object_is_its_row_s_error(
    fault: Fault, code: str, detail: str, store: S3StandIn
) -> None:
    store.faults["set/x.png"] = fault
    error = failure(store)
    assert (error.code, error.detail.isprintable()) == (code, True)
    assert error.detail.startswith("x.png: ")
    assert detail in error.detail
    assert fetch(store, "y.png") == b"y" * 1000


@pytest.mark.parametrize("listing", ["AccessDenied", "AllAccessDisabled"])
def test_a_listing_that_is_denied_is_an_answer_of_the_store(listing: str, store: S3StandIn) -> None:
    store.faults |= {"set/x.png": Refusal(400), LISTING: Refusal(403, "AccessDenied")}
    assert failure(store).code == "forbidden"
    store.faults["set/x.png"] = Refusal(500)
    assert failure(store).code == "timeout"


OF_THE_STORE: dict[str, tuple[int, str, str]] = {
    "fails": (500, "InternalError", "the store failed"),
    "overloaded": (503, "SlowDown", "the store is overloaded"),
    "expired": (400, "ExpiredToken", "the credentials have expired: renew them"),
    "wrong key": (403, "InvalidAccessKeyId", "does not accept the credentials"),
    "wrong secret": (403, "SignatureDoesNotMatch", "does not accept the credentials"),
    "clock": (403, "RequestTimeTooSkewed", "this host's clock is wrong"),
}


@pytest.mark.parametrize("methods", [("HEAD", "GET"), ("GET",)], ids=["HEAD", "GET"])
@pytest.mark.parametrize(
    ("status", "code", "reason"), OF_THE_STORE.values(), ids=OF_THE_STORE.keys()
)
def test_an_error_that_all_objects_meet_ends_the_scan(
    status: int, code: str, reason: str, methods: tuple[str, ...], store: S3StandIn
) -> None:
    fault = Refusal(status, code, methods=methods)
    store.faults |= {"set/x.png": fault, LISTING: fault}
    with pytest.raises(StorageError, match=reason) as caught:
        fetch(store)
    assert str(caught.value).endswith("run the scan again to continue")
    assert "set/x.png" in str(caught.value)


def test_a_store_that_is_not_there_ends_the_scan(store: S3StandIn) -> None:
    nowhere = f"s3://{BUCKET}/set?endpoint_override=127.0.0.1:1&scheme=http"
    with pytest.raises(StorageError, match="the store cannot be reached"):
        fetch_image(ImageReference(None, "x.png"), FetchPolicy(locate(nowhere)))


def test_an_object_that_drips_is_given_up_at_the_deadline(store: S3StandIn) -> None:
    store.faults["set/x.png"] = Drip()
    error = failure(store, object_deadline_s=0.5)
    assert error.code == "timeout"
    assert "not complete after 0.5 s" in error.detail


IMPATIENT_SCAN = """
import sys
from dataclasses import replace
from aigid import scan_job
from aigid.__main__ import main
policy_of = scan_job.fetch_policy
scan_job.fetch_policy = lambda config: replace(policy_of(config), object_deadline_s=1.0)
main(sys.argv[1:])
"""


def test_a_scan_ends_although_an_object_still_drips(
    store: S3StandIn, tiny_repository: Path, tmp_path: Path
) -> None:
    store.objects |= {"set/1.png": encoded_image(1), "set/2.png": bytes(100_000)}
    store.faults["set/2.png"] = Drip()
    manifest = tmp_path / "m.parquet"
    images = ["1.png", "2.png", "gone.png"]
    pq.write_table(pa.table({"image": images, "prompt": ["a cat"] * 3}), manifest)
    words = [*("scan", manifest, "--out", tmp_path / "out", "--model", tiny_repository)]
    words += ["--image-root", store.uri("set"), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT_SCAN, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr
    assert [row["error"] for row in result_rows(tmp_path / "out")] == [None, "timeout", "missing"]


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(store: S3StandIn) -> None:
    def replace(method: str, key: str) -> None:
        if method == "GET" and key == "set/x.png":
            store.objects[key] = b"z" * 400

    store.on_request = replace
    assert fetch(store) == b"z" * 400


def test_an_object_that_is_smaller_than_an_error_is_tried_again(
    store: S3StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_store, "_FIRST_PAUSE_S", 0)
    store.objects["set/x.png"] = b"small"
    busy = Refusal(503, "SlowDown", methods=GET)
    store.faults["set/x.png"] = busy
    assert failure(store).code == "timeout"
    asked: list[str] = []

    def recover(method: str, key: str) -> None:
        asked.append(method)
        if asked.count("GET") == 3:
            store.faults.clear()

    store.on_request = recover
    assert fetch(store) == b"small"


@pytest.mark.parametrize("key", ["archived/kms:/crc32/Not a regular file.png", "k" * 1000])
def test_the_name_of_an_object_is_no_part_of_the_error(key: str, store: S3StandIn) -> None:
    store.objects[f"set/{key}"] = b"data"
    store.faults[f"set/{key}"] = Refusal(500)
    assert failure(store, key).code == "timeout"


@pytest.mark.parametrize("last", [b"\x5a", b"\x00", b"\xa5"])
def test_an_object_may_end_with_any_byte(last: bytes, store: S3StandIn) -> None:
    store.objects["set/x.png"] = b"x" * 100 + last
    assert fetch(store) == b"x" * 100 + last


@pytest.mark.parametrize("root", [".", "s3://other/set?endpoint_override={}&scheme=http", None])
def test_a_store_that_only_a_row_names_does_not_end_the_scan(
    root: str | None, store: S3StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row may name a bucket that is not there, or of a server that is down."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{store.address}")
    policy = FetchPolicy(root and locate(root.format(store.address)), allow_outside=True)
    with pytest.raises(RowFailure) as caught:
        fetch_image(ImageReference(None, "s3://none/x.png"), policy)
    assert caught.value.error == RowError(
        ErrorCode.MISSING, "s3://none/x.png: no such object or bucket"
    )
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(clients, "_GCS_RETRY_TIME", timedelta(seconds=0.1))
    with pytest.raises(HostUnreachable) as unreachable:
        fetch_image(ImageReference(None, "gs://none/x.png"), policy)
    assert (unreachable.value.error.code, unreachable.value.is_store) == ("timeout", True)


def test_credentials_that_have_expired_end_the_scan_whichever_store_says_so(
    store: S3StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{store.address}")
    store.faults |= dict.fromkeys(("x.png", LISTING), Refusal(400, "ExpiredToken"))
    with pytest.raises(StorageError, match="the credentials have expired"):
        fetch_image(
            ImageReference(None, f"s3://{BUCKET}/x.png"),
            FetchPolicy(locate("."), allow_outside=True),
        )


def test_a_proxy_of_the_environment_is_used_for_objects(
    store: S3StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amazon's client does not look for one. Google's and Azure's do."""
    host, _, port = store.address.partition(":")
    with proxy_server() as proxy:
        proxy.hosts["s3.example"] = (host, int(port))
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@{proxy.address}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        root = f"s3://{BUCKET}/set?endpoint_override=s3.example&scheme=http"
        assert fetch_image(ImageReference(None, "x.png"), FetchPolicy(locate(root))) == b"x" * 1000
        assert {request.partition(" ")[2] for request in proxy.requests} == {
            "http://s3.example/data/set/x.png"
        }
        assert proxy.headers[0]["Proxy-Authorization"] == "Basic bWU6cEBzcw=="
        assert fetch(store) == b"x" * 1000
        assert len(proxy.requests) == 2


def test_the_region_of_a_bucket_must_be_set_behind_a_proxy(
    store: S3StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(UsageError, match=r"^s3://data: .* through a proxy: set AWS_REGION"):
        locate("s3://data/set")


def test_a_bucket_whose_region_cannot_be_found_is_that_row_s_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What Amazon's servers say, which no test asks.
    def resolve(bucket: str) -> str:
        raise OSError(f"Bucket '{bucket}' not found")

    monkeypatch.setattr(fs, "resolve_s3_region", resolve)
    policy = FetchPolicy(locate("."), allow_outside=True)
    with pytest.raises(RowFailure) as caught:
        fetch_image(ImageReference(None, "s3://no-such-bucket-here/x.png"), policy)
    assert caught.value.error.code == "missing"


KEYS = ("set/a/b.png", "set/b.png", "set/a#1.png", "set/a?x.png", "set/a b.png", "set/a%2Fb.png")
OUTSIDE = ("b.png", "other/b.png", "settle/b.png", "set.png", "etc/passwd")
MISSING, FORBIDDEN = ErrorCode.MISSING, ErrorCode.FORBIDDEN
# What a reference in a manifest whose root is s3://data/set means: a key below it, or an error.
REFERENCES: dict[str, str | ErrorCode] = {
    # References that are good.
    "b.png": "set/b.png",
    "./b.png": "set/b.png",
    "a/../b.png": "set/b.png",
    "a/./b.png": "set/a/b.png",
    "a#1.png": "set/a#1.png",
    "a?x.png": "set/a?x.png",
    "a b.png": "set/a b.png",
    "a%2Fb.png": "set/a%2Fb.png",
    "s3://data/set/b.png": "set/b.png",
    "S3://data/set/b.png": "set/b.png",
    "s3a://data/set/b.png": "set/b.png",
    "s3n://data/set/b.png": "set/b.png",
    "s3://data/set/%62.png": "set/b.png",
    "s3://data/set/a%252Fb.png": "set/a%2Fb.png",
    # Ways up.
    "../b.png": FORBIDDEN,
    "a/../../b.png": FORBIDDEN,
    "../settle/b.png": FORBIDDEN,
    "../set.png": FORBIDDEN,
    "../../evil/b.png": FORBIDDEN,
    "../../../../etc/passwd": FORBIDDEN,
    "./../b.png": FORBIDDEN,
    "..": FORBIDDEN,
    "../": MISSING,
    ".": MISSING,
    "s3://data/set": MISSING,
    "a/..": MISSING,
    "%2e%2e/b.png": MISSING,
    "..%2Fb.png": MISSING,
    "%252e%252e/b.png": MISSING,
    "..\\b.png": MISSING,
    "a\\..\\..\\b.png": MISSING,
    "\uff0e\uff0e/b.png": MISSING,
    "\u2024\u2024/b.png": MISSING,
    ".. /b.png": MISSING,
    "..;/b.png": MISSING,
    "...//b.png": MISSING,
    "s3://data/set/../b.png": MISSING,
    "s3://data/set/%2e%2e/b.png": MISSING,
    "s3://data/set/%2E%2E%2Fb.png": MISSING,
    "s3://data/set/%252e%252e/b.png": MISSING,
    "s3://data/set/a/..%2f..%2fb.png": MISSING,
    # Empty parts, and paths from the top.
    "/b.png": MISSING,
    "//b.png": MISSING,
    "/etc/passwd": MISSING,
    "a//b.png": MISSING,
    "a/b.png/": MISSING,
    "s3://data//set/b.png": MISSING,
    "s3://data/set//b.png": MISSING,
    "s3://data/set/b.png/": MISSING,
    # Other names of the same letters, and characters that end a name elsewhere.
    "B.PNG": MISSING,
    "b.png\x00": MISSING,
    "b.png\x00.jpg": MISSING,
    "s3://data/set/b.png%00": MISSING,
    "s3://data/set/b\u200b.png": MISSING,
    "\uff42.png": MISSING,
    "e\u0301.png": MISSING,
    "s3://data/set/\n b.png": MISSING,
    "s3://data/set/%FF.png": MISSING,
    "s3://data/set/b.png#x": MISSING,
    "s3://data/set/a?x.png": MISSING,
    # Other places.
    "s3://data/b.png": FORBIDDEN,
    "s3://data/settle/b.png": FORBIDDEN,
    "s3://data/set.png": FORBIDDEN,
    "s3://evil/set/b.png": FORBIDDEN,
    "s3://data.evil/set/b.png": FORBIDDEN,
    "s3://DATA/set/b.png": FORBIDDEN,
    "s3://data:80/set/b.png": MISSING,
    "s3://evil@data/set/b.png": MISSING,
    "s3://me:pass@data/set/b.png": MISSING,
    "s3://data%2Fset/b.png": MISSING,
    "s3:///data/set/b.png": MISSING,
    "s3://data\\set/b.png": MISSING,
    "gs://data/set/b.png": FORBIDDEN,
    "gcs://data/set/b.png": FORBIDDEN,
    "az://data/set/b.png": FORBIDDEN,
    "abfss://data@account.dfs.core.windows.net/set/b.png": FORBIDDEN,
    "file:///etc/passwd": FORBIDDEN,
    "file://data/set/b.png": FORBIDDEN,
    "ftp://data/set/b.png": FORBIDDEN,
    "s3://data/set/b.png?endpoint_override=evil.example": FORBIDDEN,
    "s3://data/set/b.png?region=x": FORBIDDEN,
    "s3://data/set/b.png?anonymous=true": FORBIDDEN,
    "s3://data/set/b.png?versionId=1": MISSING,
    "s3://data/set/b.png?": MISSING,
    "": ErrorCode.EMPTY,
}


@pytest.mark.parametrize("text", REFERENCES)
def test_a_reference_means_its_object_or_none(text: str, store: S3StandIn) -> None:
    store.objects |= {key: key.encode() for key in (*KEYS, *OUTSIDE)}
    answer = REFERENCES[text]
    if isinstance(answer, ErrorCode):
        assert failure(store, text).code is answer
    else:
        assert fetch(store, text) == answer.encode()
    # Whatever was asked for is below the root, as it is written.
    keys = [request.partition(" ")[2].removeprefix("data/") for request in store.requests]
    assert all(key.startswith("set/") and ".." not in key.split("/") for key in keys)


def test_there_are_evasions_enough() -> None:
    assert sum(isinstance(answer, ErrorCode) for answer in REFERENCES.values()) >= 30
