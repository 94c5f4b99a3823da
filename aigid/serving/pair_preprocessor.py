"""Pairs as clients send them, encoded images and UTF-8 prompts, to the tensors that the graphs take."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aigid.contract import TOKENIZER_FILE, load_contract
from aigid.cores import available_cores
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder, TokenBatch, pad_to_bucket
from aigid.records import RowFailure


@dataclass(frozen=True)
class PreparedPairs:
    """N pairs: pixels uint8 [N, *ImageSpec.shape], tokens, and an error code for each, empty where all is well.

    The pixels of a pair with an error are zeros: what the graphs say of them means nothing.
    """

    image: Pixels
    tokens: TokenBatch
    errors: list[str]


class PairPreprocessor:
    """The preprocessing of one model: the same decoding and the same tokens as in training and in the embedded scorer."""

    def __init__(self, repository: Path) -> None:
        """Read contract and tokenizer of a model repository; raises ContractError where it is none."""
        contract = load_contract(repository)
        self._image = contract.image
        self._prompts = PromptEncoder(repository / TOKENIZER_FILE, contract.prompt)
        self._pool = ThreadPoolExecutor(available_cores(), "decode")

    def prepare(self, images: Sequence[bytes], prompts: Sequence[bytes]) -> PreparedPairs:
        """The tensors of N pairs, prompts padded to the bucket of the longest; an unreadable image fails its pair alone."""
        read = list(self._pool.map(self._read, images))
        ids = self._prompts.token_ids([prompt.decode("utf-8", "replace") for prompt in prompts])
        tokens = pad_to_bucket(ids, self._prompts.bucket(max(map(len, ids))))
        return PreparedPairs(
            np.stack([pixels for pixels, _ in read]), tokens, [error for _, error in read]
        )

    def _read(self, data: bytes) -> tuple[Pixels, str]:
        try:
            return decode_image(data, self._image), ""
        except RowFailure as failure:
            return np.zeros(self._image.shape, np.uint8), str(failure.error.code)
