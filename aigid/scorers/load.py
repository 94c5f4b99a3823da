"""The scorer that is asked for: the model inside this process, or on Triton servers."""

from collections.abc import Callable
from pathlib import Path

from aigid.errors import MissingExtraError
from aigid.scorers import Scorer
from aigid.scorers.onnx_embedded import OnnxScorer
from aigid.scorers.triton_config import TritonConfig


def load_scorer(
    repository: Path,
    triton: TritonConfig | None,
    batch_rows: int,
    on_message: Callable[[str], None] = lambda line: None,
) -> Scorer:
    """The embedded scorer, or with `triton` the one that asks servers; the caller closes it.

    Raises ContractError where the model cannot be loaded or a server has another, ServerError where no server answers,
    and MissingExtraError where Triton's client is not installed.
    """
    if triton is None:
        return OnnxScorer(repository)
    try:
        from aigid.scorers.triton_grpc import TritonScorer
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"scoring on Triton servers needs {error.name}: pip install 'aigid[serve]'"
        ) from error
    return TritonScorer(repository, triton, batch_rows, on_message)
