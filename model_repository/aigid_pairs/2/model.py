"""Prepares pairs and scores them, with the server's package aigid."""

try:
    from aigid.serving.triton_pairs import TritonPythonModel
except ModuleNotFoundError as error:
    raise ImportError(
        f"this model repository needs a later aigid beside the server ({error}): install it, or "
        "build the repository with the aigid that is there"
    ) from error

__all__ = ["TritonPythonModel"]
