"""Model cards: the README.md of a checkpoint or model repository, with the hub's front matter.

Source of the front matter: https://huggingface.co/docs/hub/model-cards. A card has no dates and no
paths: the same model has the same card.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from aigid.contract import FittedOn, ModelContract
from aigid.records import OTHER

if TYPE_CHECKING:
    from aigid.training.checkpoint import CheckpointInfo

CARD_FILE = "README.md"
_WRITTEN_HERE = "<!-- Written by aigid. Without this line, aigid leaves the card as it is. -->"
_DECISIONS = "## Thresholds"
_TAGS = ["ai-generated-images", "image-attribution"]
# The metrics of training["metrics"] that a card shows, and their ids on the hub.
_METRICS = {
    ("a", "macro_f1"): ("macro-F1 of A (AI-generated or real)", "f1"),
    ("a", "balanced_accuracy"): ("balanced accuracy of A", "accuracy"),
    ("a", "auroc"): ("AUROC of A", "roc_auc"),
    ("b", "macro_f1"): ("macro-F1 of B (which generator)", "f1"),
    ("b", "accuracy"): ("accuracy of B", "accuracy"),
}


def checkpoint_card(info: "CheckpointInfo") -> str:
    """Return the card of a checkpoint."""
    use = (
        "With aigid and its extra `build` installed:\n\n"
        "```\n"
        "aigid evaluate TEST --checkpoint FOLDER\n"
        "aigid build FOLDER MODEL --calibration TRAIN --validation VALIDATION\n"
        "aigid scan IMAGES --model MODEL --out results/\n"
        "```\n\n"
        "FOLDER is the folder of this card, MODEL is what the second command makes of it, and the "
        "others are manifests: TRAIN, VALIDATION and TEST with labels."
    )
    return _card(info, info, use)


def repository_card(contract: ModelContract, info: "CheckpointInfo | None" = None) -> str:
    """Return the card of a model repository, with what `info` says of encoders and training."""
    use = (
        "With aigid installed:\n\n"
        "```\n"
        "aigid scan IMAGES --model FOLDER --out results/\n"
        "aigid serve --model FOLDER\n"
        "```\n\n"
        "```python\n"
        "import aigid\n\n"
        'detector = aigid.Detector.load("FOLDER")\n'
        "```\n\n"
        "FOLDER is the folder of this card. Triton Inference Server can serve it as it is. This is "
        f"version {contract.version}, and CPUs run its {contract.cpu_precision} graphs."
    )
    return _card(contract, info, use)


def recalibrated_card(card: str | None, contract: ModelContract) -> str:
    """Return a repository's card with the version, temperatures and thresholds of a contract.

    Everything else stays as it was. None stands for no card: the contract alone then describes the
    model.
    """
    if card is None:
        return repository_card(contract)
    before, heading, rest = card.partition(f"\n{_DECISIONS}\n")
    if not heading:
        return card
    after = rest[rest.find("\n## ") :] if "\n## " in rest else ""
    after = re.sub(r"This is version \d+,", f"This is version {contract.version},", after)
    return f"{before}\n{_decisions(contract)}\n{after}"


def read_card(folder: Path) -> str | None:
    """Return the card of a folder, or None where there is none."""
    file = folder / CARD_FILE
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def write_card(card: str, folder: Path) -> None:
    """Write a card into a folder, unless somebody has taken the card there into their own hands."""
    file = folder / CARD_FILE
    existing = read_card(folder)
    if existing is None or _WRITTEN_HERE in existing:
        file.write_text(card, encoding="utf-8")


def _card(model: "CheckpointInfo | ModelContract", info: "CheckpointInfo | None", use: str) -> str:
    sections = [
        f"# {_literal(model.name)}",
        *([f"> {_literal(model.notice)}"] if model.notice else []),
        "A model of aigid. It looks at an image and its prompt, if there is one, and answers two "
        "questions: A, is the image AI-generated or real, and B, which generator made it.",
        _labels(model),
        *(_about_training(info) if info else ()),
        _decisions(model),
        f"## Use\n\n{use}",
        "## Publish\n\n"
        "```\nhf upload OWNER/NAME FOLDER\n```\n\n"
        "Before that, add a licence to the top of this card, as in `license: apache-2.0`, and take "
        "out the comment below it: aigid then leaves the card as it is.",
        "## Limits\n\n"
        "- A score is no proof. It says how much an image resembles the AI-generated images that "
        "the model was trained on.\n"
        "- Images of other kinds than the training data, resized or compressed images get other "
        "scores. Measure on labelled images of your own: `aigid evaluate`.\n"
        "- Where file formats, sizes or contents of real and AI-generated training images differ, "
        "a model can learn these differences: `aigid audit` measures them.",
    ]
    front_matter = f"---\n{_front_matter(model.name, info).to_yaml()}\n---"
    return "\n\n".join([f"{front_matter}\n{_WRITTEN_HERE}", *sections]) + "\n"


def _front_matter(name: str, info: "CheckpointInfo | None") -> ModelCardData:
    common: dict[str, Any] = {
        "library_name": "aigid",
        "pipeline_tag": "image-classification",
        "tags": _TAGS,
    }
    results = list(_results(info)) if info else []
    if not results:
        return ModelCardData(**common)
    used = sorted({result.metric_type for result in results})
    return ModelCardData(**common, metrics=used, model_name=name, eval_results=results)


def _results(info: "CheckpointInfo") -> Iterator[EvalResult]:
    data = _validation_name(info)
    for figure in _figures(info):
        yield EvalResult(
            task_type="image-classification",
            dataset_type=re.sub(r"[^\w./-]+", "-", "/".join(data.split("/")[:2])),
            dataset_name=data,
            dataset_split="validation",
            metric_type=figure.hub_metric,
            metric_name=figure.title,
            metric_value=round(figure.value, 4),
        )


def _labels(model: "CheckpointInfo | ModelContract") -> str:
    names = ", ".join(_literal(label) for label in model.labels)
    if OTHER in model.labels:
        other = f"`{OTHER}` is the class of all generators that are not among them."
    elif model.open_set:
        other = f"Images of generators that it does not know get the answer `{OTHER}`."
    else:
        other = "Images of other generators get the name of one of these: the model knows no other."
    return f"## Labels\n\nIts answers are: {names}. {other}"


def _about_training(info: "CheckpointInfo") -> Iterator[str]:
    yield f"## Network\n\n{_table(('part', ''), _network(info))}"
    settings = _at(info.training, "config")
    if isinstance(settings, dict) and settings:
        listed = ", ".join(f"`{name}` {_literal(value)}" for name, value in _flat(settings))
        trained_on = _at(info.training, "data", "train")
        data = f"Trained on {_literal(trained_on)}. " if trained_on else ""
        yield f"## Training\n\n{data}The settings: {listed}."
    figures = list(_figures(info))
    if figures:
        rows = {
            name: _number(info.training, "metrics", *keys)
            for name, keys in (
                ("real", ("a", "real_rows")),
                ("AI-generated", ("a", "ai_rows")),
                ("in B", ("b", "rows")),
            )
        }
        counts = ", ".join(f"{value:,.0f} {name}" for name, value in rows.items() if value)
        yield (
            f"## Results\n\nOn {_literal(_validation_name(info))}, the validation data, in torch; "
            f"rows: {counts}. The best epoch was chosen on these rows, so that the figures are a "
            "little too good. A constant answer is AI-generated in A, and the most frequent class "
            "in B.\n\n"
            + _table(
                ("metric", "model", "95 % interval", "constant answer"),
                [figure.cells() for figure in figures],
            )
        )


def _network(info: "CheckpointInfo") -> Iterator[tuple[str, ...]]:
    yield "text encoder", f"{_encoder(info.text_config)}; at most {info.prompt.max_tokens} tokens"
    image = info.image
    yield "image encoder", f"{_encoder(info.image_config)}; {image.size} pixels, `{image.resizing}`"
    pooling = info.image_config.get("image_pooling")
    if pooling is not None:
        yield "image features", f"of the last of these layers, tokens pooled by `{pooling}`"
    yield (
        "fusion",
        f"{info.fusion_hidden} units; head A, and head B over {len(info.labels)} classes",
    )


def _encoder(config: dict[str, Any]) -> str:
    parts = [f"`{config.get('model_type', 'unknown')}`"]
    for key, text in (
        ("hidden_size", "width {}"),
        ("num_hidden_layers", "{} layers"),
        ("patch_size", "patches of {}"),
    ):
        if key in config:
            parts.append(text.format(config[key]))
    return ", ".join(parts)


@dataclass(frozen=True)
class _Figure:
    """A metric of the validation rows; `hub_metric` is its id on the hub."""

    title: str
    hub_metric: str
    value: float
    interval: tuple[float, float] | None
    constant: float | None

    def cells(self) -> tuple[str, ...]:
        """Return the cells of its row."""
        ends = "-" if self.interval is None else " to ".join(f"{end:.4f}" for end in self.interval)
        constant = "-" if self.constant is None else f"{self.constant:.4f}"
        return self.title, f"{self.value:.4f}", ends, constant


def _figures(info: "CheckpointInfo") -> Iterator[_Figure]:
    for (task, metric), (title, hub_metric) in _METRICS.items():
        value = _number(info.training, "metrics", task, metric)
        if value is None:
            continue
        constant = _number(info.training, "metrics", "constant", task, metric)
        ends = _at(info.training, "metrics", task, "intervals", metric)
        low, high = (_number(ends, index) for index in (0, 1))
        interval = None if low is None or high is None else (low, high)
        yield _Figure(title, hub_metric, value, interval, constant)


def _decisions(model: "CheckpointInfo | ModelContract") -> str:
    a, b = model.temperatures.a, model.temperatures.b
    lines = [
        f"{_DECISIONS}\n",
        f"The logits are divided by temperatures, {a:.3f} for A and {b:.3f} for B, so that "
        f"probabilities are calibrated.{_origin(model.fitted_on)} An image is called AI-generated "
        "if `p_ai` is at least the threshold: 0.5, or that of a false-positive rate:\n",
    ]
    rows = [
        (rate, f"{item.p_ai:.4f}", f"{item.real_rows:,}", f"{100 * item.confidence:g} %")
        for rate, item in sorted(model.thresholds.items(), key=lambda pair: -float(pair[0]))
    ]
    if rows:
        titles = ("false-positive rate", "threshold", "measured on real rows", "confidence")
        lines.append(_table(titles, rows))
        lines.append("\nThe rates hold for images of the same kind as those rows, and no others.")
    else:
        lines.append("None is stored.")
    lines.extend(_verdicts(model))
    lines.append("`aigid calibrate` fits all of this to labelled images of your own.")
    if model.open_set:
        open_set = model.open_set
        lines.append(
            f"\nAn AI-generated image has the source `{OTHER}` if its `known_score` is below "
            f"{open_set.threshold:.4f}. Of {open_set.rows:,} rows of known generators, "
            f"{100 * open_set.known_rate:.1f} % keep their name."
        )
    return "\n".join(lines)


def _verdicts(model: "CheckpointInfo | ModelContract") -> Iterator[str]:
    """Yield what verdicts need beside the thresholds of false-positive rates."""
    rows = [
        (rate, f"{item.p_ai:.4f}", f"{item.ai_rows:,}", f"{100 * item.confidence:g} %")
        for rate, item in sorted(model.miss_thresholds.items(), key=lambda pair: -float(pair[0]))
    ]
    if rows:
        yield (
            "\nIn the modes `balanced` (0.01) and `high-precision` (0.001), the verdict is `ai` "
            "from the threshold of that false-positive rate on, `real` below that of that miss "
            "rate, and `unsure` between. A miss rate is the share of AI-generated images below:\n"
        )
        titles = ("miss rate", "threshold", "measured on AI-generated rows", "confidence")
        yield f"{_table(titles, rows)}\n"


def _origin(fitted: FittedOn | None) -> str:
    if fitted is None:
        return ""
    return (
        f" The thresholds were fitted on {_literal(fitted.data)} with {_literal(fitted.graphs)}: "
        f"{fitted.rows:,} rows, {fitted.real_rows:,} of them real. So were the temperatures, "
        "unless `aigid calibrate --thresholds-only` kept them."
    )


def _validation_name(info: "CheckpointInfo") -> str:
    named = _at(info.training, "data", "validation")
    return str(named or (info.fitted_on.data if info.fitted_on else "validation data"))


def _at(values: Any, *keys: str | int) -> Any:
    """Return what stands in nested JSON under these keys; None where there is nothing.

    Anything may stand in a checkpoint's `training`: other versions and other people write it.
    """
    for key in keys:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _number(values: Any, *keys: str | int) -> float | None:
    """Return the number that stands in nested JSON under these keys, if it is one."""
    found = _at(values, *keys)
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _literal(text: object) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(str(text).split()))
