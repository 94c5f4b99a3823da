"""An evaluation as tables on the terminal."""

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from aigid.contract import rows_needed
from aigid.records import escaped
from aigid.training.evaluation import CONFUSION_FILE, Evaluation
from aigid.training.intervals import Interval, Proportion
from aigid.training.leave_one_out import LeftOut
from aigid.training.metrics import Metrics

_MOST = 10
"""Mistakes that are listed."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the metrics beside the constant answer's, and what was left out, to stdout.

    Those after image changes come last.
    """
    console = _console()
    console.print(_metrics_table(evaluation))
    for line in _remarks(evaluation):
        console.print(escaped(line), soft_wrap=True)
    if evaluation.points:
        console.print(_thresholds_table(evaluation))
    matrix = _confusion_table(evaluation.metrics)
    if _width(console, matrix) <= console.width:
        console.print("true class (rows) by predicted class (columns):")
        console.print(matrix)
    else:
        console.print(_mistakes_table(evaluation.metrics))
    if evaluation.after:
        console.print(_robustness_table(evaluation))


def _robustness_table(evaluation: Evaluation) -> Table:
    """Return the metrics after each image change, below those of the unchanged images."""
    table = _table("metrics after image changes", "change")
    for column in ("A macro_f1", "A auroc", "A tpr_at_fpr_0.01", "B macro_f1"):
        table.add_column(column, justify="right")
    for name, found in {"none": evaluation, **evaluation.after}.items():
        a, b = found.metrics.a, found.metrics.b
        values = (a.macro_f1, a.auroc, a.tpr_at_fpr[0.01], b.macro_f1)
        table.add_row(name, *map(_shown, values))
    return table


def print_leave_one_out(left_out: Sequence[LeftOut], train: str, encoders: str) -> None:
    """Print what heads that were trained on `train` without each generator say of it.

    `encoders` says whether the encoders saw the generators.
    """
    table = _table(
        f"heads trained on {train} without one generator, and its rows",
        "left out",
        *("rows", "called AI", "named wrongly", "open-set auroc"),
        *("macro_f1 of the others", "with other"),
    )
    for found in left_out:
        table.add_row(
            found.generator,
            f"{found.called_ai.rows:,}",
            _shown(found.called_ai.value),
            _shown(found.named.value),
            _shown(found.auroc),
            _shown(found.macro_f1),
            _shown(found.macro_f1_with_other),
        )
    called_ai, named = (
        sum(proportion.count for proportion in column)
        for column in zip(*((found.called_ai, found.named) for found in left_out), strict=True)
    )
    console = _console()
    console.print(table)
    for line in (
        f"without the source other, the {called_ai:,} rows that are called AI are all named "
        f"wrongly; with it, {named:,} of them",
        *(f"{found.generator}: {found.refused}" for found in left_out if found.refused),
        encoders,
    ):
        console.print(escaped(line), soft_wrap=True)


def _console() -> Console:
    # Names may have brackets, which are no markup here.
    return Console(markup=False, emoji=False, highlight=False)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=escaped(title), title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _metrics_table(evaluation: Evaluation) -> Table:
    metrics, calibration = evaluation.metrics, evaluation.calibration
    title = (
        f"{evaluation.model.name} ({evaluation.model.graphs}) on {evaluation.data}: "
        f"{metrics.a.real_rows:,} real and {metrics.a.ai_rows:,} AI-generated rows"
    )
    table = _table(title, "metric", "model", "95 % interval", "constant answer")
    constant = metrics.constant.a.to_json()
    for name, value in _task_a(metrics):
        interval = _interval_a(metrics, name)
        table.add_row(f"A {name}", _shown(value), interval, _shown(constant.get(name)))
    table.add_row("A calibration error", _shown(calibration.a.after.error), "-", "-")
    for row in (*_task_b_rows(evaluation), *_open_set_rows(evaluation)):
        table.add_row(*row)
    return table


