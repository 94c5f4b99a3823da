"""plan_scan: what is found, what a sample shows, and the estimates; nothing is written."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import encoded_image, manifest_table
from support.stand_in_triton import StandInServer
from support.web_server import Answer, WebServer, web_server

from aigid.config import ScanConfig
from aigid.contract import load_contract
from aigid.errors import ContractError, ManifestError, UsageError
from aigid.planning import ScanPlan, plan_scan
from aigid.scorers import TritonConfig


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with web_server() as site:
        yield site


def planned(repository: Path, *paths: object, sample: int = 64, **settings: object) -> ScanPlan:
    price = settings.pop("price", None)
    config = ScanConfig(
        tuple(map(str, paths)),
        "",
        model=repository,
        threads=2,
        **settings,  # type: ignore[arg-type]
    )
    return plan_scan(config, sample, price)  # type: ignore[arg-type]


def write_tar(path: Path, images: int) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(images):
            data = encoded_image(number, side=100)
            member = tarfile.TarInfo(f"{number:03}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_a_plan_of_tables_tells_files_columns_shards_and_estimates(
    tiny_repository: Path, tmp_path: Path
) -> None:
    for number in range(3):
        pq.write_table(manifest_table(40, seed=40 * number), tmp_path / f"{number}.parquet")
    before = sorted(tmp_path.rglob("*"))
    plan = planned(tiny_repository, tmp_path, shard_rows=40, keep=("id",), price=3.6)
    (found,) = plan.files
    assert (found.kind, found.files, found.rows, found.at_least) == ("parquet", 3, 120, False)
    assert found.bytes == sum(path.stat().st_size for path in before)
    assert (plan.rows, plan.shards, plan.at_least) == (120, 3, False)
    assert (plan.columns.image, plan.columns.prompt) == ("Image", "Caption")
    assert (plan.columns.keep, plan.columns.not_read) == (("id",), ("Label_A", "Label_B"))
    sample, estimate = plan.sample, plan.estimate
    assert sample is not None
    assert estimate is not None
    assert (sample.rows, sample.scored, sample.images) == (64, 64, {"manifest": 64})
    assert estimate.rows == 120
    assert estimate.seconds > 0
    assert estimate.cost == pytest.approx(estimate.seconds * 0.001)
    assert estimate.rows_per_s == pytest.approx(120 / estimate.seconds)
    assert 0 < estimate.memory_mib < estimate.most_memory_mib
    assert estimate.results_bytes > 0
    assert sorted(tmp_path.rglob("*")) == before, "a plan writes nothing"
    assert json.loads(json.dumps(plan.to_json()))["rows"] == 120


def test_a_sample_is_the_same_every_time_and_for_any_number_of_threads(
    tiny_repository: Path, tmp_path: Path
) -> None:
    table = manifest_table(90)
    images = table.column("Image").to_pylist()
    for row in range(0, 90, 7):
        images[row]["bytes"] = b"no image"
    table = table.set_column(2, "Image", pa.array(images, table.schema.field("Image").type))
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=11)
    found = []
    for threads in (1, 2, 5):
        config = ScanConfig((str(tmp_path),), "", model=tiny_repository, threads=threads)
        sample = plan_scan(config, 24).sample
        assert sample is not None
        found.append((sample.rows, sample.scored, sample.errors))
    assert found[0] == found[1] == found[2]
    assert found[0][2][0].code == "undecodable"


def test_a_plan_of_tars_whose_rows_are_unknown_estimates_them_by_bytes(
    tiny_repository: Path, tmp_path: Path
) -> None:
    for number in range(4):
        write_tar(tmp_path / f"{number}.tar", 30)
    plan = planned(tiny_repository, tmp_path, sample=40)
    assert plan.at_least
    assert plan.files[0].rows == 0
    assert plan.sample is not None
    assert plan.sample.rows == 40
    assert plan.estimate is not None
    assert plan.estimate.rows == pytest.approx(120, rel=0.15)


def test_a_plan_of_a_tar_with_fewer_rows_than_asked_for(
    tiny_repository: Path, tmp_path: Path
) -> None:
    write_tar(tmp_path / "a.tar", 3)
    plan = planned(tiny_repository, tmp_path / "a.tar", sample=100)
    assert plan.sample is not None
    assert (plan.sample.rows, plan.sample.scored) == (3, 3)


def test_a_plan_of_images_from_a_web_server(
    tiny_repository: Path, tmp_path: Path, server: WebServer
) -> None:
    urls = [server.serve(f"/{row}.png", Answer(encoded_image(row))) for row in range(12)]
    urls += [f"{server.address}/gone.png"]
    pq.write_table(pa.table({"url": urls}), tmp_path / "m.parquet")
    plan = planned(tiny_repository, tmp_path / "m.parquet", allow_private_addresses=True)
    assert plan.sample is not None
    assert (plan.sample.rows, plan.sample.scored) == (13, 12)
    assert plan.sample.images == {"web": 13}
    (error,) = plan.sample.errors
    assert (error.code, error.rows, error.row) == ("missing", 1, 12)
    assert plan.estimate is not None

    refused = planned(tiny_repository, tmp_path / "m.parquet")
    assert refused.sample is not None
    assert [error.code for error in refused.sample.errors] == ["forbidden"]


def test_without_a_scored_image_there_is_no_estimate(tiny_repository: Path, tmp_path: Path) -> None:
    paths = ["gone.png", None, "", "also-gone.png"]
    pq.write_table(pa.table({"image": pa.array(paths, pa.string())}), tmp_path / "m.parquet")
    plan = planned(tiny_repository, tmp_path / "m.parquet")
    assert plan.estimate is None
    assert plan.refusal is None
    assert plan.sample is not None
    assert {error.code: error.rows for error in plan.sample.errors} == {"empty": 2, "missing": 2}
    assert plan.sample.images == {"file": 2, "none": 2}
    assert plan.sample.decode_ms is None


def test_a_damaged_file_is_the_refusal_of_a_plan(tiny_repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(manifest_table(40), path)
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    path.write_bytes(data)
    plan = planned(tiny_repository, path)
    assert plan.refusal is not None
    assert str(path) in plan.refusal
    assert (plan.sample, plan.estimate) == (None, None)


def test_the_limit_is_what_is_planned(tiny_repository: Path, tmp_path: Path) -> None:
    for number in range(3):
        pq.write_table(manifest_table(40, seed=40 * number), tmp_path / f"{number}.parquet")
    plan = planned(tiny_repository, tmp_path, limit=50)
    assert plan.rows == 50
    assert plan.sample is not None
    assert plan.sample.rows == 50


def test_what_stops_a_scan_before_it_begins_stops_its_plan(
    tiny_repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match="no such file or folder"):
        planned(tiny_repository, tmp_path / "gone")
    with pytest.raises(ManifestError, match="nothing to scan there"):
        planned(tiny_repository, tmp_path)
    pq.write_table(pa.table({"id": [1]}), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="no column has a usual name for images"):
        planned(tiny_repository, tmp_path)
    pq.write_table(manifest_table(1), tmp_path / "m.parquet")
    with pytest.raises(ContractError, match="`max_fpr`"):
        planned(tiny_repository, tmp_path, max_fpr=0.5)
    with pytest.raises(ContractError, match="`mode` high-precision"):
        planned(tiny_repository, tmp_path, mode="high-precision")
    with pytest.raises(ContractError, match="no such folder"):
        planned(tmp_path / "no-model", tmp_path)
    with pytest.raises(UsageError, match="`sample` must be 1 or more"):
        planned(tiny_repository, tmp_path, sample=0)


def test_a_plan_with_triton_servers_scores_on_them(tiny_repository: Path, tmp_path: Path) -> None:
    pq.write_table(manifest_table(40), tmp_path / "m.parquet")
    with StandInServer(load_contract(tiny_repository)) as server:
        triton = TritonConfig((server.address,))
        plan = planned(tiny_repository, tmp_path / "m.parquet", triton=triton)
        assert server.calls > 1
    assert plan.sample is not None
    assert (plan.sample.scored, plan.sample.on_servers) == (40, True)
    assert plan.estimate is not None
    # Servers work for all threads at once.
    assert plan.estimate.seconds == pytest.approx(plan.sample.seconds)
