"""From prompt text to token ids in buckets: the only text preprocessing in aigid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from aigid.contract import PromptSpec
from aigid.errors import ContractError

Tokens = npt.NDArray[np.int32]

# Tokenizing costs time by the character. No real prompt needs more characters for 128 tokens.
MAX_CHARACTERS = 100_000
# Before it is truncated, a tokenized prompt needs up to 150 bytes for a character. Ordinary reads
# have fewer characters than this.
_CHARACTERS_AT_A_TIME = 500_000


@dataclass(frozen=True)
class TokenBatch:
    """N prompts of one bucket of T tokens: `input_ids` and `attention_mask`, both int32 [N, T]."""

    input_ids: Tokens
    attention_mask: Tokens


def without_surrogates(text: str) -> str:
    """Return a text without halves of surrogate pairs, as JSON or a cut emoji may have them.

    They are not Unicode, and tokenizers refuse them.
    """
    return text.encode("utf-8", "ignore").decode("utf-8")


class PromptEncoder:
    """The model's tokenizer, which truncates at the token limit. Threads can share it."""

    def __init__(self, tokenizer_file: Path, spec: PromptSpec) -> None:
        """Load `tokenizer.json`. Raises ContractError if it is missing or damaged."""
        if not tokenizer_file.is_file():
            raise ContractError(
                f"{tokenizer_file}: no such file; a model needs its tokenizer beside its weights"
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:  # the Rust binding raises bare Exception
            raise ContractError(f"{tokenizer_file}: not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)
        self.spec = spec

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids."""
        return int(self._tokenizer.get_vocab_size())

    def token_ids(self, prompts: Sequence[str | None]) -> list[list[int]]:
        """Return the ids of each prompt with special tokens, truncated at the token limit.

        None is the empty prompt.
        """
        texts = [(prompt or "")[:MAX_CHARACTERS] for prompt in prompts]
        if sum(map(len, texts)) <= _CHARACTERS_AT_A_TIME:
            return self._encode(texts)
        few = _CHARACTERS_AT_A_TIME // MAX_CHARACTERS
        starts = range(0, len(texts), few)
        return [ids for start in starts for ids in self._encode(texts[start : start + few])]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def bucket(self, length: int) -> int:
        """Return the smallest bucket that holds `length` tokens."""
        return next(size for size in self.spec.buckets if size >= length)


def pad_to_bucket(ids: Sequence[Sequence[int]], bucket: int) -> TokenBatch:
    """Pad the ids of N prompts with zeros ([PAD]) to `bucket` columns."""
    input_ids = np.zeros((len(ids), bucket), dtype=np.int32)
    attention_mask = np.zeros_like(input_ids)
    for row, tokens in enumerate(ids):
        input_ids[row, : len(tokens)] = tokens
        attention_mask[row, : len(tokens)] = 1
    return TokenBatch(input_ids, attention_mask)
