"""Cores: the host's, limited by affinity and by a container's CPU limit."""

from pathlib import Path

import pytest

from aigid.cores import available_cores


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("1600000 100000", 8),
    ],
)
def test_a_limit_of_cgroup_version_2(
    eight_cores: None, tmp_path: Path, limit: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_a_limit_of_cgroup_version_1(
    eight_cores: None, tmp_path: Path, quota: str, cores: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize("text", ["", "nonsense"])
def test_without_a_readable_limit_affinity_counts(
    eight_cores: None, tmp_path: Path, text: str
) -> None:
    assert available_cores(tmp_path) == 8
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path) == 8
