"""The preprocessing of pairs as clients send them: encoded images and UTF-8 prompts to tensors."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aigid.contract import TOKENIZER_FILE, load_contract
from aigid.cores import available_cores
from aigid.evidence import RowEvidence, read_evidence
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder, TokenBatch, pad_to_bucket
from aigid.records import RowFailure


@dataclass(frozen=True)
class PreparedPairs:
    """The tensors of N pairs: pixels uint8 [N, *ImageSpec.shape], tokens, errors and evidence.

    The error code of a pair is empty if it has no error. The pixels of a pair with an error are
    zeros, and its scores are meaningless. Its evidence is JSON, empty if it was not asked for.
    """

    image: Pixels
    tokens: TokenBatch
    errors: list[str]
    evidence: list[str]


class PairPreprocessor:
    """Decodes and tokenizes pairs for one model, as training and the embedded scorer do."""

    def __init__(self, repository: Path) -> None:
        """Read the contract and the tokenizer of a model repository.

        Raises ContractError if the folder is not a model repository.
        """
        contract = load_contract(repository)
        self._image = contract.image
        self._prompts = PromptEncoder(repository / TOKENIZER_FILE, contract.prompt)
        self._pool = ThreadPoolExecutor(available_cores(), "decode")

    def prepare(
        self, images: Sequence[bytes], prompts: Sequence[bytes], *, evidence: bool = False
    ) -> PreparedPairs:
        """Return the tensors of N pairs, with prompts padded to the bucket of the longest one.

        An image that cannot be decoded is an error of its own pair only. With `evidence`, what the
        files say of their origin is read as well.
        """
        decoded = list(self._pool.map(self._decode, images))
        ids = self._prompts.token_ids([prompt.decode("utf-8", "replace") for prompt in prompts])
        tokens = pad_to_bucket(ids, self._prompts.bucket(max(map(len, ids))))
        pixels = np.stack([pixels for pixels, _ in decoded])
        found = list(self._pool.map(_evidence, images)) if evidence else [""] * len(images)
        return PreparedPairs(pixels, tokens, [error for _, error in decoded], found)

    def _decode(self, data: bytes) -> tuple[Pixels, str]:
        try:
            return decode_image(data, self._image), ""
        except RowFailure as failure:
            return np.zeros(self._image.shape, np.uint8), str(failure.error.code)


def _evidence(data: bytes) -> str:
    """Return what a file says, as a result row has it: `{"evidence": "ai", "findings": [...]}`."""
    found = RowEvidence.of(read_evidence(data))
    return f'{{"evidence": "{found.says}", "findings": {found.detail or "[]"}}}'
