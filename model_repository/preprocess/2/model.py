"""Decodes images and tokenizes prompts, with the server's package aigid."""

from aigid.serving.triton_preprocess import TritonPythonModel

__all__ = ["TritonPythonModel"]
