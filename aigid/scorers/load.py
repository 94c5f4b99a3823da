"""Load the scorer that a configuration asks for."""

from collections.abc import Callable
from pathlib import Path

from aigid.extras import missing_extra
from aigid.scorers.onnx_embedded import OnnxScorer
from aigid.scorers.scorer import Scorer
from aigid.scorers.triton_config import TritonConfig


def load_scorer(
    repository: Path,
    triton: TritonConfig | None,
    batch_rows: int,
    on_message: Callable[[str], None] = lambda line: None,
) -> Scorer:
    """Return the embedded scorer, or with `triton` the one that sends batches to servers.

    The caller closes it. Raises ContractError if the model cannot be loaded or a server has another
    model, ServerError if no server answers, and MissingExtraError if Triton's client is missing.
    """
    if triton is None:
        return OnnxScorer(repository)
    try:
        from aigid.scorers.triton_grpc import TritonScorer
    except ModuleNotFoundError as error:
        raise missing_extra("scoring on Triton servers", error, "serve") from error
    return TritonScorer(repository, triton, batch_rows, on_message)
