"""An audit as tables and sentences on the terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from aigid.records import escaped
from aigid.training.audit import FOLDS, Audit

_TASKS = {"a": "real or AI-generated", "b": "which generator"}


def print_audit(audit: Audit, name: str) -> None:
    """Print how well file facts reveal the classes of the manifest `name`, and what to do about it.

    Prints to stdout.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(_accuracy_table(audit))
    for line in _conclusions(audit, name):
        console.print(escaped(line), soft_wrap=True)


def _accuracy_table(audit: Audit) -> Table:
    title = f"accuracy of guesses from file facts alone, {audit.rows:,} rows"
    table = Table(title=title, title_justify="left")
    table.add_column("facts")
    for task in audit.guesses:
        table.add_column(f"{task.upper()}: {_TASKS[task]}", justify="right")
    for facts in next(iter(audit.guesses.values())):
        found = (guesses[facts] for guesses in audit.guesses.values())
        table.add_row(
            facts, *(f"{guess.accuracy:.3f}{' !' if guess.is_biased else '  '}" for guess in found)
        )
    chances = (guesses["all"].chance for guesses in audit.guesses.values())
    table.add_row("by chance", *(f"{chance:.3f}  " for chance in chances))
    return table


def _left_out(audit: Audit) -> Iterator[str]:
    if audit.unreadable:
        yield f"{audit.unreadable:,} images could not be read and are left out"
    if audit.unlabelled:
        yield f"{audit.unlabelled:,} rows have no label and are left out"
    if audit.left_out_of_b:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in audit.left_out_of_b.items())
        rows = sum(audit.left_out_of_b.values())
        yield f"{rows:,} rows are left out of B ({reasons}); a class needs {FOLDS} rows"
    if "b" not in audit.guesses:
        yield "B is left out: it needs at least two generators with enough rows"


def _conclusions(audit: Audit, name: str) -> list[str]:
    lines = list(_left_out(audit))
    biased = {task: groups for task, groups in audit.biased.items() if groups}
    for task, groups in biased.items():
        facts = [group for group in groups if group != "all"] or ["all"]
        lines.append(f"{name}: {', '.join(facts)} reveal the class: {_TASKS[task]} (!)")
    if biased:
        lines.append(
            "a detector learns these differences: train with the unify option, and evaluate with "
            "and without it"
        )
    else:
        lines.append(f"{name}: file facts do not reveal the class")
    return lines
