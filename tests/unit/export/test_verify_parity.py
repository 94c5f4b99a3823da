import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import verify_parity
from click.testing import CliRunner

from aigid.errors import CheckpointError
from aigid.export.parity_report import LIMITS, Limits, MacroF1, ParityReport, report_text
from aigid.export.pipeline import BuiltRepository
from aigid.export.sample_rows import RowSource, SampleRow, rows_for
from aigid.export.verify_parity import (
    artifacts_of,
    graph_loaders,
    measure_parity,
    measure_repository,
)
from aigid.scorers import PARTS
from aigid.training.checkpoint import Checkpoint
from aigid.training.labels import LabelChoice

OPEN = Limits(probability=None, equal_decisions=0, macro_f1_loss=None)


def labelled_rows(checkpoint: Checkpoint, path: Path, rows: int) -> Iterator[SampleRow]:
    return RowSource(checkpoint, str(path), LabelChoice()).sample(rows)


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
        checkpoint, graph_loaders(artifacts_of(repository)), labelled_rows(checkpoint, labelled, 40)
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


def turn_head_a(graph: Path, target: Path) -> Path:
    """Write a graph whose head A says the opposite; return its path."""
    model = onnx.load(graph)
    weight = next(item for item in model.graph.initializer if list(item.dims) == [1, 24])
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    # Graphs are hard links: a new file, so that no other repository changes.
    target.unlink(missing_ok=True)
    onnx.save(model, target)
    return target


def test_a_graph_with_other_weights_breaks_the_limits(
    built: BuiltRepository, repository: Path, checkpoint: Checkpoint, manifest: Path, tmp_path: Path
) -> None:
    graphs = artifacts_of(repository)["fp32"]
    heads = turn_head_a(graphs["fusion_heads"], tmp_path / "turned.onnx")
    turned = {"fp32": {**graphs, "fusion_heads": heads}}
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
    assert broken_tasks(report, lost_rows=2) == ["A", "B"]
    assert broken_tasks(report, lost_rows=1) == []


def broken_tasks(report: ParityReport, lost_rows: int) -> list[str]:
    """The tasks whose loss of macro-F1 is refused if these rows are decided wrongly."""
    reference, parity = report.reference_macro_f1, report.artifacts["fp32"]
    assert reference is not None
    assert reference.a is not None
    assert reference.b is not None
    found = MacroF1(
        reference.a - 0.01,
        reference.b - 0.01,
        reference.right_a - lost_rows,
        reference.right_b - lost_rows,
    )
    changed = replace(report, artifacts={"fp32": replace(parity, macro_f1=found)})
    lines = changed.shortcomings({"fp32": replace(OPEN, macro_f1_loss=0.005)})
    return [line.split()[4] for line in lines]


def test_the_command_compares_all_graphs_of_the_repository(
    built: BuiltRepository,
    repository: Path,
    checkpoint_folder: Path,
    labelled: Path,
    tmp_path: Path,
) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(repository, copy)
    heads = copy / "fusion_heads" / "1" / "model.fp16.onnx"
    turn_head_a(heads, heads)
    arguments = [checkpoint_folder, copy, "--manifest", labelled, "--rows", 40, "--out", out]
    result = CliRunner().invoke(verify_parity.main, list(map(str, arguments)))
    assert result.exit_code == 1
    assert "too far from float32 on 40 rows: fp16: " in result.stderr
    values = json.loads((out / "parity.json").read_text())
    assert values["limits"]["fp16"]["probability"] == 2e-2
    assert values["artifacts"]["fp32"]["equal_a"] == 1
    assert (out / "parity.md").read_text() in result.stdout


def test_a_repository_of_another_checkpoint_is_refused(
    built: BuiltRepository,
    repository: Path,
    tiny_checkpoint: Callable[[int], Path],
    manifest: Path,
) -> None:
    other = tiny_checkpoint(16)
    with pytest.raises(
        CheckpointError, match="not built from .*side-16: its model is [0-9a-f]{64}"
    ):
        measure_repository(other, repository, str(manifest), 4)


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
