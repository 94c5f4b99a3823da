import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import authors_to_checkpoint
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from support.manifests import REPOSITORY
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, BertConfig, CLIPConfig, CLIPModel, CLIPVisionConfig

from aigid.contract import ImageSpec, PromptSpec
from aigid.export.authors_to_checkpoint import authors_name
from aigid.training.checkpoint import CheckpointInfo, load_checkpoint, new_model
from aigid.training.heads import Logits
from aigid.training.losses import multi_task_loss

CLONE = Path(__file__).parents[3]
TOKENIZER = REPOSITORY / "tokenizer.json"
WIDTH = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 40, **WIDTH}
IMAGE = {
    "model_type": "clip_vision_model",
    "image_size": 32,
    "patch_size": 8,
    **WIDTH,
    "hidden_size": 24,
}
HIDDEN = 20
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Convert = Callable[..., Result]


class Authors:
    """The authors' network with small random encoders, built without aigid."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.text = AutoModel.from_config(
            BertConfig(**{key: TEXT[key] for key in TEXT if key != "model_type"})
        ).eval()
        vision = {key: IMAGE[key] for key in IMAGE if key != "model_type"}
        clip = CLIPModel(
            CLIPConfig(
                vision_config=vision,
                text_config={**WIDTH, "vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2},
            )
        )
        self.image = clip.vision_model.eval()
        for encoder in (self.text, self.image):
            for value in encoder.parameters():
                # New biases are zero and new norms one; those of trained encoders are not.
                value.data += 0.1 * torch.randn_like(value)
        sizes = {
            "projection": (HIDDEN, 16 + 24),
            "classifier_A": (1, HIDDEN),
            "classifier_B": (6, HIDDEN),
        }
        self.heads = {f"{name}.weight": torch.randn(size) for name, size in sizes.items()}
        self.heads |= {f"{name}.bias": torch.randn(size[0]) for name, size in sizes.items()}

    def state(self) -> dict[str, Tensor]:
        """Return what Trainer.save_model writes, with buffers that older transformers saved."""
        state = dict(self.heads)
        for part, encoder, positions in (
            ("text_encoder", self.text, 40),
            ("image_encoder", self.image, 17),
        ):
            state |= {f"{part}.{name}": value for name, value in encoder.state_dict().items()}
            state[f"{part}.embeddings.position_ids"] = torch.arange(positions)[None]
        return {name: value.detach().clone().contiguous() for name, value in state.items()}

    def logits(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Logits:
        normalised = ((pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
        text = self.text(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0, :]
        image = self.image(pixel_values=normalised).pooler_output
        heads = self.heads
        fused = functional.linear(
            torch.cat((text, image), dim=1), heads["projection.weight"], heads["projection.bias"]
        )
        hidden = functional.relu(fused)
        a = functional.linear(hidden, heads["classifier_A.weight"], heads["classifier_A.bias"])
        b = functional.linear(hidden, heads["classifier_B.weight"], heads["classifier_B.bias"])
        return Logits(a.squeeze(1), b)


def authors_loss(logits: Logits, label_a: Tensor, label_b: Tensor) -> Tensor:
    loss = functional.binary_cross_entropy_with_logits(logits.a, label_a.float())
    generated = label_a == 1
    return (
        loss + functional.cross_entropy(logits.b[generated], label_b[generated])
        if generated.any()
        else loss
    )


@pytest.fixture(scope="module")
def authors() -> Authors:
    return Authors()


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Save weights, convert them with the small encoders' configs; return click's result."""

    def run(state: dict[str, Tensor], *more: object, name: str = "model.safetensors") -> Result:
        weights = tmp_path / name
        save_file(state, weights, metadata={"format": "pt"})
        for kind, config in {"text": TEXT, "image": IMAGE}.items():
            (tmp_path / f"{kind}.json").write_text(json.dumps(config))
        configs = [
            "--text-config",
            tmp_path / "text.json",
            "--image-config",
            tmp_path / "image.json",
        ]
        words = [weights, tmp_path / "made", "--tokenizer", TOKENIZER, *configs, *more]
        return CliRunner().invoke(
            authors_to_checkpoint.main, [str(word) for word in words], catch_exceptions=False
        )

    return run


def pairs(rows: int, padding: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(rows)
    pixels = torch.from_numpy(rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8))
    ids, mask = (
        torch.from_numpy(rng.integers(1, 30522, (rows, 12))),
        torch.ones(rows, 12, dtype=torch.long),
    )
    for row in range(padding and rows):
        # One batch with prompts of different lengths.
        ids[row, 12 - row % 4 :], mask[row, 12 - row % 4 :] = 0, 0
    return pixels, functional.pad(ids, (0, padding)), functional.pad(mask, (0, padding))


