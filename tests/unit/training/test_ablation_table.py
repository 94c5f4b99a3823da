import pytest

from aigid.training.ablation_table import AblationTable, SeedInterval, print_table


@pytest.fixture
def table() -> AblationTable:
    # The seeds differ more than the variants do, but "clearly worse" is worse with every seed.
    runs = {
        "recipe": [{"A": 0.5, "B": 0.7}, {"A": 0.7, "B": 0.5}, {"A": 0.9, "B": 0.6}],
        "clearly worse": [{"A": 0.39, "B": 0.7}, {"A": 0.6, "B": 0.4}, {"A": 0.81, "B": 0.7}],
    }
    return AblationTable.of(runs, "recipe")


def test_an_interval_uses_student_s_t() -> None:
    found = SeedInterval.of([1.0, 2.0, 3.0])
    assert (found.mean, found.half_width) == (2.0, pytest.approx(4.302653 / 3**0.5))
    assert str(SeedInterval(0.5, 0.01234)) == "0.500 ± 0.012"


def test_differences_are_taken_seed_by_seed(table: AblationTable) -> None:
    assert str(table.figures["recipe"]["A"]) == "0.700 ± 0.497"
    difference = table.differences["clearly worse"]
    assert difference["A"].as_difference == "-0.100 ± 0.025"
    assert difference["A"].excludes_zero
    assert difference["B"].as_difference == "+0.000 ± 0.248"
    assert not difference["B"].excludes_zero


def test_markdown_has_significant_differences_in_bold(table: AblationTable) -> None:
    assert table.to_markdown() == (
        "| | A | B |\n| --- | --- | --- |\n"
        "| recipe | 0.700 ± 0.497 | 0.600 ± 0.248 |\n"
        "| clearly worse | 0.600 ± 0.522 | 0.600 ± 0.430 |\n"
        "\nDifferences from the base recipe with the same seeds:\n\n"
        "| | A | B |\n| --- | --- | --- |\n"
        "| clearly worse | **-0.100 ± 0.025** | +0.000 ± 0.248 |\n"
    )


def test_printed_significant_differences_have_a_star(
    table: AblationTable, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(table)
    shown = capsys.readouterr().out
    assert "0.700 ± 0.497" in shown
    assert "-0.100 ± 0.025 *" in shown
    assert "+0.000 ± 0.248 *" not in shown


def test_without_the_recipe_there_are_no_differences() -> None:
    table = AblationTable.of({"other": [{"A": 0.5}, {"A": 0.7}]}, "recipe")
    assert not table.differences
    assert "ifferences" not in table.to_markdown()
