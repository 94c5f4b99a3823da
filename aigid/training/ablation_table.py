"""The table of an ablation: means over seeds, confidence intervals, and differences per seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

_DIFFERENCES = "differences from the base recipe with the same seeds"

Figures = Mapping[str, float]
"""The figures of one run, by column."""


@dataclass(frozen=True)
class SeedInterval:
    """A mean over seeds, and the half width of its 95 % confidence interval."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "SeedInterval":
        """Return the interval of two or more values, by Student's t."""
        quantile = float(student.ppf(0.975, len(values) - 1))
        return cls(fmean(values), quantile * stdev(values) / len(values) ** 0.5)

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half_width:.3f}"

    @property
    def as_difference(self) -> str:
        """The same text, with the mean's sign."""
        return f"{self.mean:+.3f} ± {self.half_width:.3f}"

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes 0, so that the seeds do not explain a difference."""
        return abs(self.mean) > self.half_width


Intervals = Mapping[str, Mapping[str, SeedInterval]]
"""Intervals by variant and column."""


@dataclass(frozen=True)
class AblationTable:
    """The figures of every variant, and their differences from the base recipe, seed by seed.

    `differences` is empty where the recipe itself was not run.
    """

    figures: Intervals
    differences: Intervals

    @classmethod
    def of(cls, runs: Mapping[str, Sequence[Figures]], recipe: str) -> "AblationTable":
        """Return the table of `runs`: the figures of each variant's runs, in the order of seeds.

        `recipe` is the name of the variant that the others are compared with.
        """
        if recipe not in runs:
            return cls(_intervals(runs), {})
        differences = {
            name: list(map(_subtract, own, runs[recipe]))
            for name, own in runs.items()
            if name != recipe
        }
        return cls(_intervals(runs), _intervals(differences))

    def to_markdown(self) -> str:
        """Return both tables as Markdown; differences whose interval excludes 0 are bold."""
        figures = _markdown(self.figures, str)
        if not self.differences:
            return figures
        return f"{figures}\n{_DIFFERENCES.capitalize()}:\n\n{_markdown(self.differences, _in_bold)}"


def print_table(table: AblationTable) -> None:
    """Print both tables to stdout; differences whose interval excludes 0 have a star."""
    _print("means and 95 % confidence intervals over the seeds", table.figures, str)
    if table.differences:
        _print(f"{_DIFFERENCES} (*: the interval excludes 0)", table.differences, _starred)


def _subtract(run: Figures, other: Figures) -> Figures:
    return {column: value - other[column] for column, value in run.items()}


def _intervals(runs: Mapping[str, Sequence[Figures]]) -> Intervals:
    return {
        name: {column: SeedInterval.of([run[column] for run in own]) for column in own[0]}
        for name, own in runs.items()
    }


def _columns(intervals: Intervals) -> list[str]:
    return list(next(iter(intervals.values())))


def _markdown(intervals: Intervals, shown: Callable[[SeedInterval], str]) -> str:
    columns = _columns(intervals)
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines += [
        f"| {name} | {' | '.join(shown(row[column]) for column in columns)} |"
        for name, row in intervals.items()
    ]
    return "\n".join(lines) + "\n"


def _in_bold(difference: SeedInterval) -> str:
    text = difference.as_difference
    return f"**{text}**" if difference.excludes_zero else text


def _print(title: str, intervals: Intervals, shown: Callable[[SeedInterval], str]) -> None:
    columns = _columns(intervals)
    printed = Table(title=title, title_justify="left")
    printed.add_column("variant")
    for column in columns:
        printed.add_column(column, justify="right")
    for name, row in intervals.items():
        printed.add_row(name, *(shown(row[column]) for column in columns))
    Console().print(printed)


def _starred(difference: SeedInterval) -> str:
    return f"{difference.as_difference} {'*' if difference.excludes_zero else ' '}"
