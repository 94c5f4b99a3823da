"""The table of an ablation: means over seeds with confidence intervals, and differences seed by seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

_DIFFERENCES = "differences from the recipe with the same seeds"

Figures = Mapping[str, float]
"""What was measured of one run."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, and the half width of its 95 % confidence interval."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Of two values or more, by Student's t."""
        return cls(
            fmean(values),
            float(student.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5,
        )

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half_width:.3f}"

    @property
    def as_difference(self) -> str:
        """With its sign."""
        return f"{self.mean:+.3f} ± {self.half_width:.3f}"

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is more than the seeds explain."""
        return abs(self.mean) > self.half_width


Intervals = Mapping[str, Mapping[str, Interval]]
"""By variant, by figure."""


@dataclass(frozen=True)
class AblationTable:
    """Every variant's figures, and their differences from the recipe's with the same seeds (none where it was not run)."""

    figures: Intervals
    differences: Intervals

    @classmethod
    def of(cls, runs: Mapping[str, Sequence[Figures]], recipe: str) -> "AblationTable":
        """From the figures of each variant's runs, of which one is the recipe, in the order of their seeds."""
        if recipe not in runs:
            return cls(_intervals(runs), {})
        less = {
            name: list(map(_less, own, runs[recipe]))
            for name, own in runs.items()
            if name != recipe
        }
        return cls(_intervals(runs), _intervals(less))

    def to_markdown(self) -> str:
        """Both tables, differences whose interval excludes 0 in bold."""
        figures = _markdown(self.figures, str)
        if not self.differences:
            return figures
        return f"{figures}\n{_DIFFERENCES.capitalize()}:\n\n{_markdown(self.differences, _in_bold)}"


def _less(run: Figures, other: Figures) -> Figures:
    return {column: value - other[column] for column, value in run.items()}


def _intervals(runs: Mapping[str, Sequence[Figures]]) -> Intervals:
    return {
        name: {column: Interval.of([run[column] for run in own]) for column in own[0]}
        for name, own in runs.items()
    }


def _markdown(intervals: Intervals, shown: Callable[[Interval], str]) -> str:
    columns = list(next(iter(intervals.values())))
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines += [
        f"| {name} | {' | '.join(shown(row[column]) for column in columns)} |"
        for name, row in intervals.items()
    ]
    return "\n".join(lines) + "\n"


def _in_bold(difference: Interval) -> str:
    return (
        f"**{difference.as_difference}**" if difference.excludes_zero else difference.as_difference
    )


def print_table(table: AblationTable) -> None:
    """Print both tables to stdout, differences whose interval excludes 0 with a star."""
    _print("means and 95 % confidence intervals over the seeds", table.figures, str)
    if table.differences:
        _print(f"{_DIFFERENCES} (*: the interval excludes 0)", table.differences, _starred)


def _print(title: str, intervals: Intervals, shown: Callable[[Interval], str]) -> None:
    columns = list(next(iter(intervals.values())))
    printed = Table(title=title, title_justify="left")
    printed.add_column("variant")
    for column in columns:
        printed.add_column(column, justify="right")
    for name, row in intervals.items():
        printed.add_row(name, *(shown(row[column]) for column in columns))
    Console().print(printed)


def _starred(difference: Interval) -> str:
    return f"{difference.as_difference} {'*' if difference.excludes_zero else ' '}"