def _task_b_rows(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of task B: none for a model with one class of AI-generated images."""
    b, constant_b = evaluation.metrics.b, evaluation.metrics.constant.b
    if len(b.f1) == 2:
        return
    for name in ("macro_f1", "accuracy"):
        interval = _shown_interval(b.intervals.get(name))
        values = (getattr(b, name), getattr(constant_b, name))
        yield f"B {name}", _shown(values[0]), interval, _shown(values[1])
    for name, value in b.f1.items():
        yield f"B f1 {name}", _shown(value), "-", _shown(constant_b.f1.get(name))
    yield "B calibration error", _shown(evaluation.calibration.b.after.error), "-", "-"


def _task_a(metrics: Metrics) -> Iterator[tuple[str, float | None]]:
    values = metrics.a.to_json()
    for name in ("real_rows", "ai_rows", "intervals"):
        del values[name]
    yield from values.items()


def _interval_a(metrics: Metrics, name: str) -> str:
    """Return the interval of a metric of task A, or how many real rows it would need."""
    for rate in metrics.a.tpr_at_fpr:
        if name == f"tpr_at_fpr_{rate:g}" and metrics.a.real_rows < rows_needed(rate):
            return f"needs {rows_needed(rate):,} real rows"
    return _shown_interval(metrics.a.intervals.get(name))


def _open_set_rows(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str]]:
    found = evaluation.metrics.open_set
    if found is None or not (evaluation.model.open_set or found.other_as_other.rows):
        return
    yield "open_set auroc", _shown(found.auroc), _shown_interval(found.auroc_interval), "-"
    shares = {
        "known_as_other": found.known_as_other,
        "other_as_other": found.other_as_other,
        "other_as_known": found.other_as_known,
    }
    for name, share in shares.items():
        yield f"open_set {name}", _shown(share.value), _shown_interval(share.interval), "-"


def _remarks(evaluation: Evaluation) -> Iterator[str]:
    yield from evaluation.row_labels.describe(evaluation.undecodable)
    b = evaluation.metrics.b
    if len(b.f1) == 2:
        yield "B (which generator) has the two classes of A: its metrics are those of A"
    elif b.macro_f1 is None:
        yield "B (which generator) is not measured: that needs rows of two or more of its classes"
    elif b.left_out:
        yield f"B (which generator) is measured on {b.rows:,} rows"


def _thresholds_table(evaluation: Evaluation) -> Table:
    fitted = evaluation.model.fitted_on
    origin = f"fitted on {fitted.data} ({fitted.graphs})" if fitted else "stored in the model"
    table = _table(
        f"the thresholds {origin}, measured on {evaluation.data}",
        "for FPR",
        *("p_ai", "measured FPR (95 % interval)", "TPR (95 % interval)"),
    )
    for point in evaluation.points:
        table.add_row(
            f"{point.max_fpr:g}{' !' if point.is_exceeded else ''}",
            f"{point.threshold.p_ai:.4f}",
            _with_interval(point.fpr),
            _with_interval(point.tpr),
        )
    if any(point.is_exceeded for point in evaluation.points):
        table.caption = "!: above the rate that the threshold is for, and more than chance explains"
        table.caption_justify = "left"
    return table


def _confusion_table(metrics: Metrics) -> Table:
    names = tuple(metrics.b.f1)
    table = _table("", "", *names)
    for name, counts in zip(names, metrics.b.confusion, strict=True):
        table.add_row(name, *map(str, counts))
    return table


def _mistakes_table(metrics: Metrics) -> Table:
    """Return the most frequent mistakes in task B, for a terminal that the matrix does not fit."""
    names, confusion = tuple(metrics.b.f1), metrics.b.confusion
    mistakes = [
        (count, true, predicted)
        for true, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    table = _table(
        f"the most frequent mistakes in B (all of them: --out, {CONFUSION_FILE})",
        "true class",
    )
    table.add_column("predicted class")
    for column in ("rows", "share of the true class"):
        table.add_column(column, justify="right")
    for count, true, predicted in sorted(mistakes, key=lambda item: (-item[0], *item[1:]))[:_MOST]:
        share = count / sum(confusion[true])
        table.add_row(names[true], names[predicted], str(count), f"{share:.1%}")
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _with_interval(share: Proportion) -> str:
    found = _shown(share.value)
    return f"{found} ({_shown_interval(share.interval)})" if share.rows else found


def _width(console: Console, table: Table) -> int:
    """Return how many columns of the terminal a table needs."""
    return Measurement.get(console, console.options.update_width(sys.maxsize), table).maximum


def _shown_interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"
