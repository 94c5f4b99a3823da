"""The HTTP service over the embedded scorer: answers, problems, keys, limits, hostile clients."""

import base64
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
import trustme
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from support.evidence_files import A1111, png_with_text
from support.http_service import Running, pair, running_service
from support.manifests import CAPTIONS, REPOSITORY, encoded_image
from support.web_server import Answer, web_server

import aigid
from aigid.contract import load_contract
from aigid.detection import Detection
from aigid.errors import UsageError
from aigid.fetch import FetchPolicy
from aigid.service import ServiceConfig, ServiceLimits, listening

pytestmark = pytest.mark.integration

ROWS = 64
IMAGES = [encoded_image(seed, side=64) for seed in range(ROWS)]
PROMPTS = [CAPTIONS[seed % len(CAPTIONS)] for seed in range(ROWS)]
KEY = "a-key-of-this-test-0001"


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running_service() as running:
        yield running


@pytest.fixture(scope="module")
def expected() -> list[Detection]:
    with aigid.Detector.load() as detector:
        return detector.detect(IMAGES, PROMPTS)


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


def check(answer: dict[str, Any], wanted: Detection) -> None:
    """Check the answer for a pair against the Detector's."""
    np.testing.assert_allclose(answer["p_ai"], wanted.p_ai, atol=1e-5)
    assert (answer["verdict"], answer["source"]) == (wanted.verdict, wanted.source)


