"""A results folder for tests."""

from pathlib import Path

import pytest

from aigid.results import ResultsFolder, open_results


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    """An empty results folder."""
    (tmp_path / "out" / "detections").mkdir(parents=True)
    return open_results(str(tmp_path / "out"))
