import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import verify_parity
from click.testing import CliRunner

from aigid.errors import TrainingError
from aigid.export.parity_report import LIMITS, Limits, MacroF1, ParityReport, report_text
from aigid.export.pipeline import BuiltRepository
from aigid.export.sample_rows import rows_for
from aigid.export.verify_parity import artifacts_of, graph_loaders, measure_parity
from aigid.scorers import PARTS
from aigid.training.checkpoint import Checkpoint

OPEN = Limits(probability=None, equal_decisions=0, macro_f1_loss=None)


@pytest.fixture(scope="module")
def labelled(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = pq.read_table(manifest)
    label_b = pa.array([row % 6 for row in range(len(table))], pa.int32())
    label_a = pa.array([int(row % 6 > 0) for row in range(len(table))], pa.int32())
    path = tmp_path_factory.mktemp("labelled") / "rows.parquet"
    pq.write_table(table.append_column("Label_A", label_a).append_column("Label_B", label_b), path)
    return path


@pytest.fixture(scope="module")
def report(
    built: BuiltRepository, repository: Path, checkpoint: Checkpoint, labelled: Path
) -> ParityReport:
    return measure_parity(
        checkpoint, graph_loaders(artifacts_of(repository)), rows_for(checkpoint, str(labelled), 40)
    )


def test_float_artifacts_are_within_their_limits(report: ParityReport) -> None:
    assert report.artifacts.keys() == {"fp32", "fp16", "int8"}
    found = [line for line in report.shortcomings(LIMITS) if not line.startswith("int8")]
    assert found == []
    assert 0 < report.artifacts["fp16"].p_ai.max < 5e-3
    assert (
        report.artifacts["fp32"].p_ai.max
        < report.artifacts["fp16"].p_ai.max
        < report.artifacts["int8"].p_ai.max
    )


def test_a_row_alone_and_in_a_batch_gets_the_same_result(report: ParityReport) -> None:
    assert all(parity.batch < 1e-6 for parity in report.artifacts.values())


def test_macro_f1_is_measured_only_with_labels(
    report: ParityReport,
    built: BuiltRepository,
    repository: Path,
    checkpoint: Checkpoint,
    manifest: Path,
) -> None:
    assert report.reference_macro_f1 is not None
    assert report.artifacts["fp32"].macro_f1 == report.reference_macro_f1
    bare = measure_parity(
        checkpoint, graph_loaders(artifacts_of(repository)), rows_for(checkpoint, str(manifest), 8)
    )
    assert bare.reference_macro_f1 is None
    assert "no labels" in report_text(bare)


def test_contradicting_labels_are_refused(
    checkpoint: Checkpoint, labelled: Path, tmp_path: Path
) -> None:
    table = pq.read_table(labelled)
    wrong = pa.array([1] * len(table), pa.int32())
    pq.write_table(
        table.set_column(table.schema.get_field_index("Label_A"), "Label_A", wrong),
        tmp_path / "wrong.parquet",
    )
    with pytest.raises(TrainingError, match="contradict"):
        list(rows_for(checkpoint, str(tmp_path / "wrong.parquet"), 8))


def test_a_graph_with_other_weights_breaks_the_limits(
    built: BuiltRepository, repository: Path, checkpoint: Checkpoint, manifest: Path, tmp_path: Path
) -> None:
    graphs = artifacts_of(repository)["fp32"]
    model = onnx.load(graphs["fusion_heads"])
    weight = next(item for item in model.graph.initializer if list(item.dims) == [1, 24])
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(model, tmp_path / "turned.onnx")
    turned = {"fp32": {**graphs, "fusion_heads": tmp_path / "turned.onnx"}}
    found = measure_parity(
        checkpoint, graph_loaders(turned), rows_for(checkpoint, str(manifest), 20)
    ).shortcomings(LIMITS)
    assert any("p_ai differs from float32's by up to" in line for line in found)
    assert any("of the decisions of task A" in line for line in found)


def test_each_limit_is_checked(report: ParityReport) -> None:
    parity = report.artifacts["fp32"]

    def beyond(limits: Limits, **changes: object) -> list[str]:
        changed = replace(report, artifacts={"fp32": replace(parity, **changes)})
        return changed.shortcomings({"fp32": limits})

    assert beyond(OPEN) == []
    worse = replace(parity.p_source, max=float("nan"))
    assert "p_source" in beyond(replace(OPEN, probability=1e-4), p_source=worse)[0]
    assert "task A" in beyond(replace(OPEN, equal_decisions=0.99), equal_a=0.95)[0]
    assert "task B" in beyond(replace(OPEN, equal_decisions=0.99), equal_b=0.95)[0]
    assert beyond(replace(OPEN, equal_decisions=0.99), equal_a=39 / 40, equal_b=39 / 40) == []
    assert "the rest of its batch" in beyond(OPEN, batch=1e-3)[0]
    assert report.reference_macro_f1 is not None
    lost = MacroF1(report.reference_macro_f1.a - 0.01, report.reference_macro_f1.b - 0.01)
    assert [
        line.split()[4] for line in beyond(replace(OPEN, macro_f1_loss=0.005), macro_f1=lost)
    ] == ["A", "B"]


def test_the_command_compares_all_graphs_of_the_repository(
    built: BuiltRepository,
    repository: Path,
    checkpoint_folder: Path,
    labelled: Path,
    tmp_path: Path,
) -> None:
    arguments = [
        str(checkpoint_folder),
        str(repository),
        "--manifest",
        str(labelled),
        "--rows",
        "40",
    ]
    result = CliRunner().invoke(verify_parity.main, [*arguments, "--out", str(tmp_path)])
    # The tiny model is untrained, so INT8 breaks its limit.
    assert result.exit_code == 1
    assert "int8" in result.stderr
    values = json.loads((tmp_path / "parity.json").read_text())
    assert values["limits"]["fp16"]["probability"] == 5e-3
    assert values["artifacts"]["fp32"]["equal_a"] == 1
    assert (tmp_path / "parity.md").read_text() in result.stdout


def test_a_build_writes_its_report_into_the_repository(
    built: BuiltRepository, repository: Path
) -> None:
    assert (repository / "parity.md").read_text() == report_text(built.parity)
    assert np.isfinite([built.parity.artifacts[name].p_ai.max for name in LIMITS]).all()
    assert (
        json.loads((repository / "parity.json").read_text())["fingerprint"]
        == built.contract.fingerprint
    )
    assert set(PARTS) <= {path.name for path in repository.iterdir()}
