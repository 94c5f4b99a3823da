"""C2PA manifests that the tests sign: valid, trusted, damaged, remote, too large, unread."""

import io
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import c2pa
import pytest
from support.c2pa_files import Issuer, created, make_issuer, signed
from support.command_line import run_without
from support.evidence_files import jpeg, jpeg_with, jpeg_with_xmp, png, segment, webp
from support.image_files import encoded, png_chunk, smooth_image, with_chunks

from aigid.errors import UsageError
from aigid.evidence import Finding, Says, Strength, read_evidence, read_trust_list, strongest
from aigid.evidence.c2pa_manifest import UnreadableError, read_store
from aigid.evidence.limits import MOST_C2PA_BYTES
from aigid.extras import install_command

IMAGES = {
    "image/jpeg": jpeg(),
    "image/png": png(),
    "image/webp": webp(),
    "image/tiff": encoded(smooth_image(24, 16), "TIFF"),
    "image/avif": encoded(smooth_image(24, 16), "AVIF"),
    "image/heic": encoded(smooth_image(64, 48), "HEIF"),
    "image/gif": encoded(smooth_image(24, 16), "GIF"),
}


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return make_issuer()


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize("media_type", IMAGES)
def test_a_signed_ai_image_is_ai_by_the_agent_that_made_it(media_type: str, issuer: Issuer) -> None:
    image = IMAGES[media_type]
    action = created("trainedAlgorithmicMedia")
    finding = only(read_evidence(signed(issuer, action, image=image, media_type=media_type)))
    assert (finding.kind, finding.says, finding.source) == ("c2pa", Says.AI, "Test Model 1")
    assert finding.strength is Strength.SIGNED_UNTRUSTED
    assert finding.details["claim_generator"] == "Test Generator 2.0"
    assert finding.details["digital_source_type"] == "trainedAlgorithmicMedia"
    assert finding.details["signer"] == "Test Camera Maker"
    assert (finding.details["state"], finding.details["trusted"]) == ("valid", "false")


def test_a_camera_on_the_trust_list_is_trusted(issuer: Issuer) -> None:
    data = signed(issuer, created("digitalCapture"))
    finding = only(read_evidence(data, issuer.root))
    assert (finding.says, finding.strength) == (Says.CAMERA, Strength.SIGNED_TRUSTED)
    assert finding.source == "Test Generator 2.0"
    assert finding.details["trusted"] == "true"
    stranger = only(read_evidence(data, make_issuer().root))
    assert stranger.strength is Strength.SIGNED_UNTRUSTED


def test_edits_are_edited_and_generated_parts_too(issuer: Issuer) -> None:
    cropped = signed(issuer, created("digitalCapture"), {"action": "c2pa.cropped"})
    assert only(read_evidence(cropped)).says is Says.EDITED
    composite = signed(issuer, created("compositeWithTrainedAlgorithmicMedia"))
    assert only(read_evidence(composite)).says is Says.EDITED


def test_an_ai_image_that_was_edited_afterwards_is_ai(issuer: Issuer) -> None:
    generated = signed(issuer, created("trainedAlgorithmicMedia", "Deep Model"))
    opened = signed(issuer, {"action": "c2pa.color_adjustments"}, ingredient=generated)
    finding = only(read_evidence(opened))
    assert (finding.says, finding.source) == (Says.AI, "Deep Model")
    assert "c2pa.color_adjustments" in finding.details["actions"]


def test_a_damaged_manifest_that_says_ai_is_a_plain_label(issuer: Issuer) -> None:
    data = changed(signed(issuer, created("trainedAlgorithmicMedia")))
    finding = only(read_evidence(data, issuer.root))
    assert (finding.says, finding.strength) == (Says.AI, Strength.METADATA)
    assert finding.details["state"] == "damaged"
    assert "assertion.dataHash.mismatch" in finding.details["failures"]


