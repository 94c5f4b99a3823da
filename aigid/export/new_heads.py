"""Other heads for a model repository: read the current ones, and write a version with new ones.

The encoders' graphs are the same files in the new version.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from aigid.contract import TOKENIZER_FILE, ModelContract
from aigid.errors import ContractError
from aigid.export.graph_metadata import describe_graph, write_graph
from aigid.export.model_configs import GPU_GRAPH, check_graph
from aigid.export.parity_report import PARITY_JSON, PARITY_MD
from aigid.export.repository_lock import staged_repository
from aigid.export.repository_versions import versions_of
from aigid.export.to_model_repository import carry_over, link_or_copy, write_descriptions
from aigid.training.fingerprints import model_fingerprint
from aigid.training.heads import Heads
from aigid.training.model_card import write_card

_HEADS = "fusion_heads"
_ENCODERS = ("bert", "clip_vision")
_PARITY_NOTE = (
    "The current version has the same encoders as the model below, and other heads: the figures of "
    "the features hold for it, the others do not."
)
# The module that is exported holds the heads by this name.
_WEIGHT_PREFIX = "heads."


def read_heads(repository: Path, contract: ModelContract) -> Heads:
    """Return the heads of a repository's current version, from the graph that CPUs run.

    Raises ContractError where the graph is of another model, or its weights are not those that the
    model's fingerprint was computed from.
    """
    path = repository / _HEADS / str(contract.version) / f"model.{contract.cpu_precision}.onnx"
    if not path.is_file():
        raise ContractError(f"{path}: no such file: the model repository is not whole")
    try:
        weights = {
            item.name.removeprefix(_WEIGHT_PREFIX): torch.from_numpy(
                numpy_helper.to_array(item).copy()
            )
            for item in onnx.load(path).graph.initializer
            if item.name.startswith(_WEIGHT_PREFIX)
        }
        heads = Heads(
            contract.text_features,
            contract.image_features,
            len(weights["fusion.weight"]),
            len(contract.labels),
            outputs_a=len(weights["head_a.weight"]),
        )
        # The exporter leaves out a bias of zeros.
        biases = {name for name in heads.state_dict() if name.endswith(".bias")}
        zeros = {name: torch.zeros_like(heads.state_dict()[name]) for name in biases}
        heads.load_state_dict(zeros | weights)
    except (DecodeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ContractError(f"{path}: the weights of the heads cannot be read: {reason}") from error
    if _fingerprint(heads, contract) != contract.fingerprint:
        raise ContractError(
            f"{path}: not the heads of this contract's model, {contract.fingerprint}: build the "
            "repository again"
        )
    return heads.eval()


@dataclass(frozen=True)
class NewHeads:
    """Heads for the encoders of a repository.

    `contract` is that of the repository's current version, with the new model's labels,
    temperatures, thresholds, open set and origin. `graph` is `fusion_heads` at these temperatures.
    """

    heads: Heads
    graph: onnx.ModelProto
    contract: ModelContract


def write_new_heads(
    repository: Path, new: NewHeads, out: Path, card_of: Callable[[ModelContract], str]
) -> ModelContract:
    """Write new heads with the encoders of `repository` as the next version of `out`.

    Return the contract with its version and fingerprint; `card_of` makes the model card of it.
    `out` may be the repository itself, whose earlier versions stay. Raises BuildError if it cannot
    be written; it stays as it was then.
    """
    contract = replace(new.contract, fingerprint=_fingerprint(new.heads, new.contract))
    check_graph(new.graph.graph, _HEADS, contract)
    with staged_repository(out) as folder:
        source, version = contract.version, max(versions_of(out), default=0) + 1
        contract = replace(contract, version=version)
        carry_over(out, folder)
        for part in _ENCODERS:
            _link_files(repository / part / str(source), folder / part / str(version))
        for path in sorted((folder / "bert" / str(version)).glob("model.*.onnx")):
            describe_graph(new.graph, _HEADS, contract.fingerprint, path.name.split(".")[1])
            write_graph(new.graph, folder / _HEADS / str(version) / path.name)
        write_descriptions(contract, repository / TOKENIZER_FILE, folder)
        _copy_parity(repository, folder)
        write_card(card_of(contract), folder)
    return contract


def _fingerprint(heads: Heads, contract: ModelContract) -> str:
    return model_fingerprint(
        heads,
        contract.encoders_fingerprint,
        contract.labels,
        contract.temperatures,
        contract.open_set,
    )


def lacks_engine(repository: Path, contract: ModelContract) -> bool:
    """Return whether a version has TensorRT engines of its encoders, but not of its heads."""
    engines = [
        repository / part / str(contract.version) / GPU_GRAPH for part in (*_ENCODERS, _HEADS)
    ]
    return [path.is_file() for path in engines] == [True, True, False]


def _link_files(source: Path, target: Path) -> None:
    """Hard-link or copy all files of a version: graphs, and engines with their records."""
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        link_or_copy(str(path), str(target / path.name))


def _copy_parity(repository: Path, folder: Path) -> None:
    """Copy the parity report, which is that of the heads that the build had."""
    for name in (PARITY_JSON, PARITY_MD):
        if (repository / name).is_file():
            shutil.copyfile(repository / name, folder / name)
    report = folder / PARITY_MD
    if report.is_file() and _PARITY_NOTE not in (text := report.read_text(encoding="utf-8")):
        title, _, rest = text.partition("\n")
        report.write_text(f"{title}\n\n{_PARITY_NOTE}\n{rest}", encoding="utf-8")
