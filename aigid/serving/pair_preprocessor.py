"""The preprocessing of pairs as clients send them: encoded images and UTF-8 prompts to tensors."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from aigid.contract import TOKENIZER_FILE, load_contract
from aigid.cores import available_cores
from aigid.evidence import RowEvidence, read_evidence
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder
from aigid.records import RowFailure


@dataclass(frozen=True)
class PreparedPair:
    """A pair: its pixels, uint8 [*ImageSpec.shape], its token ids and their bucket, its evidence.

    A pair with an error has its code, and no pixels. The evidence is JSON, empty if it was not
    asked for.
    """

    pixels: Pixels | None
    token_ids: list[int]
    bucket: int
    error: str
    evidence: str


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
    ) -> list[PreparedPair]:
        """Return the prepared pairs.

        An image that cannot be decoded is an error of its own pair only. With `evidence`, what the
        files say of their origin is read as well.
        """
        decoded = list(self._pool.map(self._decode, images))
        ids = self._prompts.token_ids([prompt.decode("utf-8", "replace") for prompt in prompts])
        found = list(self._pool.map(_evidence, images)) if evidence else [""] * len(images)
        return [
            PreparedPair(pixels, tokens, self._prompts.bucket(len(tokens)), error, says)
            for (pixels, error), tokens, says in zip(decoded, ids, found, strict=True)
        ]

    def _decode(self, data: bytes) -> tuple[Pixels | None, str]:
        try:
            return decode_image(data, self._image), ""
        except RowFailure as failure:
            return None, str(failure.error.code)


def _evidence(data: bytes) -> str:
    """Return what a file says, as a result row has it: `{"evidence": "ai", "findings": [...]}`."""
    found = RowEvidence.of(read_evidence(data))
    return f'{{"evidence": "{found.says}", "findings": {found.detail or "[]"}}}'
