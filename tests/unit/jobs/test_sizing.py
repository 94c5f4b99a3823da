"""The calculated figures of jobs/sizing.md, calculated again from the figures that it gives."""

import io
import math
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from aigid.cli.scan import command as scan_command
from aigid.contract import load_contract

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "jobs/sizing.md").read_text(encoding="utf-8")
# Where a line ends does not matter for sentences.
PROSE = " ".join(PAGE.split())
BENCHMARKS = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
NIGHT_S = 8 * 3600
BATCH_ROWS = 32


def tables(page: str) -> list[list[list[str]]]:
    """The cells of each table, without the header."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
        for block in blocks
    ]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def shown(value: float, cell: str) -> bool:
    """Whether a cell has this value, rounded to as many decimals as the cell has."""
    decimals = len(cell.partition(".")[2])
    return abs(value - number(cell)) <= 0.5000001 * 10**-decimals


def three_digits(value: float) -> float:
    return round(value, 2 - math.floor(math.log10(value)))


GIVEN, IMAGES, GPUS, NIGHTS, COSTS, CARDS, MEMORY, SHARDS = tables(PAGE)
FIGURES = {row[0]: number(row[1]) for row in GIVEN}
GPU = {
    row[0]: {"tflops": number(row[1]), "rate": number(row[2]), "price": number(row[5])}
    for row in GPUS
}
CLIENT_S, EMBEDDED_S = FIGURES["client"] / 1000, FIGURES["embedded"] / 1000


def encoder_flop(tokens: int, width: int, layers: int) -> float:
    """The operations of a transformer's layers of the usual shape, two for each multiplication."""
    return layers * (tokens * 24 * width**2 + 4 * tokens**2 * width)


def request_dollars(rows_a_shard: int, rows_a_group: int) -> float:
    """The price of requests for a million pairs: 8 reads a shard, one a row group, and a write."""
    shards = 1_000_000 / rows_a_shard
    reads, writes = shards * (8 + rows_a_shard / rows_a_group), shards
    return (reads * FIGURES["reads"] + writes * FIGURES["writes"]) / 1000


def test_every_figure_has_its_origin() -> None:
    assert list(FIGURES) == [
        "client", "embedded", "decoding", "work", "utilisation", "pixels", "image", "results",
        "core", "reads", "writes",
    ]  # fmt: skip
    assert all(row[3] for row in GIVEN)
    assert all("November 2026" in row[3] for row in GIVEN if row[2].startswith("$"))
    assert "assumed" in next(row[2] for row in GIVEN if row[0] == "utilisation")


def test_measured_figures_are_those_of_the_benchmarks() -> None:
    rows = {row[0]: row[1] for table in tables(BENCHMARKS) for row in table}
    assert number(rows["core ms a pair: client (reading, decoding, gRPC)"]) == FIGURES["client"]
    assert number(rows["core ms a pair: embedded scan"]) == FIGURES["embedded"]
    assert shown(2 * 1000 / number(rows["decoding alone, pairs/s"]), GIVEN[2][1])
    assert rows["decoding alone, pairs/s"] in GIVEN[2][2]
    for _, anchor in re.findall(r"\((\.\./benchmarks/README\.md)#([\w-]+)\)", PAGE):
        titles = [
            re.sub(r"[^\w -]", "", title).replace(" ", "-").lower()
            for title in re.findall(r"^## (.*)$", BENCHMARKS, re.M)
        ]
        assert anchor in titles


def test_the_work_of_a_pair_is_that_of_the_architectures() -> None:
    patches, width, layers = 49, 768, 12
    vision = encoder_flop(patches + 1, width, layers) + 2 * patches * 3 * 32**2 * width
    bert = {tokens: encoder_flop(tokens, width, layers) for tokens in (16, 32)}
    said = re.search(r"CLIP B/32 ([\d.]+), BERT-base at 16 tokens ([\d.]+)", PROSE)
    assert shown(vision / 1e9, said[1])
    assert shown(bert[16] / 1e9, said[2])
    assert shown((vision + bert[16]) / 1e9, GIVEN[3][1])
    assert shown((vision + bert[32]) / 1e9, re.search(r"at 32, work is ([\d.]+)\.", PROSE)[1])
    others, share, tflops = re.search(
        r"measured ([\d,]+) images/s .*?, (\d+) % of its (\d+) TFLOPS", PROSE
    ).groups()
    assert shown(100 * number(others) * vision / (number(tflops) * 1e12), share)


def test_the_pixels_are_those_of_the_contract() -> None:
    assert load_contract(ROOT / "model_repository").image.size ** 2 * 3 == FIGURES["pixels"]


