"""Checks of the model and of a Triton server on this host."""

import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from aigid.contract import TOKENIZER_FILE, ModelContract, find_model
from aigid.detector import Detector
from aigid.doctor.check import Check, hint, ok, problem
from aigid.errors import AigidError, ServerError
from aigid.prompts import PromptEncoder
from aigid.scorers import load_scorer
from aigid.serving import cache_folder, folder_to_install, installed_folder

_SIDE = 256


def check_model(model: Path | str | None) -> Iterator[Check]:
    """Yield whether the model loads and scores a pair, and what its contract says."""
    remedy = "Name a model repository with `model`, or build it again with `aigid build`."
    if model is None:
        remedy = "Install aigid again: the demo model is a part of it."
    try:
        repository = find_model(model)
        started = time.perf_counter()
        with closing(load_scorer(repository, None, 1)) as scorer:
            loaded = time.perf_counter() - started
            contract, precision = scorer.contract, scorer.precision
            detector = Detector(scorer, PromptEncoder(repository / TOKENIZER_FILE, contract.prompt))
            (detection,) = detector.detect([_test_image()], ["a test image"])
    except AigidError as error:
        yield problem("model", str(error), remedy)
        return
    name = f"{contract.name}, {precision}, loaded in {loaded:.1f} s"
    if detection.p_ai is None or not 0 <= detection.p_ai <= 1:
        why = detection.error.detail if detection.error else f"p_ai {detection.p_ai}"
        yield problem("model", f"{name}; it cannot score a test image: {why}", remedy)
        return
    yield ok("model", f"{name}; a test image was scored; labels: {', '.join(contract.labels)}")
    yield ok("contract", _described(contract))
    if contract.notice:
        yield hint("notice", contract.notice, "For decisions, give a model of your own: `model`.")


def _described(contract: ModelContract) -> str:
    stored = ", ".join(sorted(contract.thresholds, key=float)) or "none"
    return (
        f"fingerprint {contract.fingerprint[:16]}...; thresholds for false-positive rates: "
        f"{stored}; modes of verdicts: {', '.join(contract.modes)}"
    )


def _test_image() -> bytes:
    """Return an encoded image of a colour ramp."""
    ramp = np.arange(_SIDE, dtype=np.uint8)
    pixels = np.stack(
        [np.broadcast_to(ramp, (_SIDE, _SIDE)), np.broadcast_to(ramp[:, None], (_SIDE, _SIDE))]
        + [np.full((_SIDE, _SIDE), 128, np.uint8)],
        axis=-1,
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def check_server(cache: Path | None = None) -> Check:
    """Return whether `aigid serve` finds a tritonserver. None is started or installed."""
    on_path = shutil.which("tritonserver")
    if on_path:
        return ok("triton", f"{on_path}, on the PATH")
    text = "no tritonserver on the PATH"
    cache = cache or cache_folder()
    try:
        folder = installed_folder(cache)
        if folder is not None:
            return ok("triton", f"{folder}, installed from NVIDIA's wheel (for CPUs)")
        folder = folder_to_install(cache)
    except ServerError as error:
        return hint("triton", text, f"Only for `aigid serve`: {error}.")
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(place, os.W_OK):
        remedy = f"`aigid serve` installs NVIDIA's into {folder} on first use (for CPUs)."
    else:
        remedy = f"Make {place} writable, where `aigid serve` installs one, or install your own."
    return hint("triton", text, remedy)
