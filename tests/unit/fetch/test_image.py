"""Image references: how each kind is fetched, and the code and detail of every refusal."""

import errno
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
import pytest
from support.manifests import HF_IMAGE

from aigid.errors import AigidError
from aigid.fetch import (
    FetchPolicy,
    ImageReference,
    fetch_image,
    from_file,
    image_references,
    image_root_of,
)
from aigid.pixels import DecodeLimits
from aigid.records import ErrorCode, RowError, RowFailure
from aigid.storage import locate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root with a file in it, in a folder below it, and one outside."""
    (tmp_path / "root" / "below").mkdir(parents=True)
    for name in (
        "root/in.png",
        "root/below/deep.png",
        "outside.png",
        "root/with space %.png",
        "root/画像.png",
    ):
        (tmp_path / name).write_text(name)
    return tmp_path / "root"


def within(
    root: Path, allow_outside: bool = False, limits: DecodeLimits = DecodeLimits()
) -> FetchPolicy:
    """The policy of an image root."""
    return FetchPolicy(locate(str(root)), allow_outside, limits=limits)


def fetched(path: str | None, policy: FetchPolicy) -> str:
    return fetch_image(ImageReference(None, path), policy).decode()


def refusal(reference: ImageReference | str, policy: FetchPolicy) -> RowError:
    """The error of an image that cannot be fetched."""
    if isinstance(reference, str):
        reference = ImageReference(None, reference)
    with pytest.raises(RowFailure) as caught:
        fetch_image(reference, policy)
    return caught.value.error


def test_inline_bytes_are_returned_and_the_path_beside_them_is_not_opened(root: Path) -> None:
    assert fetch_image(ImageReference(b"data", "no-such.png"), within(root)) == b"data"
    assert fetch_image(ImageReference(b"data", None), FetchPolicy(None)) == b"data"


def test_a_null_image_is_empty(root: Path) -> None:
    assert refusal(ImageReference(None, None), within(root)) == RowError(
        ErrorCode.EMPTY, "the image is null"
    )


def test_an_empty_path_is_empty(root: Path) -> None:
    assert refusal("", within(root)) == RowError(ErrorCode.EMPTY, "the image's path is empty")


def test_zero_bytes_are_empty_even_with_a_path_beside_them(root: Path) -> None:
    # Inline bytes are the image. Only where they are null does the path count.
    for path in (None, "in.png"):
        assert refusal(ImageReference(b"", path), within(root)) == RowError(
            ErrorCode.EMPTY, "zero bytes"
        )


def test_a_file_of_zero_bytes_is_empty(root: Path) -> None:
    (root / "zero.png").touch()
    assert refusal("zero.png", within(root)) == RowError(ErrorCode.EMPTY, "zero bytes")


def test_inline_bytes_over_the_limit_are_too_large(root: Path) -> None:
    policy = within(root, limits=DecodeLimits(max_bytes=10))
    assert fetch_image(ImageReference(b"x" * 10, None), policy) == b"x" * 10
    assert refusal(ImageReference(b"x" * 11, None), policy) == RowError(
        ErrorCode.TOO_LARGE, "more than 10 bytes"
    )


def test_a_file_over_the_limit_is_not_read(root: Path) -> None:
    # Larger than memory: reading it would fail.
    with (root / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal("huge.png", within(root)) == RowError(
        ErrorCode.TOO_LARGE, "1099511627776 bytes; the limit is 67108864"
    )


@pytest.mark.parametrize(
    "path",
    [
        "in.png",
        "./in.png",
        "below/../in.png",
        "below//../in.png",
        "../root/in.png",
        "file:///ROOT/in.png",
        "/ROOT/in.png",
    ],
)
def test_paths_into_the_root_are_read(root: Path, path: str) -> None:
    assert fetched(path.replace("/ROOT", str(root)), within(root)) == "root/in.png"


@pytest.mark.parametrize("start", ["file://", "file://localhost", "FILE://"])
def test_a_file_uri_is_read_with_its_percent_escapes_decoded(root: Path, start: str) -> None:
    assert fetched(f"{start}{root}/with%20space%20%25.png", within(root)) == "root/with space %.png"
    assert fetched(f"{start}{root}/%E7%94%BB%E5%83%8F.png", within(root)) == "root/画像.png"


@pytest.mark.parametrize(
    ("name", "escape"), [("a#1.png", "%23"), ("a?x.png", "%3F"), ("a#.png?", "%23")]
)
def test_a_file_uri_that_would_name_another_file_is_refused(
    root: Path, name: str, escape: str
) -> None:
    for found in (name, "a"):
        (root / found).write_text(found)
    character = unquote(escape)
    error = refusal(f"file://{root}/{name}", within(root))
    assert error.code is ErrorCode.MISSING
    # What follows may be a secret, and is not shown.
    shown = f"file://{root}/a{character}..."
    assert error.detail == f"{shown}: write a {character} in a name as {escape} in a URI"
    assert fetched(f"file://{root}/{quote(name)}", within(root)) == name
    assert fetched(name, within(root)) == name


def test_a_file_uri_keeps_line_breaks_and_bytes_that_are_not_utf8(root: Path) -> None:
    (root / "ab.png").write_text("another file")
    (root / "a\nb.png").write_text("line break")
    (root / os.fsdecode(b"\xff.png")).write_text("byte")
    assert fetched(f"file://{root}/a%0Ab.png", within(root)) == "line break"
    assert fetched(f"file://{root}/a\nb.png", within(root)) == "line break"
    assert fetched(f"file://{root}/%FF.png", within(root)) == "byte"


@pytest.mark.parametrize(
    "text",
    [" in.png", "in.png\n", "\r\nin.png\t", "\ufeffin.png", "\u3000in.png\u00a0", "\ufeff in.png "],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), HF_IMAGE])
def test_blanks_around_a_reference_are_no_part_of_it(
    root: Path, text: str, kind: pa.DataType
) -> None:
    value = {"bytes": None, "path": text} if kind == HF_IMAGE else text
    (reference,) = image_references(pa.array([value], kind))
    assert reference == ImageReference(None, "in.png")
    assert fetch_image(reference, within(root)) == b"root/in.png"


def test_a_reference_of_blanks_is_empty(root: Path) -> None:
    (reference,) = image_references(pa.array([" \ufeff\n"]))
    assert refusal(reference, within(root)).code is ErrorCode.EMPTY


def test_a_plain_path_is_not_percent_decoded(root: Path) -> None:
    assert fetched("with space %.png", within(root)) == "root/with space %.png"
    assert refusal("with%20space%20%25.png", within(root)).code == ErrorCode.MISSING


@pytest.mark.parametrize(
    "path",
    [
        "../outside.png",
        "below/../../outside.png",
        "../../../../../../../../etc/hostname",
        "/OUTSIDE/outside.png",
        "//OUTSIDE/outside.png",
        "file:///OUTSIDE/outside.png",
        "file:///ROOT/%2e%2e/outside.png",
        "file:///ROOT%2F..%2Foutside.png",
        "link.png",
        "linked-folder/outside.png",
        "../no-such-file-outside.png",
        "../root-beside/in.png",
    ],
)
def test_paths_out_of_the_root_are_forbidden_whether_or_not_they_exist(
    root: Path, path: str
) -> None:
    (root / "link.png").symlink_to("../outside.png")
    (root / "linked-folder").symlink_to(root.parent)
    path = path.replace("/ROOT", str(root)).replace("/OUTSIDE", str(root.parent))
    error = refusal(path, within(root))
    shown = path.removeprefix("file://").replace("%2e", ".").replace("%2F", "/")
    assert error == RowError(
        ErrorCode.FORBIDDEN,
        f"{shown}: outside the image root {root} (allow_outside_root)",
    )


@pytest.mark.parametrize(
    "path", ["../outside.png", "link.png", "/OUTSIDE/outside.png", "file:///OUTSIDE/outside.png"]
)
def test_paths_out_of_the_root_are_read_if_allowed(root: Path, path: str) -> None:
    (root / "link.png").symlink_to("../outside.png")
    assert (
        fetched(path.replace("/OUTSIDE", str(root.parent)), within(root, allow_outside=True))
        == "outside.png"
    )


def test_links_within_the_root_are_followed_and_so_is_a_root_that_is_a_link(root: Path) -> None:
    (root / "below" / "link.png").symlink_to("../in.png")
    (root.parent / "root-link").symlink_to("root")
    assert fetched("below/link.png", within(root.parent / "root-link")) == "root/in.png"


@pytest.mark.parametrize("swapped", ["root/below", "root/below/deep.png"])
def test_a_link_that_is_put_into_a_path_after_its_check_does_not_lead_outside(
    root: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = root.parent / "elsewhere"
    outside.mkdir()
    (outside / "deep.png").write_text("secret")
    place, real_open = root.parent / swapped, os.open

    def swap_and_open(path: os.PathLike[str], *flags: int) -> int:
        place.rename(root.parent / "moved")
        place.symlink_to(outside if place.suffix == "" else outside / "deep.png")
        return real_open(path, *flags)

    monkeypatch.setattr(os, "open", swap_and_open)
    assert refusal("below/deep.png", within(root)) == RowError(
        ErrorCode.FORBIDDEN, f"below/deep.png: outside the image root {root} (allow_outside_root)"
    )


def test_a_relative_root_is_below_the_current_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    assert fetched("in.png", within(Path("root"))) == "root/in.png"
    assert refusal("../outside.png", within(Path("root"))).code == ErrorCode.FORBIDDEN


@pytest.mark.parametrize("allow_outside", [False, True])
@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/x.png",
        "gopher://host/x.png",
        "file://host/x.png",
        "://x.png",
    ],
)
def test_uris_of_other_schemes_are_forbidden_whatever_is_allowed(
    root: Path, uri: str, allow_outside: bool
) -> None:
    error = refusal(uri, within(root, allow_outside))
    assert error == RowError(
        ErrorCode.FORBIDDEN,
        f"{uri}: the scheme is not one of s3, gs, az, abfs, abfss, s3a, s3n, gcs, hf, http, https, "
        "file",
    )


@pytest.mark.parametrize(
    ("uri", "options", "error"),
    [
        (
            "s3://bucket/x.png",
            {},
            RowError(
                ErrorCode.FORBIDDEN,
                "s3://bucket/x.png: outside the image root ROOT (allow_outside_root)",
            ),
        ),
        (
            "s3://bucket/x.png?endpoint_override=evil.example",
            {"allow_outside": True},
            RowError(
                ErrorCode.FORBIDDEN,
                "s3://bucket/x.png?...: a manifest may not set the server or region",
            ),
        ),
        (
            "s3://key:secret@bucket/x.png",
            {},
            RowError(
                ErrorCode.MISSING,
                "s3://bucket/x.png: s3://...@: credentials do not belong in a URI; aigid finds "
                "them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/, or the host's IAM "
                "role",
            ),
        ),
    ],
)
def test_an_object_of_a_store_is_forbidden_unless_it_is_below_the_root(
    root: Path, uri: str, options: dict[str, bool], error: RowError
) -> None:
    found = refusal(uri, within(root, **options))
    assert found == RowError(error.code, error.detail.replace("ROOT", str(root)))


def test_another_azure_account_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    policy = FetchPolicy(locate("abfss://box@mine.dfs.core.windows.net/set"))
    for uri in ("abfss://box@other.dfs.core.windows.net/set/x.png", "az://box/set/x.png"):
        assert refusal(uri, policy) == RowError(
            ErrorCode.FORBIDDEN,
            f"{uri}: outside the image root abfss://box@mine.dfs.core.windows.net/set "
            "(allow_outside_root)",
        )


def test_without_an_image_root_the_setting_is_named() -> None:
    assert refusal("in.png", FetchPolicy(None)) == RowError(
        ErrorCode.FORBIDDEN, "in.png: a path needs a local image root (image_root)"
    )
    assert refusal("s3://bucket/x.png", FetchPolicy(None)) == RowError(
        ErrorCode.FORBIDDEN,
        "s3://bucket/x.png: there is no image root that it could be below "
        "(image_root, allow_outside_root)",
    )


def test_a_file_that_does_not_exist_is_missing(root: Path) -> None:
    assert refusal("gone.png", within(root)) == RowError(
        ErrorCode.MISSING, "gone.png: No such file or directory"
    )
    assert refusal("in.png/x.png", within(root)) == RowError(
        ErrorCode.MISSING, "in.png/x.png: Not a directory"
    )
    (root / "dangling.png").symlink_to("gone.png")
    assert refusal("dangling.png", within(root)) == RowError(
        ErrorCode.MISSING, "dangling.png: No such file or directory"
    )


def test_the_files_of_a_missing_root_are_missing(tmp_path: Path) -> None:
    assert refusal("in.png", within(tmp_path / "gone")).code == ErrorCode.MISSING


def test_a_link_to_itself_is_missing(root: Path) -> None:
    (root / "loop.png").symlink_to("loop.png")
    error = refusal("loop.png", within(root))
    assert error.code == ErrorCode.MISSING
    assert "loop" in error.detail


@pytest.mark.parametrize("path", ["nul\0.png", "file:///ROOT/nul%00.png"])
def test_a_name_with_a_nul_is_missing(root: Path, path: str) -> None:
    error = refusal(path.replace("/ROOT", str(root)), within(root))
    assert error.code == ErrorCode.MISSING
    assert "null" in error.detail


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000, "data:image/png;base64," + "A" * 100_000])
def test_an_over_long_name_is_missing_and_its_detail_stays_short(root: Path, path: str) -> None:
    error = refusal(path, within(root))
    assert error == RowError(ErrorCode.MISSING, f"{path[:200]}...: File name too long")


@pytest.mark.parametrize(
    "path", ["two\nlines.png", "two\nlines://x.png", "../two\nlines.png", "\x1b[31mred.png"]
)
def test_the_detail_is_one_line_without_control_characters(root: Path, path: str) -> None:
    assert refusal(path, within(root)).detail.isprintable()


def test_a_folder_is_undecodable(root: Path) -> None:
    assert refusal("below", within(root)) == RowError(ErrorCode.UNDECODABLE, "below: a folder")
    assert refusal(".", within(root)) == RowError(ErrorCode.UNDECODABLE, "root: a folder")


def test_a_pipe_is_undecodable_and_does_not_block(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    assert refusal("pipe.png", within(root)) == RowError(
        ErrorCode.UNDECODABLE, "pipe.png: not a regular file"
    )


def test_a_socket_is_undecodable_and_does_not_end_the_scan(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        assert refusal("socket.png", within(root)) == RowError(
            ErrorCode.UNDECODABLE, "socket.png: not a regular file"
        )


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_a_device_is_undecodable_and_not_read(root: Path, device: str) -> None:
    (root / "device.png").symlink_to(device)
    error = refusal("device.png", within(root, allow_outside=True))
    assert error == RowError(ErrorCode.UNDECODABLE, f"{Path(device).name}: not a regular file")
    assert refusal("device.png", within(root)).code == ErrorCode.FORBIDDEN


AS_NOBODY = """
import os, sys
from pathlib import Path
from aigid.fetch import FetchPolicy, ImageReference, fetch_image
from aigid.storage import locate
from aigid.records import RowFailure
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for name in ("in.png", "locked.png", "locked/in.png"):
    try:
        print(fetch_image(ImageReference(None, name), FetchPolicy(locate(sys.argv[1]))).decode())
    except RowFailure as failure:
        print(failure)