def test_a_damaged_manifest_that_says_camera_says_nothing(issuer: Issuer) -> None:
    finding = only(read_evidence(changed(signed(issuer, created("digitalCapture"))), issuer.root))
    assert (finding.says, finding.details["state"]) == (Says.NONE, "damaged")
    assert strongest([finding]) is None


def changed(data: bytes) -> bytes:
    """Return a JPEG whose image was changed after it was signed."""
    place = data.rindex(b"\xff\xda") + 20
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("relationship", ["parentOf", "componentOf"])
def test_a_damaged_ingredient_is_a_finding_of_its_own(relationship: str, issuer: Issuer) -> None:
    broken = changed(signed(issuer, created("trainedAlgorithmicMedia")))
    data = signed(issuer, created("digitalCapture"), ingredient=broken, relationship=relationship)
    found = {finding.kind: finding for finding in read_evidence(data)}
    damaged = found["c2pa-ingredient-damaged"]
    assert damaged.says is Says.NONE
    assert damaged.details["ingredient"] == "ingredient.jpg"
    assert "assertion.dataHash.mismatch" in damaged.details["failures"]
    # The whole manifest speaks for itself: what a damaged parent claims is not signed.
    assert found["c2pa"].says is not Says.AI
    assert found["c2pa"].strength is Strength.SIGNED_UNTRUSTED


@contextmanager
def listening() -> Iterator[tuple[int, list[object]]]:
    """Listen on a free port of loopback; every connection is closed, and kept in a list."""
    heard: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                connection, address = server.accept()
                connection.close()
                if not stop.is_set():
                    heard.append(address)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            stop.set()
            socket.create_connection(server.getsockname()).close()
            thread.join()


def test_a_remote_manifest_is_reported_and_never_fetched() -> None:
    with listening() as (port, heard):
        url = f"http://127.0.0.1:{port}/manifest.c2pa"
        remote = jpeg_with_xmp(f'dcterms:provenance="{url}"')
        finding = only(read_evidence(remote))
        assert (finding.kind, finding.says) == ("c2pa-remote", Says.NONE)
        assert finding.details["url"] == url
        # The C2PA reader itself, which is not asked above, does not fetch either ...
        with pytest.raises(UnreadableError, match="remote"):
            read_store(remote)
        assert heard == []
        # ... unlike with its own defaults.
        with pytest.raises(c2pa.C2paError):
            c2pa.Reader("image/jpeg", io.BytesIO(remote))
        assert heard


def test_an_embedded_manifest_beside_a_remote_one_is_read_and_nothing_is_fetched(
    issuer: Issuer,
) -> None:
    with listening() as (port, heard):
        remote = jpeg_with_xmp(f'dcterms:provenance="http://127.0.0.1:{port}/a.c2pa"')
        data = signed(issuer, created("digitalCapture"), image=remote)
        kinds = [finding.kind for finding in read_evidence(data)]
        assert kinds == ["c2pa", "c2pa-remote"]
        assert heard == []


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"\xff" * 300])
def test_a_block_that_is_no_manifest_is_unreadable(content: bytes) -> None:
    box = struct.pack(">HII4s", 1, 1, len(content) + 8, b"jumb")
    data = jpeg_with(segment(0xEB, b"JP" + box + content))
    finding = only(read_evidence(data))
    assert (finding.kind, finding.says) == ("c2pa", Says.NONE)
    assert finding.details["state"] == "unreadable"
    assert finding.details["reason"]


def test_a_manifest_over_the_limit_is_reported_and_not_read() -> None:
    size = MOST_C2PA_BYTES + 1
    head, tail = png()[:33], png()[33:]
    data = head + struct.pack(">I", size) + b"caBX" + bytes(size + 4) + tail
    finding = only(read_evidence(data))
    assert finding.details == {"state": "unread", "reason": "more than 50 MiB"}


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def png_with_store(*boxes: bytes) -> bytes:
    return with_chunks(png(), png_chunk(b"caBX", box(b"jumb", b"".join(boxes))))