def schema_of(client: httpx.Client, name: str) -> dict[str, Any]:
    document = client.get("/openapi.json").json()
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def check_problem(client: httpx.Client, answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a problem document of this status, and return it."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    jsonschema.validate(problem, schema_of(client, "Problem"))
    assert problem["status"] == status
    anchor = problem["type"].removeprefix("/docs#")
    assert f'id="{anchor}"' in client.get("/docs").text
    return problem


def check_alive(client: httpx.Client, wanted: Detection) -> None:
    """Check that a request is answered rightly."""
    answer = client.post("/v1/detect", files={"image": IMAGES[0]}, data={"prompt": PROMPTS[0]})
    check(answer.json()["detections"][0], wanted)


def test_json_and_forms_get_the_answers_of_the_detector(
    client: httpx.Client, expected: list[Detection]
) -> None:
    pairs = list(map(pair, IMAGES, PROMPTS))
    as_json = client.post("/v1/detect", json={"pairs": pairs}).json()
    files = [("image", (f"{row}.jpg", image)) for row, image in enumerate(IMAGES)]
    as_form = client.post("/v1/detect", files=files, data={"prompt": PROMPTS}).json()
    for answer in (as_json, as_form):
        jsonschema.validate(answer, schema_of(client, "Answer"))
        for one, wanted in zip(answer["detections"], expected, strict=True):
            check(one, wanted)
    contract = load_contract(REPOSITORY)
    assert as_json["model"] == client.get("/v1/model").json() == as_form["model"]
    assert as_json["model"]["fingerprint"] == contract.fingerprint
    assert as_json["model"]["notice"] == contract.notice


def test_a_bad_pair_has_its_own_error_and_its_evidence(
    client: httpx.Client, expected: list[Detection]
) -> None:
    generated = png_with_text(parameters=A1111)
    bomb = io.BytesIO()
    Image.new("L", (20_000, 10_000)).save(bomb, "PNG")
    pairs = [
        pair(b"a text file"),
        pair(IMAGES[0], PROMPTS[0]),
        {"image": "no base64!"},
        {},
        pair(b""),
        pair(bomb.getvalue()),
        pair(generated),
        pair(generated[: generated.index(b"IDAT")]),
        {"url": "http://127.0.0.1/a.jpg"},
    ]
    answer = client.post("/v1/detect", json={"pairs": pairs}).json()
    jsonschema.validate(answer, schema_of(client, "Answer"))
    found = answer["detections"]
    codes = [one["error"] and one["error"]["code"] for one in found]
    assert codes == [
        "undecodable", None, "undecodable", "empty", "empty", "too_large", None, "undecodable",
        "forbidden",
    ]  # fmt: skip
    check(found[1], expected[0])
    assert [one["evidence"] for one in found[6:8]] == ["ai", "ai"]
    assert found[6]["findings"][0]["details"]["model"] == "sd_xl_base_1.0"
    assert "--allow-fetch" in found[8]["error"]["detail"]


def test_evidence_can_be_left_out(client: httpx.Client) -> None:
    pairs = [pair(png_with_text(parameters=A1111))]
    plain = client.post("/v1/detect", json={"pairs": pairs, "evidence": False}).json()
    told = client.post("/v1/detect", json={"pairs": pairs}).json()
    (without,), (with_it,) = plain["detections"], told["detections"]
    assert (without["evidence"], without["findings"]) == (None, [])
    assert with_it["evidence"] == "ai"
    assert without["p_ai"] == with_it["p_ai"]


@pytest.mark.parametrize("prompt", ["", "\udc80", "a\0b", "🦩" * 1000, "cat " * 2_500_000])
def test_odd_prompts_are_scored(client: httpx.Client, prompt: str) -> None:
    body = json.dumps({"pairs": [pair(IMAGES[0], prompt)]})
    answer = client.post("/v1/detect", content=body, headers={"content-type": "application/json"})
    assert answer.json()["detections"][0]["error"] is None


JSON = {"content-type": "application/json"}
GZIP = JSON | {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    ("method", "path", "settings", "status"),
    [
        ("GET", "/v1/nothing", {}, 404),
        ("GET", "/../etc/passwd", {}, 404),
        ("GET", "/v1/detect", {}, 405),
        ("DELETE", "/healthz", {}, 405),
        ("POST", "/v1/detect", {"content": b"a"}, 415),
        ("POST", "/v1/detect", {"content": b"{}", "headers": GZIP}, 415),
        ("POST", "/v1/detect", {"content": b"{", "headers": JSON}, 400),
        ("POST", "/v1/detect", {"content": b"\xff", "headers": JSON}, 400),
        ("POST", "/v1/detect", {"content": b"[" * 1_000_000, "headers": JSON}, 413),
        ("POST", "/v1/detect", {"json": {"pairs": [{}] * 300}}, 413),
        ("POST", "/v1/detect", {"json": {"pairs": [{"imag": ""}]}}, 422),
        ("POST", "/v1/detect", {"files": {"photo": b"a"}}, 422),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_one_problem(
    client: httpx.Client,
    expected: list[Detection],
    method: str,
    path: str,
    settings: dict[str, Any],
    status: int,
) -> None:
    check_problem(client, client.request(method, path, **settings), status)
    check_alive(client, expected[0])


def test_the_log_has_a_line_of_json_for_each_request_and_no_content(
    service: Running, client: httpx.Client
) -> None:
    before = len(service.log)
    client.post(
        "/v1/detect?secret=1",
        json={"pairs": [pair(IMAGES[0], "a private prompt")]},
        headers={"x-request-id": "my-id.1"},
    )
    answer = client.get("/nothing/private", headers={"x-request-id": "not\tan id"})
    first, second = map(json.loads, service.log[before:])
    assert (first["request_id"], first["path"], first["status"]) == ("my-id.1", "/v1/detect", 200)
    assert (second["path"], second["status"]) == ("other", 404)
    assert second["request_id"] == answer.headers["x-request-id"] != "not\tan id"
    assert not any("secret" in line or "private" in line for line in service.log[before:])


def metrics_of(client: httpx.Client) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_64_clients_share_batches_and_get_their_own_answers(
    service: Running, client: httpx.Client, expected: list[Detection]
) -> None:
    before = metrics_of(client)

    def ask(seed: int) -> None:
        with httpx.Client(base_url=service.url, timeout=120) as one:
            for row in np.random.default_rng(seed).integers(0, ROWS, 6):
                answer = one.post("/v1/detect", json={"pairs": [pair(IMAGES[row], PROMPTS[row])]})
                check(answer.json()["detections"][0], expected[row])

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(ask, range(64)))
    after = metrics_of(client)

    def more(*name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("aigid_service_requests_total", "/v1/detect", "200") == 64 * 6
    assert sum(more("aigid_service_pairs_total", verdict) for verdict in ("ai", "real")) == 64 * 6
    assert more("aigid_service_batch_rows_sum") == 64 * 6
    assert more("aigid_service_batch_rows_count") < 64 * 6
    assert after[("aigid_service_pairs_in_work",)] == after[("aigid_service_held_bytes",)] == 0


def test_health_and_readiness(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_keys_are_asked_for_where_there_are_some() -> None:
    with (
        running_service(api_keys=frozenset({KEY})) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        for path, method in (("/v1/detect", "POST"), ("/v1/model", "GET"), ("/metrics", "GET")):
            for headers in ({}, {"authorization": f"Bearer {KEY}x"}):
                answer = client.request(method, path, headers=headers)
                check_problem(client, answer, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert KEY not in answer.text
        for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        headers = {"authorization": f"Bearer {KEY}"}
        answer = client.post("/v1/detect", files={"image": IMAGES[0]}, headers=headers)
        assert answer.status_code == 200
        assert not any(KEY in line for line in service.log)


def test_tls_by_files(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with running_service(tls_cert=cert, tls_key=key) as service:
        assert service.url.startswith("https://")
        with httpx.Client(base_url=service.url, verify=context) as client:
            assert client.get("/readyz").status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{service.port}/readyz")


def test_urls_are_fetched_within_the_policy_where_that_is_allowed() -> None:
    with web_server() as site:
        site.serve("/a.jpg", Answer(IMAGES[0]))
        urls = [
            f"{site.address}/a.jpg",
            f"{site.address}/none.jpg",
            "file:///etc/passwd",
            "/etc/passwd",
        ]
        urls += ["s3://bucket/a.jpg", "gopher://127.0.0.1/"]
        body = {"pairs": [{"url": url, "prompt": PROMPTS[0]} for url in urls]}

        def codes(**policy: bool) -> list[str | None]:
            with running_service(fetch=FetchPolicy(None, **policy)) as service:
                answer = httpx.post(f"{service.url}/v1/detect", json=body, timeout=60).json()
            return [one["error"] and one["error"]["code"] for one in answer["detections"]]

        assert codes(allow_private_addresses=True) == [None, "missing", *["forbidden"] * 4]
        seen = len(site.requests)
        assert codes() == ["forbidden"] * 6
        assert len(site.requests) == seen


def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"`http_port` {port}: 127.0.0.1:{port} cannot be used"),
            listening(ServiceConfig(http_port=port)),
        ):
            pass


def connect(service: Running, data: bytes) -> socket.socket:
    """Return a connection on which `data` was sent."""
    one = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    one.sendall(data)
    return one


def received(one: socket.socket) -> bytes:
    """Return all that comes until the connection ends."""
    data = b""
    try:
        while chunk := one.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    finally:
        one.close()
    return data


POST = b"POST /v1/detect HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
IMPATIENT = ServiceLimits(
    max_body_bytes=2 << 20, header_s=1, idle_s=1, body_s=3, max_connections=1000
)

NOT_HTTP = {
    "garbage": (b"\x16\x03\x01\x02\x00 this is TLS", b"400"),
    "a method that is none": (b"G<T / HTTP/1.1\r\n\r\n", b"400"),
    "another version": (b"GET / HTTP/7.7\r\n\r\n", b"400"),
    "a header without a colon": (b"GET / HTTP/1.1\r\nabc\r\n\r\n", b"400"),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
    "a length and chunks": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400",
    ),
    "a length that is none": (POST + b"Content-Length: -1\r\n\r\n", b"400"),
    "a chunk size that is none": (CHUNKED + b"zz\r\n", b""),
    "a header of 1 MB": (b"GET / HTTP/1.1\r\na: " + b"b" * 1_000_000, b"431"),
    "a path of 1 MB": (b"GET /" + b"b" * 1_000_000, b"431"),
    "100,000 headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000, b"431"),
    "half a request": (b"GET / HT", b""),
    "nothing": (b"", b""),
    "half a body": (POST + b"Content-Length: 100\r\n\r\n{", b"408"),
    "a body of 10 MB": (POST + b"Content-Length: 10000000\r\n\r\n{", b"413"),
    "chunks of 10 MB": (CHUNKED + b"10000\r\n%s\r\n" % (b" " * 65536) * 160, b"413"),
    "a chunk that never ends": (CHUNKED + b"ffffffffff\r\n" + b" " * 100, b"408"),
    "a million chunks": (CHUNKED + b"1\r\n[\r\n" * 1_000_000 + b"0\r\n\r\n", b"413"),
    "endless trailers": (CHUNKED + b"0\r\n" + b"a: b\r\n" * 100_000, b""),
    "an upgrade": (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b"200"),
    "a thousand pipelined requests": (b"GET /healthz HTTP/1.1\r\n\r\n" * 1000, b"200"),
}  # fmt: skip


@pytest.fixture(scope="module")
def impatient() -> Iterator[Running]:
    with running_service(limits=IMPATIENT) as running:
        yield running


@pytest.mark.parametrize("what", NOT_HTTP)
def test_hostile_bytes_are_refused_or_cut_off_and_the_service_goes_on(
    impatient: Running, expected: list[Detection], what: str
) -> None:
    data, status = NOT_HTTP[what]
    answers: list[bytes] = []

    def attack() -> None:
        one = socket.create_connection(("127.0.0.1", impatient.port), timeout=60)
        # It may be cut off before its end.
        with suppress(OSError):
            one.sendall(data)
        answers.append(received(one))

    thread = threading.Thread(target=attack)
    thread.start()
    with httpx.Client(base_url=impatient.url, timeout=60) as client:
        check_alive(client, expected[0])
        thread.join(60)
        assert not thread.is_alive()
        check_alive(client, expected[0])
    (answer,) = answers
    # A connection that is reset may lose its answer.
    if answer and status:
        assert answer.startswith(b"HTTP/1.1 " + status)


def test_a_slow_body_is_cut_off_though_it_never_stops(impatient: Running) -> None:
    one = connect(impatient, POST + b"Content-Length: 100000\r\n\r\n")
    with pytest.raises(OSError):
        for _ in range(200):
            one.sendall(b" ")
            time.sleep(0.1)
    one.close()


def test_connections_over_the_limit_are_refused_and_idle_ones_end(
    impatient: Running, expected: list[Detection]
) -> None:
    idle = [connect(impatient, b"") for _ in range(1500)]
    assert all(received(one) == b"" for one in idle)
    with httpx.Client(base_url=impatient.url, timeout=60) as client:
        check_alive(client, expected[0])


def test_more_pairs_than_may_wait_are_told_when_to_come_back(expected: list[Detection]) -> None:
    limits = ServiceLimits(max_waiting_pairs=20)
    body = {"pairs": list(map(pair, IMAGES[:16], PROMPTS[:16]))}
    with running_service(limits=limits) as service, ThreadPoolExecutor(16) as pool:

        def ask(number: int) -> httpx.Response:
            return httpx.post(f"{service.url}/v1/detect", json=body, timeout=60)

        answers = list(pool.map(ask, range(64)))
        refused = [one for one in answers if one.status_code == 429]
        assert refused
        assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
        with httpx.Client(base_url=service.url, timeout=60) as client:
            check_problem(client, refused[0], 429)
            check_alive(client, expected[0])
        good = [one for one in answers if one.status_code == 200]
        assert len(good) + len(refused) == 64
        for answer in good:
            for one, wanted in zip(answer.json()["detections"], expected[:16], strict=True):
                check(one, wanted)


def test_bodies_that_fill_the_memory_are_told_when_to_come_back(expected: list[Detection]) -> None:
    limits = ServiceLimits(max_held_bytes=100_000, idle_s=5)
    with running_service(limits=limits) as service:
        holding = connect(service, POST + b"Content-Length: 90000\r\n\r\n" + b" " * 80_000)
        with httpx.Client(base_url=service.url, timeout=60) as client:
            deadline = time.monotonic() + 30
            while metrics_of(client)[("aigid_service_held_bytes",)] < 80_000:
                assert time.monotonic() < deadline
            answer = client.post("/v1/detect", content=b" " * 50_000, headers=JSON)
            check_problem(client, answer, 429)
            holding.close()
            while metrics_of(client)[("aigid_service_held_bytes",)]:
                assert time.monotonic() < deadline
            check_alive(client, expected[0])


def test_an_answer_that_takes_too_long_is_a_problem(expected: list[Detection]) -> None:
    with (
        running_service(limits=ServiceLimits(answer_s=0.001)) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        body = {"pairs": list(map(pair, IMAGES, PROMPTS))}
        check_problem(client, client.post("/v1/detect", json=body), 504)
        assert client.get("/readyz").status_code == 200


def test_clients_that_go_are_forgotten(service: Running, expected: list[Detection]) -> None:
    body = json.dumps({"pairs": list(map(pair, IMAGES, PROMPTS))}).encode()
    for cut in (0, 100, len(body) // 2, len(body)):
        for _ in range(5):
            connect(service, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body[:cut]).close()
    with httpx.Client(base_url=service.url, timeout=60) as client:
        check_alive(client, expected[0])
        deadline = time.monotonic() + 30
        gauges = [("aigid_service_held_bytes",), ("aigid_service_pairs_in_work",)]
        while any(metrics_of(client)[gauge] for gauge in gauges):
            assert time.monotonic() < deadline


def test_base64_of_the_page_s_script_is_not_an_image(client: httpx.Client) -> None:
    script = base64.b64encode(client.get("/pages/page.js").content).decode()
    answer = client.post("/v1/detect", json={"pairs": [{"image": script}]}).json()
    assert answer["detections"][0]["error"]["code"] == "undecodable"
