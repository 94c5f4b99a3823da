"""Built graphs to a model repository, as Triton serves it and as the embedded scorer reads it.

A build adds a version; the versions before it stay until `prune_versions.py` removes them.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from aigid.contract import CONTRACT_FILE, TOKENIZER_FILE, ModelContract, save_contract
from aigid.errors import CheckpointError
from aigid.export.graph_metadata import graph_facts
from aigid.export.model_configs import ENSEMBLES, check_graph, model_configs
from aigid.export.repository_lock import staged_repository
from aigid.scorers.tensors import PARTS, PREPROCESS
from aigid.training.checkpoint import Checkpoint
from aigid.training.encoders import encoder_width

_PREPROCESS_MODEL = '''"""Decodes images and tokenizes prompts, with the package aigid that is installed beside the server."""

from aigid.serving.triton_preprocess import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''

# Written anew by every build; all else in a repository is carried over.
_WRITTEN = (CONTRACT_FILE, TOKENIZER_FILE)


def contract_of(checkpoint: Checkpoint) -> ModelContract:
    """The contract of the model in a checkpoint."""
    info = checkpoint.info
    return ModelContract(
        name=info.name,
        notice=info.notice,
        text_features=encoder_width(checkpoint.model.text_encoder),
        image_features=encoder_width(checkpoint.model.image_encoder),
        fingerprint=checkpoint.fingerprint,
        image=info.image,
        prompt=info.prompt,
        temperatures=info.temperatures,
        thresholds=info.thresholds,
    )


def versions_of(repository: Path) -> list[int]:
    """The versions that a repository holds of any part, in order."""
    folders = [
        path for part in PARTS for path in (repository / part).glob("[0-9]*") if path.is_dir()
    ]
    return sorted({int(path.name) for path in folders if path.name.isdecimal()})


def write_repository(
    checkpoint: Checkpoint, graphs: Mapping[str, Mapping[str, Path]], repository: Path
) -> ModelContract:
    """Write `graphs` (paths by precision and part) as the next version of the folder `repository`.

    With them come contract, tokenizer and configs. All is made beside the repository and then put in its place: a
    failed build leaves it as it was. Raises CheckpointError where a graph was made from another checkpoint,
    ContractError where its tensors are not the contract's, and BuildError where the repository cannot be written.
    """
    with staged_repository(repository) as folder:
        return fill_repository(checkpoint, graphs, repository, folder)


def fill_repository(
    checkpoint: Checkpoint, graphs: Mapping[str, Mapping[str, Path]], repository: Path, folder: Path
) -> ModelContract:
    """What `write_repository` does, into the staging folder that the caller holds."""
    contract = contract_of(checkpoint)
    for paths in graphs.values():
        _check_graphs(paths, contract)
    contract = replace(contract, version=max(versions_of(repository), default=0) + 1)
    _carry_over(repository, folder)
    for precision, paths in graphs.items():
        for part, path in paths.items():
            target = folder / part / str(contract.version) / f"model.{precision}.onnx"
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(str(path), str(target))
    _write_descriptions(contract, checkpoint.tokenizer_file, folder)
    return contract


def _write_descriptions(contract: ModelContract, tokenizer_file: Path, folder: Path) -> None:
    # Triton wants a version folder even of an ensemble, which has no file to put there; git keeps no empty folder.
    files = {f"{ensemble}/{contract.version}/.gitkeep": "" for ensemble in ENSEMBLES}
    files[f"{PREPROCESS}/{contract.version}/model.py"] = _PREPROCESS_MODEL
    for name, text in (model_configs(contract) | files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copyfile(tokenizer_file, folder / TOKENIZER_FILE)
    save_contract(contract, folder)


def _check_graphs(paths: Mapping[str, Path], contract: ModelContract) -> None:
    for part, path in paths.items():
        model = onnx.load(path)
        facts = graph_facts(model)
        found = facts.get("aigid.part"), facts.get("aigid.fingerprint")
        wanted = part, contract.fingerprint
        if found != wanted:
            raise CheckpointError(
                f"{path}: is {found[0]} of model {found[1]}, not {part} of model {wanted[1]}: export it anew"
            )
        check_graph(model.graph, part, contract)


def _carry_over(repository: Path, folder: Path) -> None:
    """Take over what is in the repository: earlier versions, and what other tools and people put there."""
    if not repository.is_dir():
        return
    for item in sorted(repository.iterdir()):
        if item.name in _WRITTEN:
            continue
        if item.is_dir():
            shutil.copytree(item, folder / item.name, copy_function=_link_or_copy)
        else:
            _link_or_copy(str(item), str(folder / item.name))


def _link_or_copy(source: str, target: str) -> None:
    """Link large files, which nothing ever changes in place, and copy the rest."""
    if source.endswith((".onnx", ".plan")):
        try:
            os.link(source, target)
            return
        except OSError:
            # Not every file system can.
            pass
    shutil.copy2(source, target)