DESCRIPTION = box(b"jumd", b"c2pa" + bytes(12) + b"\x03c2pa\0")
TOO_COSTLY = {
    "4097 boxes": ([box(b"free", b"")] * 4100, "more than 4096 boxes"),
    "a box within another, again and again": ([box(b"jumb", b"")] * 5000, "more than 4096 boxes"),
    "one large assertion": ([box(b"cbor", bytes(300 << 10))], "more than 256 KiB of claims"),
    "many assertions": ([box(b"json", bytes(1 << 10))] * 300, "more than 256 KiB of claims"),
    "a box to the end": ([b"\0\0\0\0cbor", bytes(300 << 10)], "more than 256 KiB of claims"),
    "a box of 64 bits": (
        [b"\0\0\0\1cbor" + (1 << 40).to_bytes(8, "big"), bytes(300 << 10)],
        "more than 256 KiB of claims",
    ),
}


@pytest.mark.parametrize("kind", TOO_COSTLY)
def test_a_manifest_that_would_cost_too_much_is_reported_and_not_read(kind: str) -> None:
    boxes, reason = TOO_COSTLY[kind]
    finding = only(read_evidence(png_with_store(DESCRIPTION, *boxes)))
    assert finding.details == {"state": "unread", "reason": reason}
    assert finding.says is Says.NONE


def test_a_manifest_of_very_many_actions_is_not_read(issuer: Issuer) -> None:
    action = created("trainedAlgorithmicMedia")
    for count, state in ((100, "valid"), (20_000, "unread")):
        edits = [{"action": "c2pa.edited"}] * count
        for media_type in ("image/jpeg", "image/png"):
            image = IMAGES[media_type]
            data = signed(issuer, action, *edits, image=image, media_type=media_type)
            assert only(read_evidence(data)).details["state"] == state


def test_large_thumbnails_and_signatures_are_no_claims() -> None:
    signature = box(b"jumd", b"c2cs" + bytes(12)) + box(b"cbor", bytes(60 << 10))
    boxes = [box(b"bidb", bytes(1 << 20)), *[box(b"jumb", signature)] * 20]
    finding = only(read_evidence(png_with_store(DESCRIPTION, *boxes)))
    assert finding.details["state"] == "unreadable"


@pytest.mark.parametrize("kind", [b"jumb", b"cbor", b"json"])
@pytest.mark.parametrize("depth", [100, 4000])
def test_deeply_nested_manifests_are_no_crash(kind: bytes, depth: int) -> None:
    nested = b""
    if kind == b"jumb":
        sizes = range(8 * depth, 0, -8)
        nested = b"".join(struct.pack(">I4s", size, kind) for size in sizes)
    else:
        nested = box(kind, (b"\x81" if kind == b"cbor" else b"[") * depth * 20)
    finding = only(read_evidence(png_with_store(DESCRIPTION, nested)))
    assert finding.details["state"] in ("unreadable", "unread")


def test_without_the_extra_a_manifest_is_present_and_unread(issuer: Issuer, tmp_path: Path) -> None:
    path = tmp_path / "signed.jpg"
    path.write_bytes(signed(issuer, created("trainedAlgorithmicMedia")))
    done = run_without(("c2pa",), "inspect", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{path}: no evidence",
        "  note: c2pa (C2PA manifest; metadata)",
        "    state: unread",
        f"    reason: reading it needs c2pa: {install_command('evidence')}",
    ]


@pytest.mark.parametrize(
    "text", [b"", b"no certificate", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nx\n"]
)
def test_a_trust_list_without_certificates_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trust.pem"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=r"`trust_list` .*trust\.pem: "):
        read_trust_list(path)


def test_a_trust_list_is_read(issuer: Issuer, tmp_path: Path) -> None:
    path = tmp_path / "trust.pem"
    path.write_text(issuer.root)
    assert read_trust_list(path).split() == issuer.root.split()
