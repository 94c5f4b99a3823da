"""Leave each generator out in turn: how often its rows get the name of another, by open-set score.

Encoders are frozen: DINOv2-S cut after block 4, and MiniLM. See `pretrained_pair.py` for both.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from aigid_command import aigid
from rich.console import Console
from rich.table import Table
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import f1_score, roc_auc_score

from aigid.contract import Resizing, Temperatures
from aigid.cores import available_cores
from aigid.progress_bar import SilentProgress
from aigid.records import DEFAULT_LABELS
from aigid.training.calibration import fit_temperatures, probabilities
from aigid.training.datasets import LabelledManifest
from aigid.training.encoders import load_image_encoder, load_text_encoder
from aigid.training.feature_cache import FeatureCache, feature_key
from aigid.training.features import make_features
from aigid.training.fingerprints import encoders_fingerprint
from aigid.training.fusion_model import FusionModel
from aigid.training.head_training import train_heads
from aigid.training.heads import Heads, Logits
from aigid.training.image_pooling import ImagePooling
from aigid.training.labelled_features import LabelledFeatures
from aigid.training.labels import OTHER_GENERATOR
from aigid.training.open_set import KNOWN_RATE, fit_open_set
from aigid.training.preprocessing import image_spec_of
from aigid.training.row_decoder import ReadOptions
from aigid.training.run import describe_model, open_prompts

MOST_NAMED, MOST_LOST = 1 / 3, 2.0
ROWS = {"train": 4800, "validation": 1800, "test": 1800}

Floats = npt.NDArray[np.float64]
Score = Callable[["Outputs"], Floats]


def simulate(data: Path) -> None:
    """Make the three manifests, unless they are there."""
    for seed, (split, rows) in enumerate(ROWS.items(), start=11):
        if not (data / split).is_dir():
            aigid("simulate", data / split, "--rows", rows, "--split", split, "--seed", seed)


def load_features(pair: Path, data: Path) -> dict[str, LabelledFeatures]:
    """Return the features of each manifest; they are kept in the folder features of `data`."""
    text = load_text_encoder(str(pair / "minilm"))
    image = load_image_encoder(str(pair / "dinov2s"), 4, ImagePooling.MEAN)
    spec = image_spec_of(image, str(pair / "dinov2s"), Resizing.NATIVE_CROP)
    info = describe_model((text, image), spec, 512, name="open-set", notice="")
    tokenizer_file = pair / "minilm" / "tokenizer.json"
    prompts, model = open_prompts(tokenizer_file, info), FusionModel(text, image, spec)
    encoders = encoders_fingerprint(model, info, tokenizer_file)
    cache, found = FeatureCache(data / "features"), {}
    cache.prepare()
    for split in ROWS:
        options = ReadOptions(threads=available_cores())
        manifest = LabelledManifest([str(data / split)], prompts, spec, options)
        key = feature_key(encoders, manifest, unify=False)
        table = cache.load(key, print)
        if table is None:
            table = make_features(model, manifest, SilentProgress())
            cache.save(key, table)
        found[split] = table.labelled(manifest)
    return found


@dataclass(frozen=True)
class Outputs:
    """What heads say of rows, and the rows' image features; `label_b` [N] counts from 0, real."""

    hidden: Floats
    image: Floats
    logits: Logits
    p_ai: Floats
    p_source: Floats
    label_b: npt.NDArray[np.int64]

    @classmethod
    def of(cls, heads: Heads, temperatures: Temperatures, rows: LabelledFeatures) -> "Outputs":
        """Return the outputs of heads at these temperatures."""
        text, image = torch.from_numpy(rows.text), torch.from_numpy(rows.image)
        with torch.inference_mode():
            hidden = heads.hidden(text, image)
            logits = heads.logits(hidden)
            p_ai, p_source = probabilities(logits, temperatures)
        return cls(
            hidden.double().numpy(),
            rows.image.astype(np.float64),
            logits,
            p_ai.double().numpy(),
            p_source.double().numpy(),
            rows.label_b,
        )

    def evidence(self) -> Floats:
        """Return the logits that tell generators apart, without what head B's have in common."""
        logits = self.logits.evidence().double().numpy()
        logits[:, 1:] -= logits[:, 1:].mean(axis=1, keepdims=True)
        # The last one follows from the others.
        found: Floats = logits[:, :-1]
        return found


def likeliest(outputs: Outputs) -> Floats:
    """Return the softmax of the likeliest generator."""
    shares = outputs.p_source[:, 1:] / outputs.p_ai[:, None]
    found: Floats = shares.max(axis=1)
    return found


def energy(outputs: Outputs) -> Floats:
    """Return the logarithm of the sum of the generators' exponentiated logits."""
    found: Floats = torch.logsumexp(outputs.logits.b[:, 1:].double(), dim=1).numpy()
    return found


def mahalanobis(fitted: Outputs, space: Callable[[Outputs], Floats]) -> Score:
    """Return minus the squared distance to the nearest generator, in a space of the outputs."""
    known = fitted.label_b > 0
    rows, generators = space(fitted)[known], fitted.label_b[known]
    means = np.stack([rows[generators == one].mean(axis=0) for one in np.unique(generators)])
    covariance, _ = ledoit_wolf(rows - means[generators - 1], assume_centered=True)
    root = np.linalg.cholesky(np.linalg.inv(covariance))

    def score(outputs: Outputs) -> Floats:
        away = [((space(outputs) - mean) @ root) ** 2 for mean in means]
        found: Floats = -np.min([part.sum(axis=1) for part in away], axis=0)
        return found

    return score