@pytest.mark.parametrize("padding", [0, 20])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [0, 0, 0], [5, 1, 1, 4], [0, 0, 0, 0, 3]])
def test_logits_and_loss_equal_the_authors(
    authors: Authors, convert: Convert, tmp_path: Path, labels: list[int], padding: int
) -> None:
    made = convert(authors.state())
    assert made.exit_code == 0, made.output
    inputs = pairs(len(labels), padding)
    label_b = torch.tensor(labels)
    label_a = (label_b > 0).long()
    with torch.no_grad():
        found, expected = load_checkpoint(tmp_path / "made").model(*inputs), authors.logits(*inputs)
    # The logits differ enough between rows for the comparison to mean something.
    assert float(expected.a.std()) > 0.1
    torch.testing.assert_close(found.a, expected.a, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.b, expected.b, rtol=0, atol=1e-5)
    loss, their_loss = (
        multi_task_loss(found, label_a, label_b),
        authors_loss(expected, label_a, label_b),
    )
    torch.testing.assert_close(loss, their_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [0, 0, 0], [0, 0, 0, 0, 3]])
def test_gradients_equal_the_authors(
    authors: Authors, convert: Convert, tmp_path: Path, labels: list[int]
) -> None:
    convert(authors.state())
    model, inputs, label_b = (
        load_checkpoint(tmp_path / "made").model,
        pairs(len(labels), 20),
        torch.tensor(labels),
    )
    label_a = (label_b > 0).long()
    multi_task_loss(model(*inputs), label_a, label_b).backward()
    theirs = {name: value.requires_grad_() for name, value in authors.heads.items()}
    for part, encoder in (("text_encoder", authors.text), ("image_encoder", authors.image)):
        encoder.zero_grad()
        theirs |= {f"{part}.{name}": value for name, value in encoder.named_parameters()}
    authors_loss(authors.logits(*inputs), label_a, label_b).backward()
    for name, value in model.named_parameters():
        expected = theirs[authors_name(name)]
        # Without AI-generated rows their head B has no gradient, and ours has zeros.
        gradient = torch.zeros_like(expected) if expected.grad is None else expected.grad
        assert value.grad is not None, name
        torch.testing.assert_close(
            value.grad, gradient, rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    for value in authors.heads.values():
        value.grad = None
        value.requires_grad_(False)


def test_the_checkpoint_records_what_the_encoders_expect(
    authors: Authors, convert: Convert, tmp_path: Path
) -> None:
    made = convert(authors.state())
    assert "made/model.safetensors" in made.stdout
    info = load_checkpoint(tmp_path / "made").info
    assert (info.name, info.fusion_hidden) == ("nau-qmul", HIDDEN)
    assert info.image == ImageSpec(size=32)
    assert info.prompt == PromptSpec(40, (16, 32, 40))
    assert (tmp_path / "made" / "tokenizer.json").read_bytes() == TOKENIZER.read_bytes()


def test_tensors_outside_the_forward_pass_may_be_absent(
    authors: Authors, convert: Convert, tmp_path: Path
) -> None:
    needed = {
        name: value
        for name, value in authors.state().items()
        if "pooler" not in name and "position_ids" not in name
    }
    assert len(needed) == len(authors.state()) - 4
    assert convert(needed).exit_code == 0
    lean = (tmp_path / "made" / "model.safetensors").read_bytes()
    assert convert(authors.state()).exit_code == 0
    assert (tmp_path / "made" / "model.safetensors").read_bytes() == lean


def test_half_precision_weights_are_converted(
    authors: Authors, convert: Convert, tmp_path: Path
) -> None:
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in authors.state().items()
    }
    assert convert(state).exit_code == 0
    found = dict(load_checkpoint(tmp_path / "made").model.named_parameters())
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert all(
        torch.equal(value, state[authors_name(name)].float()) for name, value in found.items()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier_A.bias": None}, "1 missing (classifier_A.bias)"),
        ({"projection.bias": None}, "missing (projection.bias)"),
        (
            {"text_encoder.encoder.layer.1.output.dense.weight": None},
            "1 missing (text_encoder.encoder.layer.1.output.dense.weight)",
        ),
        (
            {"image_encoder.pooler.dense.weight": torch.zeros(2)},
            "1 unknown (image_encoder.pooler.dense.weight)",
        ),
        ({"classifier_C.weight": torch.zeros(2)}, "1 unknown (classifier_C.weight)"),
        (
            {"classifier_B.weight": torch.zeros(5, HIDDEN)},
            "1 of another shape (classifier_B.weight)",
        ),
        ({"projection.weight": torch.zeros(HIDDEN, 39)}, "1 of another shape (projection.weight)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    authors: Authors,
    convert: Convert,
    tmp_path: Path,
    change: dict[str, Tensor | None],
    message: str,
) -> None:
    state = {
        name: value for name, value in {**authors.state(), **change}.items() if value is not None
    }
    refused = convert(state)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "best.pt"])
