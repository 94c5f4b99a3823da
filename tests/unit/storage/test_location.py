"""Paths and URIs: the location that a text names, and atomic writes."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.errors import UsageError
from aigid.storage import (
    exists,
    is_folder,
    list_files,
    list_names,
    locate,
    make_folder,
    remove_leftovers,
    write_atomic,
)

Make = Callable[..., None]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_uri_is_the_same_location_as_its_path(make: Make, here: Path) -> None:
    make("set/with space.parquet", "set/a.parquet")
    assert locate((here / "set").as_uri()).text == str(here / "set")
    assert locate((here / "set").as_uri()).is_local


@pytest.mark.parametrize("sign", ["?", "#"])
def test_a_file_uri_with_a_query_or_fragment_is_refused(make: Make, here: Path, sign: str) -> None:
    make("a1.parquet", "b.parquet")
    # Without what follows the character it would be the folder, and all of its files be scanned.
    with pytest.raises(UsageError, match=rf"write a \{sign} in a name as %.. in a URI"):
        locate(f"file://{here}/{sign}1.parquet")


@pytest.mark.parametrize(
    "text",
    [
        "gopher://host/m.parquet",
        "ftp://host/m.parquet",
        "://",
        "file://relative/m.parquet",
        "s3://a b/c",
    ],
)
def test_a_scheme_or_uri_that_cannot_be_opened_is_a_usage_error_that_names_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(text)
    assert str(caught.value).startswith(f"{text}: not a location that can be opened: ")
    assert "\n" not in str(caught.value)


def test_an_empty_path_is_refused_and_not_taken_for_the_current_folder() -> None:
    with pytest.raises(UsageError, match="a path is empty"):
        locate("")


def test_paths_are_normalized() -> None:
    assert [locate(text).text for text in ("./a/", "a//b", "a/../b", "/x/./y/")] == [
        "a",
        "a/b",
        "b",
        "/x/y",
    ]
    assert locate("out/").child("m.parquet").text == "out/m.parquet"
    assert locate("/").child("m.parquet").text == "/m.parquet"


@pytest.mark.parametrize(
    ("uri", "path", "child"),
    [
        ("s3://bucket/set?region=x", "bucket/set", "s3://bucket/set/a b%3F.parquet?region=x"),
        ("s3://bucket?region=x", "bucket", "s3://bucket/a b%3F.parquet?region=x"),
        (
            "s3://bucket/se%25t//?region=x",
            "bucket/se%t",
            "s3://bucket/se%25t/a b%3F.parquet?region=x",
        ),
        ("gs://bucket/set", "bucket/set", "gs://bucket/set/a b%3F.parquet"),
        ("gcs://bucket/set", "bucket/set", "gs://bucket/set/a b%3F.parquet"),
        ("s3a://bucket/set?region=x", "bucket/set", "s3://bucket/set/a b%3F.parquet?region=x"),
        ("S3N://bucket/set?region=x", "bucket/set", "s3://bucket/set/a b%3F.parquet?region=x"),
        (
            "abfss://box@account.dfs.core.windows.net/set",
            "box/set",
            "abfss://box@account.dfs.core.windows.net/set/a b%3F.parquet",
        ),
    ],
)
def test_the_text_of_an_object_store_location_has_its_scheme_and_query(
    uri: str, path: str, child: str
) -> None:
    folder = locate(uri)
    assert not folder.is_local
    assert folder.path == path
    file = folder.child("a b?.parquet")
    assert (file.path, file.text) == (f"{path}/a b?.parquet", child)
    assert locate(file.text) == file
    assert file.parent == folder
    assert file.is_below(folder)
    assert not folder.is_below(file)
    make_folder(file)


@pytest.mark.parametrize("name", ["~", "~backup", "~root", "~/backup"])
def test_a_tilde_is_a_character_like_any_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = locate(name)
    make_folder(folder)
    file = folder.child("x.parquet")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    write_atomic(file, sink.getvalue())
    assert (tmp_path / name / "x.parquet").is_file()
    assert pq.read_table(file.path, filesystem=file.filesystem).num_rows == 1
    assert list_names(folder) == ["x.parquet"]
    assert [found.location.text for found in list_files(folder).files] == [f"{name}/x.parquet"]
    assert locate(file.text) == file


def test_the_client_of_a_store_is_shared() -> None:
    clients = [locate(f"s3://bucket/{key}?region=x").filesystem for key in ("a", "b")]
    assert clients[0] is clients[1]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "s3://key:secret@bucket/x",
            "s3://...@: credentials do not belong in a URI; aigid finds them in AWS_ACCESS_KEY_ID",
        ),
        (
            "gs://key@bucket/x",
            "do not belong in a URI; aigid finds them in GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (
            "s3://bucket/x?access_key=k",
            "the options after ? are region, endpoint_override, scheme, anonymous; write a ?",
        ),
        ("s3://bucket/part-?.parquet", "write a ? in a name as %3F in a URI"),
        ("s3://bucket/a#1.parquet", "write a # in a name as %23 in a URI"),
        ("s3://bucket/a?", "write a ? in a name as %3F in a URI"),
        ("s3://bucket/a\nb", "write a '\\n' in a name as %0A in a URI"),
        ("https://host.example/a\tb", "write a '\\t' in a name as %09 in a URI"),
        ("s3://bucket/a//b", "a key with an empty part, . or .. cannot be opened"),
        ("s3://bucket//b", "a key with an empty part, . or .. cannot be opened"),
        ("gs://bucket/a/../b", "a key with an empty part, . or .. cannot be opened"),
        ("s3://bucket/a/%2e%2E/b", "a key with an empty part, . or .. cannot be opened"),
        ("s3://bucket/./b", "a key with an empty part, . or .. cannot be opened"),
        ("s3://bucket/%FF", "the name is not UTF-8"),
        ("s3:///x", "give s3://BUCKET/KEY"),
        ("s3://a b/c", "give s3://BUCKET/KEY"),
        ("abfss://box/x", "give abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY"),
        ("abfss://box@localhost:1/x", "give abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY"),
        ("abfs://box@account:443/x", "give abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY"),
        ("abfss://box@account.dfs.core.windows.net:443/x", "name another server with ?blob"),
        ("abfss://box@account.dfs.core.chinacloudapi.cn/x", "name another server with ?blob"),
        ("abfss://box@/x", "give abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/KEY"),
        ("az://box/x", "no storage account: set AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_a_malformed_uri_is_refused_and_its_secrets_are_not_repeated(
    uri: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError) as caught:
        locate(uri)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_az_finds_its_account_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    file = locate("az://box/set/m.parquet")
    assert (file.path, file.text) == ("box/set/m.parquet", "az://box/set/m.parquet")


def test_exists_and_is_folder(make: Make) -> None:
    make("x/a.parquet")
    assert [exists(locate(text)) for text in ("x", "x/a.parquet", "gone")] == [True, True, False]
    assert [is_folder(locate(text)) for text in ("x", "x/a.parquet", "gone")] == [
        True,
        False,
        False,
    ]


def test_list_names_returns_only_files_directly_in_a_folder(make: Make) -> None:
    make("x/a", "x/.b", "x/y/c")
    assert sorted(list_names(locate("x"))) == [".b", "a"]
    assert list_names(locate("gone")) == []


def test_make_folder_makes_parents_and_accepts_an_existing_folder(here: Path) -> None:
    make_folder(locate("a/b/c"))
    make_folder(locate("a/b/c"))
    assert (here / "a" / "b" / "c").is_dir()


def test_a_written_file_replaces_the_old_one_and_leaves_no_other_file(here: Path) -> None:
    write_atomic(locate("summary.json"), b"old")
    write_atomic(locate("summary.json"), pa.py_buffer(b"new"))
    assert (here / "summary.json").read_bytes() == b"new"
    assert names_in(here) == ["summary.json"]
    assert (here / "summary.json").stat().st_mode & 0o777 == 0o644


def test_a_write_into_a_missing_folder_fails_and_makes_no_file(here: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(locate("gone/summary.json"), b"data")
    assert names_in(here) == []


def test_a_write_onto_a_folder_fails_and_leaves_the_folder_unchanged(
    make: Make, here: Path
) -> None:
    make("summary.json/inside")
    with pytest.raises(IsADirectoryError):
        write_atomic(locate("summary.json"), b"data")
    assert names_in(here) == ["summary.json"]
    assert names_in(here / "summary.json") == ["inside"]


WRITE_BEYOND_THE_LIMIT = """
import resource, signal
from aigid.storage import locate, write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(locate("summary.json"), b"x" * 5000)
except OSError as error:
    print(error.strerror)