def scores_of(heads: Heads, temperatures: Temperatures, fitted: Outputs) -> dict[str, Score]:
    """Return the scores to compare, fitted on these rows; the last is the product's own."""
    labels = torch.from_numpy(fitted.label_b)
    names = [str(label) for label in range(fitted.p_source.shape[1])]
    fit_open_set(heads, fitted.logits, temperatures, labels, names)

    def known_score(outputs: Outputs) -> Floats:
        p_source = torch.from_numpy(outputs.p_source).float()
        with torch.inference_mode():
            found: Floats = heads.known_score(outputs.logits, p_source).double().numpy()
        return found

    distance, generators = mahalanobis(fitted, Outputs.evidence), len(names) - 1
    return {
        "softmax": likeliest,
        "energy": energy,
        "distance, image features": mahalanobis(fitted, lambda one: one.image),
        "distance, hidden layer": mahalanobis(fitted, lambda one: one.hidden),
        "distance, logits": distance,
        "softmax x typical": lambda one: likeliest(one) / (1 - distance(one) / generators),
        "p_source x typical (aigid)": known_score,
    }


@dataclass(frozen=True)
class Found:
    """The figures of one score for one generator that was left out."""

    called_ai: int
    named: int
    auroc: float
    points_lost: float


def measure(score: Score, fitted: Outputs, test: Outputs, left_out: npt.NDArray[np.bool_]) -> Found:
    """Return the figures of a score; its threshold leaves KNOWN_RATE of the fitted rows known."""
    rows = score(fitted)[(fitted.label_b > 0) & (fitted.p_ai >= 0.5)]
    threshold = np.sort(rows)[int((1 - KNOWN_RATE) * len(rows))]
    values, is_ai = score(test), test.p_ai >= 0.5
    plain = np.where(is_ai, 1 + test.p_source[:, 1:].argmax(axis=1), 0)
    other = is_ai & (values < threshold)
    known = ~left_out
    macro_f1 = [
        f1_score(
            *(test.label_b[known], sources[known]),
            labels=np.unique(test.label_b[known]),
            average="macro",
        )
        for sources in (plain, np.where(other, -1, plain))
    ]
    generated = left_out | (test.label_b > 0)
    return Found(
        int(is_ai[left_out].sum()),
        int((is_ai & ~other)[left_out].sum()),
        float(roc_auc_score(known[generated], values[generated])),
        100 * float(macro_f1[0] - macro_f1[1]),
    )


def leave_out(sets: dict[str, LabelledFeatures], label: int) -> dict[str, Found]:
    """Return the figures of each score with the generator of this label left out."""
    known = [one for one in range(len(DEFAULT_LABELS)) if one != label]
    places = {one: place for place, one in enumerate(known)}
    codes = np.array([places.get(one, OTHER_GENERATOR) for one in range(len(DEFAULT_LABELS))])
    rows = {
        name: LabelledFeatures(one.text, one.image, one.label_a, codes[one.label_b])
        for name, one in sets.items()
    }
    train, validation = (rows[name].take(rows[name].label_b >= 0) for name in list(ROWS)[:2])
    heads = train_heads(train, len(known))
    plain = Outputs.of(heads, Temperatures(), validation)
    labels = torch.from_numpy(validation.label_a), torch.from_numpy(validation.label_b)
    temperatures = fit_temperatures(plain.logits, *labels)
    fitted, test = (Outputs.of(heads, temperatures, one) for one in (validation, rows["test"]))
    left_out = test.label_b < 0
    return {
        name: measure(score, fitted, test, left_out)
        for name, score in scores_of(heads, temperatures, fitted).items()
    }


@click.command()
@click.argument("pair", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("data", type=click.Path(file_okay=False, path_type=Path))
def main(pair: Path, data: Path) -> None:
    """Compare open-set scores, with the encoders in PAIR, on rows that are simulated in DATA.

    Exits with status 1 if aigid's own leaves more than a third of the wrong names, or costs known
    generators more than two points of macro-F1.

    Example: python benchmarks/open_set.py runs/pair runs/data
    """
    simulate(data)
    sets = load_features(pair, data)
    found = [leave_out(sets, label) for label in range(1, len(DEFAULT_LABELS))]
    without = [next(iter(scores.values())).called_ai for scores in found]
    table = Table(
        title=f"{sum(without)} wrong names without a score: {without}", title_justify="left"
    )
    for column in ("score", "wrong names", "share", "AUROC", "points of macro-F1 lost"):
        table.add_column(column, justify="left" if column == "score" else "right")
    share = most_lost = 1.0
    for name in found[0]:
        scores = [one[name] for one in found]
        named, lost = [one.named for one in scores], [one.points_lost for one in scores]
        share, most_lost = sum(named) / sum(without), max(lost)
        table.add_row(
            name,
            " ".join(map(str, named)),
            f"{share:.3f}",
            " ".join(f"{one.auroc:.3f}" for one in scores),
            " ".join(f"{points:.1f}" for points in lost),
        )
    Console(width=140).print(table)
    sys.exit(1 if share > MOST_NAMED or most_lost > MOST_LOST else 0)


if __name__ == "__main__":
    main()
