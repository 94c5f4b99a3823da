import pytest

from aigid.training.labels.words import Meaning, meaning_of

# Values and class names of public data sets among them.
REAL = [
    *("real", "REAL", " Real ", "real_image", "0_real", "RealArt", "human", "authentic photo"),
    *("NOT_AI", "non-ai-generated", "not fake", "nature", "coco_image", "camera"),
]
AI = [
    *("ai", "AI", "fake", "FAKE", "1_fake", "AiArtData", "AI-generated", "AIGenerated", "AIGC"),
    *("ai_generated", "synthetic", "generated image", "fake photo", "synthetic human face"),
    "not real",
]
UNKNOWN = ["", "  ", "unknown", "None", "n/a", "NaN", "?"]
NEITHER = [
    *("sdxl", "flux", "Stable Diffusion 1.5", "imagen", "midjourney-v6", "real-esrgan", "art"),
    *("image", "not", "2024", "真实", "fake_sdxl", "maybe"),
]


@pytest.mark.parametrize(
    ("texts", "meaning"),
    [(REAL, Meaning.REAL), (AI, Meaning.AI), (UNKNOWN, Meaning.UNKNOWN), (NEITHER, None)],
    ids=["real", "ai", "unknown", "neither"],
)
def test_words_of_data_sets_are_understood(texts: list[str], meaning: Meaning | None) -> None:
    assert {text: meaning_of(text) for text in texts} == dict.fromkeys(texts, meaning)
