from itertools import product
from pathlib import Path

import pytest

from aigid.contract import load_contract
from aigid.export.engine_profiles import MAX_BATCH_ROWS, engine_profiles
from aigid.scorers import PARTS

CONTRACT = load_contract(Path(__file__).parents[3] / "model_repository")


def profiles_that_take(part: str, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    return [
        profile.name
        for profile in engine_profiles(CONTRACT, part)
        if all(
            low <= size <= high
            for name, shape in shapes.items()
            for low, size, high in zip(
                profile.shapes[name][0], shape, profile.shapes[name][2], strict=True
            )
        )
    ]


def test_every_batch_and_every_length_has_a_profile() -> None:
    for rows, tokens in product(
        (1, 2, 31, 32, 33, 255, 256), range(1, CONTRACT.prompt.max_tokens + 1)
    ):
        shape = (rows, tokens)
        assert profiles_that_take("bert", {"input_ids": shape, "attention_mask": shape}), shape
    assert not profiles_that_take("bert", {"input_ids": (MAX_BATCH_ROWS + 1, 16)})
    assert not profiles_that_take("bert", {"input_ids": (1, CONTRACT.prompt.max_tokens + 1)})
    assert profiles_that_take("clip_vision", {"image": (200, 224, 224, 3)}) == ["256 rows"]


@pytest.mark.parametrize("part", PARTS)
def test_each_batch_size_and_bucket_is_the_optimum_of_one_profile(part: str) -> None:
    best = [
        next(iter(profile.shapes.values()))[1][:2] for profile in engine_profiles(CONTRACT, part)
    ]
    if part == "bert":
        assert sorted(best) == sorted(product((1, 32, 256), CONTRACT.prompt.buckets))
    else:
        assert [rows for rows, _ in best] == [1, 32, 256]


def test_shapes_are_written_in_the_format_of_trtexec() -> None:
    assert engine_profiles(CONTRACT, "bert")[4].as_trtexec() == {
        "minShapes": "input_ids:1x17,attention_mask:1x17",
        "optShapes": "input_ids:32x32,attention_mask:32x32",
        "maxShapes": "input_ids:32x32,attention_mask:32x32",
    }