def test_the_cost_of_an_image_follows_from_its_decoding() -> None:
    usual = next(number(row[2]) for row in IMAGES if row[0] == "1,024")
    for pixels, size, alone, ratio, client in IMAGES:
        assert shown(number(alone) / usual, ratio), pixels
        assert shown(
            FIGURES["client"] - FIGURES["decoding"] + FIGURES["decoding"] * number(ratio), client
        ), pixels
        assert (number(size) == FIGURES["image"]) == (pixels == "1,024")


def test_gpus_follow_from_their_tflops() -> None:
    for name, tflops, rate, cores, inflow, _ in GPUS:
        expected = number(tflops) * 1e12 * FIGURES["utilisation"] / 100 / (FIGURES["work"] * 1e9)
        assert number(rate) == three_digits(expected), name
        assert number(cores) == math.ceil(number(rate) * CLIENT_S), name
        assert shown(number(rate) * FIGURES["pixels"] * 8 / 1e9, inflow), name
    assert "Calculated, not measured" in PROSE


def test_a_night_follows_from_pairs_a_second() -> None:
    for pairs, rate, cores, l4, h100, embedded in NIGHTS:
        a_second = number(pairs) / NIGHT_S
        assert shown(a_second, rate), pairs
        assert number(cores) == math.ceil(a_second * CLIENT_S - 1e-9), pairs
        assert number(embedded) == math.ceil(a_second * EMBEDDED_S), pairs
        assert number(l4) == math.ceil(a_second / GPU["L4"]["rate"]), pairs
        assert number(h100) == math.ceil(a_second / GPU["H100 SXM"]["rate"]), pairs


def test_the_cost_of_a_million_pairs_is_the_sum_of_cores_gpus_and_requests() -> None:
    requests = request_dollars(10_000, 1_000)
    totals = {}
    for name, core_hours, core_cost, gpu_hours, gpu_cost, total in COSTS:
        seconds = EMBEDDED_S if name == "embedded" else CLIENT_S
        hours = 1_000_000 * seconds / 3600
        assert shown(hours, core_hours), name
        assert shown(hours * FIGURES["core"], core_cost), name
        gpu = next((gpu for key, gpu in GPU.items() if key.split()[0] == name.split()[-1]), None)
        assert (gpu is None) == (name == "embedded")
        used = 1_000_000 / gpu["rate"] / 3600 if gpu else 0
        price = used * gpu["price"] if gpu else 0
        assert shown(used, gpu_hours), name
        assert shown(price, gpu_cost), name
        totals[name] = hours * FIGURES["core"] + price + requests
        assert shown(totals[name], total), name
    hundred, thousand = re.search(
        r"100 million are about \$ (\d+), a thousand million \$ (\d+) with L4", PROSE
    ).groups()
    assert shown(100 * totals["Triton on L4"], hundred)
    assert shown(1000 * totals["Triton on L4"], thousand)
    assert round(totals["embedded"] / totals["Triton on L4"]) == 7
    assert shown(
        FIGURES["pixels"] * 1e6 / 1e9, re.search(r"\((\d+) GB of pixels go between them", PROSE)[1]
    )


def test_network_cards_carry_the_stated_traffic() -> None:
    for gbit, rate, images, pixels in CARDS:
        usable = number(gbit) * 1e9 * 0.8 / 8
        assert shown(usable / FIGURES["pixels"], rate), gbit
        for size, cores in ((FIGURES["image"], images), (FIGURES["pixels"], pixels)):
            assert number(cores) == math.floor(usable / size * CLIENT_S), gbit
    rates = {number(row[0]): number(row[1]) for row in CARDS}
    # An L4 needs most of 10 Gbit/s, an H100 more than 25.
    assert 0.5 * rates[10] < GPU["L4"]["rate"] < rates[10]
    assert rates[25] < GPU["H100 SXM"]["rate"] < rates[100]
    l4 = next(row[2] for row in GPUS if row[0] == "L4")
    assert f"({l4} of {CARDS[0][1]})" in PROSE


