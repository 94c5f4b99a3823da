"""Decodes images and tokenizes prompts, with the package aigid that is installed beside the server."""

from aigid.serving.triton_preprocess import TritonPythonModel

__all__ = ["TritonPythonModel"]
