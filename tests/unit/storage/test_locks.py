"""Locks on a local disk, and file systems that have none.

No file system here lacks locks, so `flock` is made to fail as it does on those.
"""

import errno
import fcntl
import os
import re
from pathlib import Path

import pytest

from aigid.export.repository_lock import staged_repository
from aigid.results import open_results
from aigid.storage import lock_open_file


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_scan_and_a_build_go_on_with_a_warning_where_there_are_no_locks(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail_with(number, monkeypatch)
    out = tmp_path / "out"
    with open_results(str(out)).open() as token:
        assert open_results(str(out)).is_held_with(token)
    with staged_repository(tmp_path / "model") as staging:
        (staging / "contract.json").write_text("{}")
    assert (tmp_path / "model" / "contract.json").is_file()
    assert [record.getMessage() for record in caplog.records] == [
        f"{place}: its file system has no locks: make sure that nothing else writes there now"
        for place in (out, tmp_path)
    ]


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EIO, errno.EINTR])
def test_other_failures_are_errors(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(number, monkeypatch)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        lock_open_file(0, str(tmp_path))