def test_shards_take_the_stated_time_and_make_the_stated_files() -> None:
    threads = int(re.search(r"`--worker-cpus` \((\d+) here\)", PROSE)[1])
    for rows, triton, embedded, megabytes, of_8, of_9 in SHARDS:
        count = number(rows)
        assert shown(count * CLIENT_S / threads, triton), rows
        assert shown(count * EMBEDDED_S / threads, embedded), rows
        assert shown(count * FIGURES["results"] / 1e6, megabytes), rows
        assert (number(of_8), number(of_9)) == (1e8 / count, 1e9 / count), rows
    (default,) = [one.default for one in scan_command.params if one.name == "shard_rows"]
    assert default in [number(row[0]) for row in SHARDS]
    reads, writes, dollars = re.search(
        r"are ([\d,]+) reads and ([\d,]+) writes, \$ (\d+\.\d+)", PROSE
    ).groups()
    assert number(reads) == 1_000_000 / default * (8 + default / 1000)
    assert number(writes) == 1_000_000 / default
    assert shown(request_dollars(default, 1000), dollars)
    assert shown(
        2_000_000 * FIGURES["reads"] / 1000,
        re.search(r"two million reads more .*?, \$ ([\d.]+),", PROSE)[1],
    )


def test_a_row_group_of_images_has_the_stated_size() -> None:
    few, small, many, large = re.search(
        r"\(([\d,]+) rows × 329,000 bytes are ([\d.]+) GB; ([\d,]+), .*?, ([\d.]+) GB\)", PROSE
    ).groups()
    assert shown(number(few) * FIGURES["image"] / 1e9, small)
    assert shown(number(many) * FIGURES["image"] / 1e9, large)


def test_the_job_has_the_figures_of_the_page() -> None:
    (job,) = [
        one
        for one in yaml.safe_load_all((ROOT / "jobs/ray/rayjob.yaml").read_text(encoding="utf-8"))
        if one["kind"] == "RayJob"
    ]
    words = job["spec"]["entrypoint"].split()
    options = dict(zip(words, words[1:], strict=False))
    workers, threads, flight = (
        int(options[f"--{name}"]) for name in ("max-workers", "worker-cpus", "triton-in-flight")
    )
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    a_pod = int(limits["cpu"]) // threads
    each, total, many = map(int, re.search(r"gives (\d+) GiB \((\d+) for (\d+)\)", PROSE).groups())
    assert f"{total}Gi" == limits["memory"]
    assert (many, each) == (a_pod, total // a_pod)
    (default,) = [one.default for one in scan_command.params if one.name == "shard_rows"]
    assert each * 2**30 >= 1.5 * (default * FIGURES["image"] + 2**30)
    assert threads == int(re.search(r"`--worker-cpus` \((\d+) here\)", PROSE)[1])
    said = re.search(r"(\d+) workers with (\d+) keep an L4 ([\d.]+) s behind", PROSE).groups()
    assert said[:2] == (str(workers), str(flight))
    assert shown(workers * flight * BATCH_ROWS / GPU["L4"]["rate"], said[2])
    (deadline,) = [one.default for one in scan_command.params if one.name == "triton_deadline"]
    assert f"under {deadline // 10} s" in PROSE


def test_memory_grows_with_threads_and_with_requests_under_way() -> None:
    peaks = {(int(row[0]), row[1]): int(row[2]) for row in MEMORY}
    assert peaks[1, "2"] < peaks[2, "2"] < peaks[4, "2"] < peaks[2, "8"]
    assert peaks[1, "embedded"] < peaks[2, "embedded"]
    assert max(peaks.values()) < 1024


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https|#)([^)#]+)", PAGE))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / "jobs" / link).exists()


def test_files_and_options_are_there() -> None:
    files = set(re.findall(r"\b(?:build|benchmarks|tests)/[\w/]+\.py\b", PAGE))
    assert {"build/time_engines.py", "tests/unit/jobs/test_sizing.py"} <= files
    assert not [path for path in files if not (ROOT / path).is_file()]
    known = {option for parameter in scan_command.params for option in parameter.opts}
    named = set(re.findall(r"`(--[\w-]+)", PAGE))
    assert named
    assert named <= known


def test_the_command_measures_the_images_of_a_manifest(tmp_path: Path) -> None:
    code = PAGE.partition("<<'END'\n")[2].partition("END\n")[0]
    stream = io.BytesIO()
    Image.effect_noise((640, 480), 60).convert("RGB").save(stream, "JPEG")
    pq.write_table(pa.table({"image": [stream.getvalue()] * 3}), tmp_path / "sample.parquet")
    command = [sys.executable, "-", str(tmp_path / "sample.parquet")]
    done = subprocess.run(command, input=code, text=True, capture_output=True, check=True, cwd=ROOT)
    milliseconds, size = re.fullmatch(
        r"([\d.]+) ms of a core, ([\d,]+) bytes\n", done.stdout
    ).groups()
    assert float(milliseconds) > 0
    assert number(size) == len(stream.getvalue())
