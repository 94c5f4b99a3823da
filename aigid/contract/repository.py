"""Find the model repository that a path names, and read and write its contract."""

import dataclasses
import json
import shlex
from pathlib import Path

from aigid.contract.model_contract import ModelContract
from aigid.contract.strict_json import from_strict_dict, read_json
from aigid.errors import ContractError

CONTRACT_FORMAT = 3
CONTRACT_FILE = "contract.json"
TOKENIZER_FILE = "tokenizer.json"
_CHECKPOINT_FILES = ("config.json", "model.safetensors")
_PACKAGE = Path(__file__).parent.parent
# In a clone the demo model is beside the package, in an installed wheel it is in it.
_DEMO_MODELS = (_PACKAGE.parent / "model_repository", _PACKAGE / "demo_model")


def find_model(model: Path | str | None, *, parameter: str = "model") -> Path:
    """Return the folder of the model repository, or of the demo model if `model` is None.

    Raises ContractError, which names `parameter`, if there is no model repository.
    """
    if model is None:
        for folder in _DEMO_MODELS:
            if (folder / CONTRACT_FILE).is_file():
                return folder
        raise ContractError(
            "the demo model is missing from this installation; "
            f"name a model repository with `{parameter}`"
        )
    folder = Path(model)
    try:
        if (folder / CONTRACT_FILE).is_file():
            return folder
        reason = _why_no_repository(folder)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    raise ContractError(f"`{parameter}` {folder}: {reason}")


def _why_no_repository(folder: Path) -> str:
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file, not the folder of a model repository"
    if all((folder / name).is_file() for name in _CHECKPOINT_FILES):
        return (
            "a checkpoint, not a model repository; build one from it: aigid build "
            f"{shlex.quote(str(folder))} REPOSITORY --calibration MANIFEST --validation MANIFEST"
        )
    return (
        f"not a model repository: it has no {CONTRACT_FILE}; "
        "`aigid build` builds one from a checkpoint"
    )


def load_contract(repository: Path) -> ModelContract:
    """Read a repository's `contract.json`. Raises ContractError if it is missing or invalid."""
    path = repository / CONTRACT_FILE
    values = read_json(path, "the contract of a model repository")
    if not isinstance(values, dict) or values.pop("format", None) != CONTRACT_FORMAT:
        raise ContractError(
            f"{path}: its format is not {CONTRACT_FORMAT}, the one that this version of aigid "
            "reads: build the model repository again with `aigid build`"
        )
    contract: ModelContract = from_strict_dict(ModelContract, values, str(path))
    return contract


def save_contract(contract: ModelContract, repository: Path) -> None:
    """Write `contract.json` into a model repository."""
    text = json.dumps({"format": CONTRACT_FORMAT, **dataclasses.asdict(contract)}, indent=2)
    (repository / CONTRACT_FILE).write_text(text + "\n", encoding="utf-8")
