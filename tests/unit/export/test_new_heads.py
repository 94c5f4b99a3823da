import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from aigid.contract import (
    FittedOn,
    ModelContract,
    OpenSet,
    Temperatures,
    Threshold,
    load_contract,
    save_contract,
)
from aigid.errors import ContractError
from aigid.export.checkpoint_to_onnx import export_heads
from aigid.export.new_heads import NewHeads, lacks_engine, read_heads, write_new_heads
from aigid.export.pipeline import BuiltRepository
from aigid.export.repository_versions import prune_versions
from aigid.scorers import PARTS, OnnxScorer
from aigid.training.checkpoint import Checkpoint
from aigid.training.fingerprints import model_fingerprint
from aigid.training.heads import Heads

ENCODERS = ("bert", "clip_vision")


@pytest.fixture
def copied(built: BuiltRepository, repository: Path, tmp_path: Path) -> Path:
    """A repository of one's own."""
    return Path(shutil.copytree(repository, tmp_path / "copied"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def random_heads(repository: Path, labels: int) -> Heads:
    contract = load_contract(repository)
    torch.manual_seed(3)
    return Heads(contract.text_features, contract.image_features, 8, labels).eval()


def write(repository: Path, heads: Heads, contract: ModelContract, out: Path) -> ModelContract:
    graph = export_heads(
        heads,
        contract.temperatures,
        text_features=contract.text_features,
        image_features=contract.image_features,
    )
    new = NewHeads(heads, graph, contract)
    return write_new_heads(repository, new, out, lambda final: f"version {final.version}")


def test_the_heads_are_read_back_as_they_were_trained(copied: Path, checkpoint: Checkpoint) -> None:
    contract = load_contract(copied)
    heads = read_heads(copied, contract)
    trained = checkpoint.model.state_dict()
    assert heads.state_dict().keys() == {
        name for name in trained if not name.startswith(("text_encoder.", "image_encoder."))
    }
    assert all(torch.equal(value, trained[name]) for name, value in heads.state_dict().items())
    parts = contract.labels, contract.temperatures, contract.open_set
    encoders = contract.encoders_fingerprint
    assert model_fingerprint(heads, encoders, *parts) == contract.fingerprint


def test_biases_of_zeros_and_several_outputs_of_head_a_are_read_back(copied: Path) -> None:
    contract = load_contract(copied)
    widths = contract.text_features, contract.image_features
    heads = Heads(*widths, 8, len(contract.labels), outputs_a=3).eval()
    for bias in (heads.fusion.bias, heads.head_a.bias, heads.head_b.bias):
        torch.nn.init.zeros_(bias)
    write(copied, heads, contract, copied)
    found = read_heads(copied, load_contract(copied)).state_dict()
    assert found.keys() == heads.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in heads.state_dict().items())


def test_the_same_heads_give_the_same_model_in_the_next_version(copied: Path) -> None:
    contract = load_contract(copied)
    before = contents(copied)
    new = write(copied, read_heads(copied, contract), contract, copied)
    assert new == replace(contract, version=2) == load_contract(copied)
    after = contents(copied)
    for part in PARTS:
        for precision in ("fp32", "fp16", "int8"):
            file = f"model.{precision}.onnx"
            assert after[f"{part}/2/{file}"] == before[f"{part}/1/{file}"]


def test_other_heads_leave_the_encoders_and_earlier_versions_as_they_are(copied: Path) -> None:
    contract, before = load_contract(copied), contents(copied)
    wanted = replace(
        contract,
        labels=("real", "flux", "sdxl"),
        temperatures=Temperatures(a=0.5, b=2.0),
        thresholds={"0.01": Threshold(0.9, 300, 0.95)},
        open_set=OpenSet(0.25, 0.97, 40),
        fitted_on=FittedOn("mine", 600, 300, "int8"),
    )
    heads = random_heads(copied, labels=3)
    new = write(copied, heads, wanted, copied)
    assert new == replace(wanted, version=2, fingerprint=new.fingerprint) == load_contract(copied)
    assert new.fingerprint != contract.fingerprint
    assert new.encoders_fingerprint == contract.encoders_fingerprint
    after = contents(copied)
    unchanged = before.keys() - {"README.md", "contract.json", "parity.md"}
    for name in unchanged:
        if not name.endswith(".pbtxt"):
            assert after[name] == before[name], name
    for part in ENCODERS:
        assert after[f"{part}/2/model.int8.onnx"] == before[f"{part}/1/model.int8.onnx"]
    assert after["README.md"] == b"version 2"
    # What puts the first version back.
    assert after["fusion_heads/1/contract.json"] == before["contract.json"]
    assert prune_versions(copied, keep=1) == [1]
    assert not list(copied.glob("*/1"))


def test_the_new_version_is_scored_by_the_new_heads_at_their_temperatures(copied: Path) -> None:
    contract = replace(
        load_contract(copied), labels=("real", "flux", "sdxl"), temperatures=Temperatures(0.5, 2.0)
    )
    heads = random_heads(copied, labels=3)
    write(copied, heads, contract, copied)
    scorer = OnnxScorer(copied)
    rng = np.random.default_rng(0)
    text, image = (
        rng.normal(size=(5, width)).astype(np.float32)
        for width in (contract.text_features, contract.image_features)
    )
    session = ort.InferenceSession(copied / "fusion_heads" / "2" / "model.int8.onnx")
    inputs = {"text_features": text, "image_features": image}
    p_ai, p_source = session.run(["p_ai", "p_source"], inputs)
    with torch.inference_mode():
        logits = heads.fuse(torch.from_numpy(text), torch.from_numpy(image))
        expected = torch.sigmoid(logits.a / 0.5)
        share = torch.softmax(logits.b[:, 1:] / 2.0, dim=1)
    np.testing.assert_allclose(p_ai[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(p_source[:, 1:], expected[:, None] * share, rtol=1e-5)
    assert scorer.contract.version == 2


def test_triton_s_configurations_are_those_of_the_new_model(copied: Path) -> None:
    contract = replace(load_contract(copied), labels=("real", "flux", "sdxl"))
    new = write(copied, random_heads(copied, labels=3), contract, copied)
    for name in ("aigid", "aigid_pairs", *PARTS):
        text = (copied / name / "config.pbtxt").read_text()
        config = text_format.Parse(text, triton.ModelConfig())
        assert config.parameters["fingerprint"].string_value == new.fingerprint
        assert (copied / name / "2").is_dir()
        dims = {output.name: list(output.dims) for output in config.output}
        assert dims.get("p_source", [3]) == [3]


def test_the_parity_report_says_whose_heads_it_measured(copied: Path) -> None:
    contract, heads = load_contract(copied), random_heads(copied, labels=6)
    before = contents(copied)
    for _ in range(2):
        write(copied, heads, contract, copied)
    report = (copied / "parity.md").read_text()
    assert report.count("other heads") == 1
    assert contract.fingerprint[:12] in report
    assert (copied / "parity.json").read_bytes() == before["parity.json"]


def test_another_repository_gets_its_first_version(copied: Path, tmp_path: Path) -> None:
    contract, before = load_contract(copied), contents(copied)
    out = tmp_path / "mine"
    new = write(copied, random_heads(copied, labels=6), contract, out)
    assert new.version == 1
    assert contents(copied) == before
    assert OnnxScorer(out).contract == new
    assert {path.name for path in out.iterdir()} == {path.name for path in copied.iterdir()}


def test_engines_of_the_encoders_stay_and_the_heads_lack_one(copied: Path) -> None:
    contract = load_contract(copied)
    for part in PARTS:
        (copied / part / "1" / "model.plan").write_text(part)
    assert not lacks_engine(copied, contract)
    new = write(copied, read_heads(copied, contract), contract, copied)
    assert [(copied / part / "2" / "model.plan").is_file() for part in PARTS] == [True, True, False]
    assert lacks_engine(copied, new)


def test_heads_for_other_labels_than_the_contract_s_are_refused(copied: Path) -> None:
    before = contents(copied)
    with pytest.raises(ContractError, match="p_source"):
        write(copied, random_heads(copied, labels=3), load_contract(copied), copied)
    assert contents(copied) == before


def without_the_graph(path: Path) -> None:
    path.unlink()


def of_another_model(path: Path) -> None:
    repository = path.parents[2]
    save_contract(replace(load_contract(repository), fingerprint="ab12"), repository)


def without_a_weight(path: Path) -> None:
    model = onnx.load(path)
    for item in model.graph.initializer:
        item.name = item.name.replace("heads.head_b.weight", "renamed")
    onnx.save(model, path)


def with_another_bias(path: Path) -> None:
    model = onnx.load(path)
    for item in model.graph.initializer:
        item.name = item.name.replace("heads.head_a.bias", "renamed")
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_the_graph, "no such file"),
        (lambda path: path.write_bytes(b"no graph"), "the weights of the heads cannot be read"),
        (of_another_model, "not the heads of this contract's model, ab12"),
        (without_a_weight, "head_b.weight"),
        (with_another_bias, "not the heads of this contract's model"),
    ],
)
def test_heads_that_cannot_be_read_are_refused(
    damage: Callable[[Path], object], said: str, copied: Path
) -> None:
    path = copied / "fusion_heads" / "1" / "model.int8.onnx"
    damage(path)
    with pytest.raises(ContractError, match=said) as caught:
        read_heads(copied, load_contract(copied))
    assert str(path) in str(caught.value)
