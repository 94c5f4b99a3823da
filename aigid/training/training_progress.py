"""The protocol by which a training run or an evaluation reports its progress."""

from typing import Protocol


class TrainingProgress(Protocol):
    """Receives the numbers of rows that are done."""

    def start(self, total_rows: int, done_rows: int) -> None:
        """Begin a pass over `total_rows` rows, `done_rows` of which are done already."""
        ...

    def advance(self, rows: int, errors: int) -> None:
        """Count `rows` more rows as done, `errors` of them without a readable image."""
        ...
