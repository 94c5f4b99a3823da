"""Where the model is: the path given, or the demo model that ships with aigid."""

from pathlib import Path

from aigid.contract import CONTRACT_FILE
from aigid.errors import ContractError

_PACKAGE = Path(__file__).parent


def find_model(model: Path | None) -> Path:
    """The model repository's folder; without a path, the demo model of the clone or of the installed wheel.

    Raises ContractError where there is none.
    """
    candidates = (
        [model] if model else [_PACKAGE.parent / "model_repository", _PACKAGE / "demo_model"]
    )
    for folder in candidates:
        if (folder / CONTRACT_FILE).is_file():
            return folder
    if model:
        raise ContractError(
            f"{model}: not a model repository: it has no {CONTRACT_FILE}; make one with build/pipeline.py"
        )
    raise ContractError(
        "the demo model is missing from this installation; name a model repository with --model"
    )
