"""What is told of a training run or an evaluation while it goes."""

from typing import Protocol


class TrainingProgress(Protocol):
    """Is told of rows."""

    def start(self, total_rows: int, done_rows: int) -> None:
        """A pass over rows begins."""
        ...

    def advance(self, rows: int, errors: int) -> None:
        """More rows are done."""
        ...
