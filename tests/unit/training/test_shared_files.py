"""Labelled manifests with files in common: refused, or warned of where they are to measure on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import invoke
from support.manifests import REPOSITORY, manifest_table

from aigid.errors import ManifestError
from aigid.manifest import open_parquet
from aigid.training.shared_files import refuse_shared, warn_of_shared

Write = Callable[..., Path]


@pytest.mark.parametrize(
    "words",
    [
        ["scan", "{paths}", "--out", "out"],
        ["pseudo-label", "{paths}", "--out", "out", "--pseudo", "pseudo"],
        ["audit", "{paths}"],
        ["evaluate", "{paths}"],
        ["adapt", REPOSITORY, "{paths}", "--out", "out"],
        ["calibrate", "model", "{paths}"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("other", ["data/train.parquet", "link.parquet", "data"])
def test_every_command_refuses_a_file_that_is_given_twice(
    words: list[object], other: str, write_manifest: Write, here: Path
) -> None:
    write_manifest(24, "data/train.parquet")
    Path("link.parquet").symlink_to("data/train.parquet")
    if words[0] == "calibrate":
        shutil.copytree(REPOSITORY, "model")
    at = words.index("{paths}")
    result = invoke(*words[:at], "data/train.parquet", other, *words[at + 1 :])
    assert result.exit_code != 0
    name = "link.parquet" if other == "link.parquet" else "data/train.parquet"
    assert f"aigid: {name}: given twice, " in result.stderr
    assert not Path("out", "scan.json").exists()


def test_manifests_that_have_a_file_in_common_are_refused(write_manifest: Write) -> None:
    first, second = write_manifest(8, "a.parquet"), write_manifest(8, "b.parquet")
    manifests = [open_parquet([str(path)]) for path in (first, second)]
    refuse_shared(manifests)
    refuse_shared([manifests[0]])
    link = first.with_name("link.parquet")
    link.symlink_to(first)
    with pytest.raises(ManifestError, match=r"link\.parquet: given twice, before as .*a\.parquet"):
        refuse_shared([*manifests, open_parquet([str(link)])])


def test_validation_with_training_files_or_their_copies_is_warned_of(write_manifest: Write) -> None:
    train = write_manifest(8, "train/a.parquet")
    other = write_manifest(manifest_table(9, seed=70), "validation/b.parquet")
    learnt = open_parquet([str(train)]).files
    assert warn_of_shared("validation", open_parquet([str(other)]).files, learnt) is None
    for make in (shutil.copy, lambda old, new: Path(new).symlink_to(old)):
        same = other.with_name("a.parquet")
        make(train, same)
        warning = warn_of_shared("validation", open_parquet([str(other.parent)]).files, learnt)
        assert warning is not None
        assert warning.startswith(
            f"validation: 1 of its 2 files are training data as well, such as {same}"
        )
        same.unlink()