"""


def test_a_file_without_read_permission_is_forbidden() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "locked").mkdir()
        for file in ("in.png", "locked.png", "locked/in.png"):
            (folder / file).write_text("content")
        folder.chmod(0o755)
        (folder / "locked.png").chmod(0)
        (folder / "locked").chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, name], capture_output=True, text=True, check=True
        )
        (folder / "locked").chmod(0o755)
    assert done.stdout.splitlines() == [
        "content",
        "forbidden: locked.png: Permission denied",
        "forbidden: locked/in.png: Permission denied",
    ]


@pytest.mark.parametrize("number", [errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EREMOTEIO])
def test_a_file_that_the_disk_cannot_read_is_its_row_s_error(
    number: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No disk here has a bad sector.
    def fail(*arguments: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(from_file, "_read_regular_file", fail)
    with pytest.raises(RowFailure) as caught:
        fetch_image(ImageReference(None, "in.png"), FetchPolicy(locate(str(root))))
    assert caught.value.error == RowError(
        ErrorCode.UNDECODABLE, f"in.png: the disk cannot read it: {os.strerror(number)}"
    )


def test_a_disk_that_cannot_be_listed_either_ends_the_scan(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> bytes:
        # The disk goes away, as a file is read.
        root.rename(root.with_name("gone"))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(from_file, "_read_regular_file", fail)
    with pytest.raises(AigidError, match="the storage failed: .* run the scan again to continue"):
        fetch_image(ImageReference(None, "in.png"), FetchPolicy(locate(str(root))))


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_an_error_that_other_files_would_meet_ends_the_scan(
    number: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(from_file, "_read_regular_file", fail)
    with pytest.raises(AigidError, match="the storage failed: .* run the scan again to continue"):
        fetch_image(ImageReference(None, "in.png"), FetchPolicy(locate(str(root))))


WITHOUT_FREE_HANDLES = """
import resource, sys
from pathlib import Path
from aigid.errors import AigidError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image
from aigid.storage import locate
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    fetch_image(ImageReference(None, "in.png"), FetchPolicy(locate(sys.argv[1])))
except AigidError as error:
    print(error)
