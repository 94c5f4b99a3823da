"""Features of frozen encoders on disk: one safetensors file for each set of rows and encoders."""

import hashlib
import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from aigid.errors import TrainingError
from aigid.progress import OnMessage
from aigid.training.checkpoint import save_tensors
from aigid.training.datasets import LabelledManifest
from aigid.training.features import FeatureTable

# Another layout of the files, or another way of making features, gets another number.
_FORMAT = 1
_TENSORS = ("text", "image", "numbers")


def feature_key(encoders: str, manifest: LabelledManifest, *, unify: bool) -> str:
    """Return the SHA-256 of all that the features of a manifest's rows depend on.

    `encoders` is the fingerprint of the encoders with what they read. Images that the manifest only
    refers to are taken to stay as they are.
    """
    files = [(file.path, file.size_bytes, file.digest, file.modified_ns) for file in manifest.files]
    numbers = np.fromiter(manifest.row_numbers(None), np.int64)
    facts = {
        "format": _FORMAT,
        "encoders": encoders,
        "files": files,
        "rows": hashlib.sha256(numbers.tobytes()).hexdigest(),
        "unify": unify,
        "without": manifest.without,
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class FeatureCache:
    """A folder of features. Runs may share it: a file's name and content say what it is for."""

    folder: Path

    def prepare(self) -> None:
        """Make the folder; raises TrainingError where it cannot be written."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass

    def load(self, key: str, on_message: OnMessage) -> FeatureTable | None:
        """Return the features of a key, or None where the folder does not have them.

        A file that is damaged, or that has the features of another key, does not count; a message
        says so.
        """
        file = self._file(key)
        if not file.is_file():
            return None
        try:
            with safe_open(file, "np") as stored:
                stated = stored.metadata() or {}
                table = FeatureTable(*(stored.get_tensor(name) for name in _TENSORS))
        except (OSError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
        else:
            if stated == _facts(key, table):
                return table
            reason = "not the features that its name says"
        on_message(f"{file}: damaged: {reason}: the features are made anew")
        return None

    def save(self, key: str, table: FeatureTable) -> None:
        """Write the features of a key, whole or not at all.

        Raises TrainingError where the folder cannot be written.
        """
        file = self._file(key)
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(getattr(table, name))) for name in _TENSORS
        }
        with self._writing():
            staged = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
            try:
                save_tensors(tensors, staged, _facts(key, table))
                staged.replace(file)
            finally:
                staged.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{self.folder}: features cannot be written: {error}: choose another "
                "`feature_cache`"
            ) from error

    def _file(self, key: str) -> Path:
        return self.folder / f"{key[:32]}.safetensors"


def _facts(key: str, table: FeatureTable) -> dict[str, str]:
    """Return what a file states about its content."""
    digest = hashlib.sha256()
    for name in _TENSORS:
        values = getattr(table, name)
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return {"key": key, "sha256": digest.hexdigest()}
