"""The options about labels: the commands that have them, and errors that name them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from support.command_line import command_of

from aigid.cli.main import main

COMMANDS = ("train", "evaluate", "audit", "ablation", "pseudo-label")


def audit(folder: Path, columns: dict[str, list[object]], *words: str) -> Result:
    table = pa.table({"image": [b""] * len(next(iter(columns.values()))), **columns})
    pq.write_table(table, folder / "m.parquet")
    arguments = ["audit", str(folder / "m.parquet"), *words]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_read_labels_have_the_options(name: str) -> None:
    flags = {flag for option in command_of(name).params for flag in option.opts}
    assert {"--label-column", "--generator-column", "--labels"} <= flags


@pytest.mark.parametrize(
    ("columns", "words", "message"),
    [
        (
            {"label": ["cat", "dog"]},
            [],
            "column label: no rule fits the 2 values 'cat', 'dog': a label column says real or "
            "AI-generated (0 and 1, true and false, real and fake), or real and the generator's "
            "name: name the right one with --label-column, or give an empty --label-column where "
            "the manifest has none",
        ),
        (
            {"label": [0, 1], "source": ["a://b", "c://d"]},
            [],
            "column source: no rule fits the 2 values 'a://b', 'c://d': a generator column holds "
            "names, or integers that --labels names: name the right one with --generator-column, "
            "say what the integers are with --labels, or give an empty --generator-column where "
            "the manifest has none",
        ),
        (
            {"Label_A": [0, 1], "generator": ["flux", "flux"]},
            [],
            "row 0: Label_A is 0 and generator is flux: one says real, the other AI-generated: "
            "correct the row, or name the right columns with --label-column and --generator-column",
        ),
        ({"id": [0, 1]}, [], "name one with --label-column or --generator-column"),
        (
            {"label": [0, 1]},
            ["--label-column", "nothing"],
            "no column named nothing; the columns are",
        ),
        (
            {"label": [0, 1]},
            ["--labels", "flux,real"],
            "--labels: labels must be at least two different names, 'real' first: got",
        ),
        (
            {"label": [0, 1]},
            ["--label-column", "", "--generator-column", ""],
            "--label-column and --generator-column are both empty: name one",
        ),
    ],
)
def test_errors_about_labels_name_the_options(
    tmp_path: Path, columns: dict[str, list[object]], words: list[str], message: str
) -> None:
    done = audit(tmp_path, columns, *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "`" not in done.stderr
