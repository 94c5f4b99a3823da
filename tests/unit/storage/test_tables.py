"""Tables that are more than their files: refused wherever a folder, a file or a glob meets one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hub_server import hub_server, use_hub

from aigid.errors import ManifestError
from aigid.storage import list_files, locate

Make = Callable[..., None]
UUID = "7f3d1c52-0a6b-4f7e-9c1d-2b8e4a5f6c70"
TABLES = [
    ("a Delta Lake table", "_delta_log/00000000000000000000.json", "0.parquet", "part-0.parquet"),
    ("a Hudi table", ".hoodie/hoodie.properties", "2024/01/a.parquet", "b.parquet"),
    ("an Iceberg table", f"metadata/00000-{UUID}.metadata.json", "data/year=2024/a.parquet"),
    ("an Iceberg table", "metadata/version-hint.text", "data/a.parquet"),
    ("an Iceberg table", "metadata/v3.gz.metadata.json", "data/a.parquet"),
    ("a Paimon table", "snapshot/LATEST", "schema/schema-0", "bucket-0/data-1.parquet"),
    ("a Hive ACID table", "base_0000005/000000_0.parquet", "delete_delta_0000006_0000006/x"),
    ("a Hive ACID table", "delta_0000001_0000001_0000/a.parquet"),
    ("the output of a Spark stream", "_spark_metadata/0", "part-0.parquet"),
    ("a DuckLake table", f"ducklake-{UUID}.parquet", f"ducklake-{UUID}-delete.parquet"),
]
ORDINARY = (
    "metadata/0001.metadata.json",
    "metadata/00000-photo.metadata.json",
    "metadata/v1.metadata.json.parquet",
    "snapshot/snapshot-a/x.parquet",
    "base_20240101/a.parquet",
    "delta_20240101_20240102/a.parquet",
    "delta_log/a.parquet",
    "data/year=2024/a.parquet",
    "hoodie/b.parquet",
    "version-hint.text",
    "ducklake-photos.parquet",
)


def places_of(names: tuple[str, ...]) -> list[str]:
    """The table's folder, one above it, its Parquet files, and globs of them."""
    files = [name for name in names if name.endswith(".parquet")]
    folders = [file.rpartition("/")[0] for file in files]
    globs = [f"{folder}/*.parquet".lstrip("/") for folder in folders]
    return ["", "..", "../**/*.parquet", *files, *folders, *globs]


def listed(text: str, checked: set[str] | None = None) -> list[str]:
    return [file.location.text for file in list_files(locate(text), checked).files]


@pytest.fixture
def in_a_folder(make: Make, here: Path) -> Callable[[tuple[str, ...]], str]:
    def put(names: tuple[str, ...]) -> str:
        make(*(f"above/t/{name}" for name in names))
        return "above/t"

    return put


@pytest.fixture
def on_the_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[tuple[str, ...]], str]]:
    with hub_server() as hub:
        use_hub(hub, monkeypatch)

        def put(names: tuple[str, ...]) -> str:
            return hub.put({f"above/t/{name}": b"x" for name in names}) + "/above/t"

        yield put


@pytest.fixture(params=["in_a_folder", "on_the_hub"])
def put(request: pytest.FixtureRequest) -> Callable[[tuple[str, ...]], str]:
    """Writes files into the folder of a table, and returns the folder."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def at(folder: str, place: str) -> str:
    return (
        f"{folder.removesuffix('/t')}{place[2:]}"
        if place.startswith("..")
        else (f"{folder}/{place}".rstrip("/"))
    )


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table[0]}: {table[1]}")
def test_a_table_is_refused_from_above_within_and_inside(
    table: tuple[str, ...], put: Callable[[tuple[str, ...]], str]
) -> None:
    kind, *names = table
    folder = put(tuple(names))
    for place in places_of(tuple(names)):
        with pytest.raises(ManifestError) as refused:
            listed(at(folder, place))
        wanted = f"above/t: {kind}: its folder has files of deleted and old rows as well: write its"
        assert wanted in str(refused.value), place
        assert "\n" not in str(refused.value)


def test_the_first_file_of_a_table_is_never_listed(make: Make, here: Path) -> None:
    make("t/data/a.parquet", "t/metadata/version-hint.text")
    with pytest.raises(ManifestError, match="t: an Iceberg table"):
        next(list_files(locate("t")).files)


def test_ordinary_folders_are_read(put: Callable[[tuple[str, ...]], str]) -> None:
    folder = put(ORDINARY)
    wanted = {f"{folder}/{name}" for name in ORDINARY if name.endswith(".parquet")}
    assert wanted <= set(listed(folder))
    for file in wanted:
        assert listed(file) == [file]


def test_folders_around_many_files_are_looked_into_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hub_server() as hub:
        use_hub(hub, monkeypatch)
        folder = hub.put({f"a/{row}.parquet": b"x" for row in range(9)})
        checked: set[str] = set()
        for row in range(9):
            listed(f"{folder}/a/{row}.parquet", checked)
        asked = [path for path in hub.paths() if "/api/datasets/" in path]
        assert len(asked) == 9 + 1
        hub.requests.clear()
        listed(folder)
        # The data set, its first folders, and what is below the one.
        assert len([path for path in hub.paths() if "/api/datasets/" in path]) == 3


def test_a_table_in_a_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_server() as hub:
        use_hub(hub, monkeypatch)
        uri = hub.put({"t/_delta_log/0.json": b"x", "t/a.parquet": b"x"})
        with pytest.raises(ManifestError, match=rf"^{uri}/t: a Delta Lake table.*DeltaTable"):
            listed(uri)
