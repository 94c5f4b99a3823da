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
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.serving import PairPreprocessor


def test_tensors_are_those_of_the_embedded_scorer(tiny_repository: Path) -> None:
    contract = load_contract(tiny_repository)
    images = [encoded_image(seed) for seed in range(4)]
    pairs = PairPreprocessor(tiny_repository).prepare(
        images, [caption.encode() for caption in CAPTIONS]
    )
    np.testing.assert_array_equal(
        pairs.image, np.stack([decode_image(data, contract.image) for data in images])
    )
    encoder = PromptEncoder(tiny_repository / TOKENIZER_FILE, contract.prompt)
    ids = encoder.token_ids(CAPTIONS)
    expected = pad_to_bucket(ids, encoder.bucket(max(map(len, ids))))
    np.testing.assert_array_equal(pairs.tokens.input_ids, expected.input_ids)
    np.testing.assert_array_equal(pairs.tokens.attention_mask, expected.attention_mask)
    assert pairs.errors == pairs.evidence == [""] * 4


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
    assert pairs.errors == ["", error, ""]
    assert not pairs.image[1].any()
    alone = preprocessor.prepare([good], [b"a cat"])
    np.testing.assert_array_equal(pairs.image[[0, 2]], np.concatenate([alone.image] * 2))


def test_prompts_that_are_very_long_or_not_utf8_are_accepted(tiny_repository: Path) -> None:
    longest = load_contract(tiny_repository).prompt.max_tokens
    tokens = (
        PairPreprocessor(tiny_repository)
        .prepare([encoded_image(1)] * 2, [b"\xff\xfe cat", b"cat " * 500_000])
        .tokens
    )
    assert tokens.attention_mask.sum(axis=1).tolist()[1] == longest
    assert tokens.attention_mask.sum(axis=1).tolist()[0] > 2


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
