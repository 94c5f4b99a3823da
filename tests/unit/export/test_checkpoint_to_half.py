from pathlib import Path

import checkpoint_to_half
import pytest
import torch
from click.testing import CliRunner

from aigid.training.checkpoint import WEIGHTS_FILE, Checkpoint, load_checkpoint


@pytest.fixture
def half(checkpoint_folder: Path, tmp_path: Path) -> Path:
    ended = CliRunner().invoke(
        checkpoint_to_half.main, [str(checkpoint_folder), str(tmp_path / "half")]
    )
    assert ended.exit_code == 0, ended.output
    return tmp_path / "half"


def test_a_half_checkpoint_has_half_the_size_and_nearly_the_same_weights(
    half: Path, checkpoint_folder: Path, checkpoint: Checkpoint
) -> None:
    assert (half / WEIGHTS_FILE).stat().st_size < 0.6 * (
        checkpoint_folder / WEIGHTS_FILE
    ).stat().st_size
    loaded = load_checkpoint(half)
    assert loaded.info == checkpoint.info
    for name, value in loaded.model.state_dict().items():
        torch.testing.assert_close(value, checkpoint.model.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_a_half_checkpoint_is_another_model(half: Path, checkpoint: Checkpoint) -> None:
    assert load_checkpoint(half).fingerprint != checkpoint.fingerprint


def test_a_folder_without_a_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    ended = CliRunner().invoke(checkpoint_to_half.main, [str(tmp_path), str(tmp_path / "half")])
    assert ended.exit_code == 2
    assert "not a whole checkpoint" in ended.output
