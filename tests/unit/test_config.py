"""The settings of a scan: what is refused by its parameter's name, and what the defaults are."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigid.config import RayConfig, ScanConfig
from aigid.cores import available_cores
from aigid.errors import UsageError
from aigid.records import ErrorCode
from aigid.sources import ColumnChoice
from aigid.storage import HostHeader


def config(**settings: Any) -> ScanConfig:
    return ScanConfig(**({"paths": ("m.parquet",), "out": "out"} | settings))


@pytest.mark.parametrize("name", ["threshold", "max_fpr", "max_error_rate"])
@pytest.mark.parametrize(
    "value", [-0.01, 1.01, 2, float("nan"), float("inf"), "0.5", "x", True, [0.5]]
)
def test_a_share_that_is_no_number_from_0_to_1_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        config(**{name: value})
    assert str(caught.value) == f"`{name}` must be from 0 to 1: got {value!r}"


@pytest.mark.parametrize("name", ["threshold", "max_fpr", "max_error_rate"])
def test_a_share_may_be_0_or_1_and_a_number_of_numpys(name: str) -> None:
    for value in (0, 1, 0.25, np.float32(0.25), np.float64(0.25)):
        found = getattr(config(**{name: value}), name)
        assert type(found) is float
        assert found == value


@pytest.mark.parametrize(
    "name", ["limit", "threads", "batch_rows", "shard_rows", "requests_per_host"]
)
def test_a_count_that_is_no_whole_number_of_1_or_more_is_refused(name: str) -> None:
    for value in (0, -1):
        with pytest.raises(UsageError, match=f"^`{name}` must be 1 or more: got {value}$"):
            config(**{name: value})
    for other in (0.5, "8", True, [1]):
        with pytest.raises(UsageError) as caught:
            config(**{name: other})
        assert str(caught.value) == f"`{name}` must be a whole number: got {other!r}"
    for value in (1, np.int64(1)):
        found = getattr(config(**{name: value}), name)
        assert type(found) is int
        assert found == 1


@pytest.mark.parametrize("port", [-1, 65_536, 80.0, "80", True])
def test_a_port_of_metrics_that_is_none_is_refused(port: Any) -> None:
    with pytest.raises(UsageError, match="`metrics_port` must be a whole number from 0 to 65535"):
        ScanConfig(("m.parquet",), "out", metrics_port=port)
    assert ScanConfig(("m.parquet",), "out", metrics_port=0).metrics_port == 0


@pytest.mark.parametrize("host", ["", None, 127])
def test_a_host_of_metrics_that_is_none_is_refused(host: Any) -> None:
    with pytest.raises(UsageError, match="`metrics_host` must be"):
        ScanConfig(("m.parquet",), "out", metrics_host=host)


def test_threshold_and_max_fpr_exclude_each_other_even_at_zero() -> None:
    with pytest.raises(UsageError, match="give one of `threshold` and `max_fpr`, not both"):
        config(threshold=0.0, max_fpr=0.0)


@pytest.mark.parametrize("name", ["paths", "keep"])
def test_a_list_is_taken_and_anything_else_than_strings_in_it_is_refused(name: str) -> None:
    assert getattr(config(**{name: ["a", "b"]}), name) == ("a", "b")
    generator = (text for text in "ab")
    for value in ("m.parquet", generator, [Path("m.parquet")], None, 5, {"a"}):
        with pytest.raises(UsageError) as caught:
            config(**{name: value})
        assert str(caught.value) == f"`{name}` must be a tuple of str: got {value!r}"


def test_a_scan_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="`paths` is empty: give a manifest"):
        config(paths=())


@pytest.mark.parametrize("name", ["out", "image_column", "prompt_column", "image_root"])
def test_a_text_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^`{name}` must be a str: got 5$"):
        config(**{name: 5})


def test_a_model_is_a_path_or_its_text() -> None:
    assert config(model="model").model == "model"
    assert config(model=Path("model")).model == Path("model")
    with pytest.raises(UsageError, match="`model` must be a path: got 5"):
        config(model=5)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("triton", "gpu:8001", "a TritonConfig"),
        ("ray", "auto", "a RayConfig"),
        ("no_prompts", "yes", "True or False"),
        ("allow_outside_root", "no", "True or False"),
        ("allow_private_addresses", None, "True or False"),
        ("respect_opt_out", "yes", "True or False"),
    ],
)
def test_a_config_or_a_flag_of_another_type_is_refused(name: str, value: Any, kind: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(**{name: value})
    assert str(caught.value) == f"`{name}` must be {kind}: got {value!r}"


@pytest.mark.parametrize("name", ["threads", "batch_rows", "shard_rows", "max_error_rate"])
def test_none_is_refused_where_it_means_nothing(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` must be .*: got None"):
        config(**{name: None})


def test_the_columns_are_those_of_the_manifest() -> None:
    assert config().columns == ColumnChoice()
    named = config(image_column="img", prompt_column="words", keep=("id",))
    assert named.columns == ColumnChoice("img", "words", ("id",))
    assert config(no_prompts=True).columns == ColumnChoice(no_prompts=True)


def test_a_prompt_column_and_no_prompts_contradict_each_other() -> None:
    with pytest.raises(
        UsageError, match="^give one of `prompt_column` and `no_prompts`, not both$"
    ):
        config(prompt_column="words", no_prompts=True)


RAY_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "Ray Client": (
        {"address": "ray://head:10001"},
        "`address` ray://head:10001: a scan runs on a node of its cluster: submit it with "
        "`ray job submit -- python jobs/scan.py ...`, or give HOST:PORT there",
    ),
    "no address": (
        {"address": "m.parquet"},
        "`address` 'm.parquet': not the address of a Ray cluster: give HOST:PORT, auto or local",
    ),
    "no workers": ({"min_workers": 0}, "`min_workers` must be 1 or more: got 0"),
    "no cores": ({"worker_cpus": 0}, "`worker_cpus` must be 1 or more: got 0"),
    "half a core": ({"worker_cpus": 0.5}, "`worker_cpus` must be a whole number: got 0.5"),
    "no attempts": ({"shard_attempts": 0}, "`shard_attempts` must be 1 or more: got 0"),
    "less than no GPUs": ({"worker_gpus": -1}, "`worker_gpus` must be 0 or more: got -1"),
    "no memory": ({"worker_memory_gib": 0}, "`worker_memory_gib` must be more than 0: got 0"),
    "no time": ({"start_within_s": 0}, "`start_within_s` must be more than 0: got 0"),
    "no resource": (
        {"worker_resources": (("disk", 0),)},
        "`worker_resources` disk=0: a resource needs a name, and an amount of more than 0",
    ),
    "a resource without a name": (
        {"worker_resources": (("", 1),)},
        "`worker_resources` =1: a resource needs a name, and an amount of more than 0",
    ),
    "fewer at most than at least": (
        {"min_workers": 3, "max_workers": 2},
        "`max_workers` 2 is less than `min_workers` 3",
    ),
}


@pytest.mark.parametrize("name", RAY_REFUSALS)
def test_settings_of_a_cluster_that_make_no_sense_are_refused(name: str) -> None:
    settings, message = RAY_REFUSALS[name]
    with pytest.raises(UsageError) as caught:
        RayConfig(**settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("address", ["auto", "local", "head:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_the_addresses_of_clusters_are_taken(address: str) -> None:
    assert RayConfig(address).address == address


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
def test_there_are_as_many_threads_as_cores_that_this_process_may_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_ON_ONE_CORE], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1 1\n"
    assert config().threads == available_cores() == len(os.sched_getaffinity(0))


HEADER = ("cdn.example", "Authorization", "SECRET")


def test_headers_and_the_user_agent_are_hidden_in_the_repr() -> None:
    settings = config(headers=[list(HEADER)], user_agent="SECRET agent")
    assert settings.headers == (HEADER,)
    assert settings.web.headers == (HostHeader(*HEADER),)
    assert "SECRET" not in repr(settings) + repr(settings.web)
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ("SECRET", "must be a tuple of (host, name, value)"),
        ({"cdn.example": "SECRET"}, "must be a tuple of"),
        ([("cdn.example", "SECRET")], "must be a tuple of"),
        ([("cdn.example", "X", b"SECRET")], "must be a tuple of"),
        ([("cdn.example", "X", "SECRET\r\nHost: evil")], "has a line break, a control character"),
        ([("cdn.example", "X", "SECRET\nY: 1")], "has a line break"),
        ([("cdn.example", "X", "SECRET\x00")], "has a line break"),
        ([("cdn.example", "X", "SECRET\u2028")], "one outside of Latin-1"),
        ([("cdn.example", "X", "SECRET\u010a")], "one outside of Latin-1"),
        ([("cdn.example", "X", " SECRET")], "begins or ends with a blank"),
        ([("cdn.example", "X", "")], "the value is empty"),
        ([("cdn.example", "X: Y", "SECRET")], "not the name of a header"),
        ([("cdn.example", "X\r\nY", "SECRET")], "not the name of a header"),
        ([("cdn.example", "", "SECRET")], "not the name of a header"),
        ([("cdn.example", "H\u00e9", "SECRET")], "not the name of a header"),
        ([("cdn.example", "Host", "SECRET")], "this header cannot be set"),
        ([("cdn.example", "content-length", "SECRET")], "this header cannot be set"),
        ([("cdn.example", "Proxy-Authorization", "SECRET")], "this header cannot be set"),
        ([("", "X", "SECRET")], "not a host: give HOST or HOST:PORT"),
        ([("cdn.example/path", "X", "SECRET")], "not a host"),
        ([("https://cdn.example", "X", "SECRET")], "not a host"),
        ([("me@cdn.example", "X", "SECRET")], "not a host"),
        ([("cdn.example:99999", "X", "SECRET")], "not a host"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(
    headers: Any, message: str
) -> None:
    with pytest.raises(UsageError, match="^`headers`") as caught:
        config(headers=headers)
    assert message in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", " me", "me\r\nX: 1", "me\n", "\u2603", "me\x7f", None, 5])
def test_a_user_agent_that_cannot_be_sent_is_refused(text: Any) -> None:
    with pytest.raises(UsageError, match="^`user_agent` "):
        config(user_agent=text)


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        (False, ()),
        (True, tuple(ErrorCode)),
        ("missing", ("missing",)),
        (["timeout", "empty", "timeout"], ("empty", "timeout")),
        ((ErrorCode.TOO_LARGE,), ("too_large",)),
    ],
)
def test_errors_to_retry_are_all_or_some_codes(value: Any, codes: tuple[str, ...]) -> None:
    assert config(retry_errors=value).codes_to_retry == codes


@pytest.mark.parametrize(
    "value", ["", "all", "timeout,empty", (), ["gone"], [1], None, 1, {"empty"}]
)
def test_errors_to_retry_that_do_not_exist_are_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="^`retry_errors`"):
        config(retry_errors=value)
