"""An audit as a person reads it."""

from rich.console import Console
from rich.table import Table

from aigid.training.audit import Audit

_TASKS = {"a": "real or AI-generated", "b": "which source"}


def print_audit(audit: Audit, name: str) -> None:
    """Print how well file facts tell the classes apart, to stdout, and what to do about it."""
    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(title=f"guessed from file facts alone, {audit.rows:,} rows", title_justify="left")
    table.add_column("facts")
    for task in audit.guesses:
        table.add_column(f"{task.upper()}: {_TASKS[task]}", justify="right")
    for facts in next(iter(audit.guesses.values())):
        found = (guesses[facts] for guesses in audit.guesses.values())
        table.add_row(
            facts, *(f"{guess.accuracy:.3f}{' !' if guess.is_biased else '  '}" for guess in found)
        )
    table.add_row(
        "by chance", *(f"{guesses['all'].chance:.3f}  " for guesses in audit.guesses.values())
    )
    console.print(table)
    if audit.unreadable:
        console.print(
            f"{audit.unreadable:,} images could not be read, and are left out", soft_wrap=True
        )
    telling = {
        task: [facts for facts in names if facts != "all"] or ["all"]
        for task, names in audit.biased.items()
        if names
    }
    for task, names in telling.items():
        console.print(f"{name}: {', '.join(names)} give away {_TASKS[task]} (!)", soft_wrap=True)
    if telling:
        console.print(
            "a detector will learn that: train with --unify, and evaluate with it and without",
            soft_wrap=True,
        )
    else:
        console.print(f"{name}: file facts do not give the classes away", soft_wrap=True)
