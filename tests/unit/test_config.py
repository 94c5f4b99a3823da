"""The settings of a scan: what is refused, and what holds unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from aigid.config import ScanConfig
from aigid.cores import available_cores
from aigid.errors import UsageError


def config(**settings: object) -> ScanConfig:
    return ScanConfig(("m.parquet",), "out", **settings)


@pytest.mark.parametrize("name", ["threshold", "max_fpr", "max_error_rate"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_share_outside_0_to_1_is_refused_by_its_option(name: str, value: float) -> None:
    with pytest.raises(
        UsageError, match=f"--{name.replace('_', '-')} must be from 0 to 1: got {value}"
    ):
        config(**{name: value})
    assert getattr(config(**{name: 0}), name) == 0
    assert getattr(config(**{name: 1}), name) == 1


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("limit", "--limit"),
        ("threads", "--threads"),
        ("batch_rows", "--batch-size"),
        ("shard_rows", "--shard-rows"),
    ],
)
def test_a_number_below_1_is_refused_by_its_option(name: str, option: str) -> None:
    for value in (0, -1):
        with pytest.raises(UsageError, match=f"{option} must be 1 or more: got {value}"):
            config(**{name: value})
    assert getattr(config(**{name: 1}), name) == 1


def test_threshold_and_max_fpr_exclude_each_other_even_at_zero() -> None:
    with pytest.raises(UsageError, match="--threshold and --max-fpr exclude each other"):
        config(threshold=0.0, max_fpr=0.0)


def test_a_scan_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no manifest given"):
        ScanConfig((), "out")


COUNT_ON_ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from aigid.config import ScanConfig
from aigid.cores import available_cores
print(available_cores(), ScanConfig(("m.parquet",), "out").threads)
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"),
    reason="only Linux can bind a process to a core: run it there",
)
def test_the_threads_are_as_many_as_the_cores_this_process_may_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_ON_ONE_CORE], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 1\n"
    assert config().threads == available_cores() == len(os.sched_getaffinity(0))