"""


def test_a_failure_of_the_storage_itself_ends_the_scan(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FREE_HANDLES, root],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(
        f"{root.resolve()}/in.png: the storage failed: [Errno 24] Too many open files"
    )


def test_a_null_struct_is_told_from_a_struct_with_a_null_field() -> None:
    rows = [
        {"bytes": b"a", "path": "a.png"},
        None,
        {"bytes": None, "path": "c.png"},
        {"bytes": b"", "path": "d.png"},
        {},
    ]
    column = pa.array(rows, HF_IMAGE)
    expected = [
        ImageReference(b"a", "a.png"),
        ImageReference(None, None),
        ImageReference(None, "c.png"),
        ImageReference(b"", "d.png"),
        ImageReference(None, None),
    ]
    assert image_references(column) == expected
    assert image_references(column.slice(1, 3)) == expected[1:4]


def test_a_path_that_is_not_utf8_is_missing_and_does_not_end_the_scan(root: Path) -> None:
    column = pa.array([b"caf\xe9.png"], pa.binary()).view(pa.string())
    (reference,) = image_references(column)
    assert refusal(reference, within(root)) == RowError(
        ErrorCode.MISSING, "caf\N{REPLACEMENT CHARACTER}.png: No such file or directory"
    )


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["m.parquet"], "."),
        (["set/m.parquet"], "set"),
        (["set"], "set"),
        (["set/"], "set"),
        (["set/*.parquet"], "set"),
        (["set/**/m?.parquet"], "set"),
        (["set/a.parquet", "set/b.parquet", "set"], "set"),
        (["w[1]"], "w[1]"),
        (["w[1]/m.parquet"], "w[1]"),
        (["w[1]/*.parquet"], "."),
        (["file:///HERE/set/m.parquet"], "/HERE/set"),
        (["set/m.parquet", "other/m.parquet"], None),
    ],
)
def test_the_default_image_root_is_the_one_folder_of_the_manifest(
    paths: list[str], folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("set", "other", "w[1]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.parquet").touch()
    found = image_root_of([path.replace("/HERE", str(tmp_path)) for path in paths])
    assert (found and found.text) == (folder and folder.replace("/HERE", str(tmp_path)))
