"""Lay out built graphs as a model repository, which Triton serves and the embedded scorer reads.

A build adds a version. Earlier versions stay until `prune_versions` removes them.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from aigid.contract import (
    CONTRACT_FILE,
    TOKENIZER_FILE,
    ModelContract,
    read_json,
    save_contract,
)
from aigid.errors import CheckpointError
from aigid.export.graph_metadata import GraphFacts
from aigid.export.model_configs import check_graph, model_configs
from aigid.export.repository_lock import staged_repository
from aigid.export.repository_versions import versions_of
from aigid.scorers import PAIRS_MODEL, TENSORS_MODEL
from aigid.training.checkpoint import Checkpoint
from aigid.training.encoders import encoder_width
from aigid.training.model_card import repository_card, write_card

# Paths of graphs by precision and part.
Graphs = Mapping[str, Mapping[str, Path]]

_PYTHON_MODEL = '''"""{what}, with the server's package aigid."""

try:
    from aigid.serving.{module} import TritonPythonModel
except ModuleNotFoundError as error:
    raise ImportError(
        f"this model repository needs a later aigid beside the server ({{error}}): install it, or "
        "build the repository with the aigid that is there"
    ) from error

__all__ = ["TritonPythonModel"]
'''
_PYTHON_MODELS = {
    TENSORS_MODEL: _PYTHON_MODEL.format(what="Scores tensors", module="triton_tensors"),
    PAIRS_MODEL: _PYTHON_MODEL.format(what="Prepares pairs and scores them", module="triton_pairs"),
}

# A model of earlier repositories, whose work `aigid_pairs` does.
_FORMER_MODEL = "preprocess"

CPU_PRECISIONS = ("int8", "fp32")
"""What CPUs run, the faster first."""

# Every build writes these anew; everything else in a repository is carried over.
_WRITTEN = (CONTRACT_FILE, TOKENIZER_FILE)


def cpu_precision_of(precisions: Iterable[str]) -> str:
    """Return the precision that CPUs run, of some with one of CPU_PRECISIONS among them."""
    built = set(precisions)
    return next(name for name in CPU_PRECISIONS if name in built)


def contract_of(checkpoint: Checkpoint) -> ModelContract:
    """Return the contract of the model in a checkpoint."""
    info = checkpoint.info
    return ModelContract(
        name=info.name,
        notice=info.notice,
        text_features=encoder_width(checkpoint.model.text_encoder),
        image_features=encoder_width(checkpoint.model.image_encoder),
        fingerprint=checkpoint.fingerprint,
        encoders_fingerprint=checkpoint.encoders_fingerprint,
        image=info.image,
        prompt=info.prompt,
        labels=info.labels,
        temperatures=info.temperatures,
        thresholds=info.thresholds,
        miss_thresholds=info.miss_thresholds,
        open_set=info.open_set,
        fitted_on=info.fitted_on,
    )


def write_repository(checkpoint: Checkpoint, graphs: Graphs, repository: Path) -> ModelContract:
    """Write graphs, contract, tokenizer and configurations as the next version of `repository`.

    Everything is written to a folder next to the repository, which then takes its place: a failed
    build leaves the repository as it was. Raises CheckpointError if a graph belongs to another
    checkpoint, ContractError if its tensors are not the contract's, and BuildError if the
    repository cannot be written.
    """
    with staged_repository(repository) as folder:
        return fill_repository(checkpoint, graphs, repository, folder)


def fill_repository(
    checkpoint: Checkpoint, graphs: Graphs, repository: Path, folder: Path
) -> ModelContract:
    """Write what `write_repository` does into the caller's staging folder."""
    contract = contract_of(checkpoint)
    for paths in graphs.values():
        _check_graphs(paths, contract)
    contract = replace(
        contract,
        version=max(versions_of(repository), default=0) + 1,
        cpu_precision=cpu_precision_of(graphs),
    )
    carry_over(repository, folder)
    for precision, paths in graphs.items():
        for part, path in paths.items():
            target = folder / part / str(contract.version) / f"model.{precision}.onnx"
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(str(path), str(target))
    write_descriptions(contract, checkpoint.tokenizer_file, folder)
    write_card(repository_card(contract, checkpoint.info), folder)
    return contract


def write_descriptions(contract: ModelContract, tokenizer_file: Path, folder: Path) -> None:
    """Write a version's contract, tokenizer, configurations and Python models into `folder`."""
    # Also for earlier versions, so that they can be put back.
    files = {
        f"{model}/{version}/model.py": text
        for version in {contract.version, *versions_of(folder)}
        for model, text in _PYTHON_MODELS.items()
    }
    for name, text in (model_configs(contract) | files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copyfile(tokenizer_file, folder / TOKENIZER_FILE)
    save_contract(contract, folder)


def _check_graphs(paths: Mapping[str, Path], contract: ModelContract) -> None:
    for part, path in paths.items():
        model = onnx.load(path)
        facts = GraphFacts.of(model)
        fingerprint = contract.graph_fingerprint(part)
        if (facts.part, facts.fingerprint) != (part, fingerprint):
            raise CheckpointError(
                f"{path}: expected {part} of model {fingerprint}, "
                f"got {facts.part or 'an unnamed part'} of model {facts.fingerprint or 'unknown'}: "
                "export the checkpoint again"
            )
        check_graph(model.graph, part, contract)


def carry_over(repository: Path, folder: Path) -> None:
    """Copy earlier versions, and files of other tools and people, into the new folder.

    The contract of the current version moves beside its heads, from where it can be put back.
    """
    if not repository.is_dir():
        return
    for item in sorted(repository.iterdir()):
        if item.name in (*_WRITTEN, _FORMER_MODEL):
            continue
        if item.is_dir():
            shutil.copytree(item, folder / item.name, copy_function=link_or_copy)
        else:
            link_or_copy(str(item), str(folder / item.name))
    contract = repository / CONTRACT_FILE
    if contract.is_file():
        version = str(read_json(contract, "a contract").get("version"))
        if (folder / "fusion_heads" / version).is_dir():
            shutil.copyfile(contract, folder / "fusion_heads" / version / CONTRACT_FILE)


def link_or_copy(source: str, target: str) -> None:
    """Hard-link large files, which are never changed in place, and copy all others."""
    if source.endswith((".onnx", ".plan")):
        try:
            os.link(source, target)
            return
        except OSError:
            # Not every file system has hard links.
            pass
    shutil.copy2(source, target)