"""


def test_a_write_that_fails_half_way_leaves_the_old_file_whole(make: Make, here: Path) -> None:
    make("summary.json")
    done = subprocess.run(
        [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT], capture_output=True, text=True, check=True
    )
    assert done.stdout == "File too large\n"
    assert (here / "summary.json").read_text() == "summary.json"
    assert names_in(here) == ["summary.json"]


WRITE_AS_NOBODY = """
import os, sys
from aigid.storage import locate, write_atomic
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for folder in ("open", "locked"):
    try:
        write_atomic(locate(f"{sys.argv[1]}/{folder}/summary.json"), b"new")
        print("written")
    except PermissionError as error:
        print(error.strerror)
"""


def test_a_write_into_a_read_only_folder_leaves_the_old_file_whole() -> None:
    with tempfile.TemporaryDirectory() as name:
        for folder, mode in {".": 0o755, "open": 0o777, "locked": 0o555}.items():
            path = Path(name, folder)
            path.mkdir(exist_ok=True)
            (path / "summary.json").write_text("old")
            path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", WRITE_AS_NOBODY, name],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == ["written", "Permission denied"]
        assert Path(name, "open", "summary.json").read_text() == "new"
        assert Path(name, "locked", "summary.json").read_text() == "old"
        assert names_in(Path(name, "locked")) == ["summary.json"]


def test_only_leftovers_of_killed_writes_are_removed(make: Make, here: Path) -> None:
    make(
        "out/.detections-000001.parquet.ab12.tmp",
        "out/kept.tmp",
        "out/.lock",
        "out/below/.x.tmp",
        "out/.folder.tmp/inside",
    )
    remove_leftovers(locate("out"))
    left = sorted(
        path.relative_to(here / "out").as_posix()
        for path in (here / "out").rglob("*")
        if path.is_file()
    )
    assert left == [".folder.tmp/inside", ".lock", "below/.x.tmp", "kept.tmp"]


def test_the_umask_sets_the_permissions_of_a_written_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(locate(str(tmp_path / "file")), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_number_of_attempts_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(UsageError, match="AWS_MAX_ATTEMPTS must be a whole number: got 'many'"):
        locate("s3://bucket-of-this-test/x?region=x")
