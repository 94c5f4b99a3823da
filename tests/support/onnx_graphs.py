"""Inputs for the graphs of the tiny model, and functions that run graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image

Feed = dict[str, npt.NDArray[Any]]

TINY_SIDE, TINY_WORDS, TINY_WIDTH = 32, 14, 32


def example_feed(part: str, rows: int, tokens: int = 8, seed: int = 1) -> Feed:
    generator = np.random.default_rng(seed)
    if part == "clip_vision":
        return {"image": np.stack([_smooth_image(generator) for _ in range(rows)])}
    if part == "fusion_heads":
        names = ("text_features", "image_features")
        return {
            name: generator.normal(size=(rows, TINY_WIDTH)).astype(np.float32) for name in names
        }
    mask = (np.arange(tokens) < generator.integers(2, tokens + 1, (rows, 1))).astype(np.int32)
    ids = generator.integers(4, TINY_WORDS, (rows, tokens)).astype(np.int32)
    # Like every prompt: [CLS], words, [SEP].
    ids[:, 0], ids[np.arange(rows), mask.sum(axis=1) - 1] = 2, 3
    return {"input_ids": ids * mask, "attention_mask": mask}


def _smooth_image(generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(
        Image.fromarray(coarse).resize((TINY_SIDE, TINY_SIDE), Image.Resampling.BICUBIC)
    )


def run_graph(graph: Path | bytes, feed: Feed, threads: int = 1) -> list[npt.NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    answers: list[npt.NDArray[np.float32]] = ort.InferenceSession(
        graph, options, ["CPUExecutionProvider"]
    ).run(None, feed)
    return answers


def rows_of(feed: Feed, rows: slice | list[int]) -> Feed:
    return {name: value[rows] for name, value in feed.items()}
