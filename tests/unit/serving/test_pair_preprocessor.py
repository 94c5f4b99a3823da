"""The preprocessing of pairs: as the embedded scorer's, and errors of single pairs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.manifests import CAPTIONS, encoded_image

from aigid.contract import TOKENIZER_FILE, load_contract
from aigid.errors import ContractError
from aigid.pixels import decode_image
from aigid.prompts import PromptEncoder
from aigid.serving import PairPreprocessor


def test_tensors_are_those_of_the_embedded_scorer(tiny_repository: Path) -> None:
    contract = load_contract(tiny_repository)
    encoder = PromptEncoder(tiny_repository / TOKENIZER_FILE, contract.prompt)
    images = [encoded_image(seed) for seed in range(len(CAPTIONS))]
    pairs = PairPreprocessor(tiny_repository).prepare(
        images, [caption.encode() for caption in CAPTIONS]
    )
    for pair, data, caption in zip(pairs, images, CAPTIONS, strict=True):
        np.testing.assert_array_equal(pair.pixels, decode_image(data, contract.image))
        (ids,) = encoder.token_ids([caption])
        assert (pair.token_ids, pair.bucket) == (ids, encoder.bucket(len(ids)))
        assert pair.error == pair.evidence == ""


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "empty"),
        (b"no image", "undecodable"),
        (encoded_image(0, kind="JPEG")[:90], "undecodable"),
    ],
)
def test_a_bad_image_is_an_error_of_its_pair_only(
    tiny_repository: Path, data: bytes, error: str
) -> None:
    good = encoded_image(1)
    preprocessor = PairPreprocessor(tiny_repository)
    pairs = preprocessor.prepare([good, data, good], [b"a cat"] * 3)
    assert [pair.error for pair in pairs] == ["", error, ""]
    assert pairs[1].pixels is None
    (alone,) = preprocessor.prepare([good], [b"a cat"])
    for number in (0, 2):
        np.testing.assert_array_equal(pairs[number].pixels, alone.pixels)


def test_prompts_that_are_very_long_or_not_utf8_are_accepted(tiny_repository: Path) -> None:
    longest = load_contract(tiny_repository).prompt.max_tokens
    odd, endless = PairPreprocessor(tiny_repository).prepare(
        [encoded_image(1)] * 2, [b"\xff\xfe cat", b"cat " * 500_000]
    )
    assert len(endless.token_ids) == longest
    assert len(odd.token_ids) > 2


def test_a_folder_that_is_not_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"contract\.json"):
        PairPreprocessor(tmp_path)


def test_preprocessing_in_a_server_needs_neither_pyarrow_nor_onnxruntime() -> None:
    code = (
        "import sys, aigid.serving.pair_preprocessor; "
        "print({'pyarrow', 'onnxruntime', 'rich', 'click'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