def test_a_pickle_is_refused_without_reading_it(
    convert: Convert, tmp_path: Path, name: str
) -> None:
    refused = convert({"classifier_A.bias": torch.zeros(1)}, name=name)
    assert refused.exit_code == 2
    assert "expected a safetensors file, because a pickle can run code" in refused.stderr
    assert "Trainer.save_model writes model.safetensors" in refused.stderr
    assert not (tmp_path / "made").exists()


def test_a_pickle_with_the_suffix_of_safetensors_is_refused(
    authors: Authors, convert: Convert, tmp_path: Path
) -> None:
    torch.save(authors.state(), tmp_path / "pickle.safetensors")
    words = [tmp_path / "pickle.safetensors", tmp_path / "made", "--tokenizer", TOKENIZER]
    small = ["--text-config", tmp_path / "text.json", "--image-config", tmp_path / "image.json"]
    convert({"classifier_A.bias": torch.zeros(1)})
    refused = CliRunner().invoke(
        authors_to_checkpoint.main, [str(word) for word in (*words, *small)]
    )
    assert refused.exit_code == 2
    assert "pickle.safetensors: damaged" in refused.stderr


def test_a_tokenizer_of_another_encoder_is_refused(
    authors: Authors, convert: Convert, tmp_path: Path
) -> None:
    (tmp_path / "small.json").write_text(json.dumps({**TEXT, "vocab_size": 100}))
    refused = convert(authors.state(), "--text-config", tmp_path / "small.json")
    assert refused.exit_code == 2
    assert "has 30522 tokens, but the text encoder has embeddings for 100" in refused.stderr


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"vocab_size": 9}', '{"model_type": "bert", "hidden_size": "wide"}']
)
def test_an_invalid_config_is_refused_in_one_line(
    authors: Authors, convert: Convert, tmp_path: Path, text: str
) -> None:
    (tmp_path / "bad.json").write_text(text)
    refused = convert(authors.state(), "--text-config", tmp_path / "bad.json")
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stderr.startswith("aigid: ")


def test_the_defaults_are_bert_base_uncased_and_clip_b_32() -> None:
    # Values of the config.json files published with the two encoders.
    text = {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    text |= {
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    text |= {"layer_norm_eps": 1e-12, "pad_token_id": 0}
    image = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    }
    image |= {
        "image_size": 224,
        "patch_size": 32,
        "num_channels": 3,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
    for config, values in ((BertConfig(), text), (CLIPVisionConfig(), image)):
        assert {name: getattr(config, name) for name in values} == values


def test_at_full_size_every_tensor_has_a_counterpart() -> None:
    info = CheckpointInfo("real", "", {"model_type": "bert"}, {}, 512)
    with torch.device("meta"):
        own = dict(new_model(info).named_parameters())
        encoders = {
            "text_encoder": AutoModel.from_config(BertConfig()),
            "image_encoder": CLIPModel(CLIPConfig()).vision_model,
        }
        theirs = {
            f"{part}.{name}": value
            for part, model in encoders.items()
            for name, value in model.state_dict().items()
        }
    heads = {"projection": (512, 1536), "classifier_A": (1, 512), "classifier_B": (6, 512)}
    shapes = {
        name: tuple(value.shape)
        for name, value in theirs.items()
        if not name.startswith("text_encoder.pooler.")
    }
    shapes |= {f"{name}.weight": size for name, size in heads.items()}
    shapes |= {f"{name}.bias": size[:1] for name, size in heads.items()}
    assert {authors_name(name): tuple(value.shape) for name, value in own.items()} == shapes
    # The parameters of BERT-base without its pooler, of CLIP's ViT-B/32, and of the heads.
    assert (
        sum(value.numel() for value in own.values())
        == 109_482_240 - 590_592 + 87_456_000 + 786_944 + 513 + 3_078
    )


@pytest.mark.integration
def test_the_command_runs_from_a_checkout(
    authors: Authors, convert: Convert, tmp_path: Path
) -> None:
    assert convert(authors.state()).exit_code == 0
    before = (tmp_path / "made" / "model.safetensors").read_bytes()
    words = [
        sys.executable,
        "build/authors_to_checkpoint.py",
        tmp_path / "model.safetensors",
        tmp_path / "again",
    ]
    words += [
        "--tokenizer",
        TOKENIZER,
        "--text-config",
        tmp_path / "text.json",
        "--image-config",
        tmp_path / "image.json",
    ]
    ended = subprocess.run(words, cwd=CLONE, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == before
