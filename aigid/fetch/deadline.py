"""A deadline for calls that have none of their own."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from threading import enumerate as all_threads
from typing import TypeVar

Result = TypeVar("Result")
_NAME = "within-deadline"


def within_deadline(call: Callable[[], Result], deadline_s: float) -> Result:
    """Return what a call returns, and raise what it raises; TimeoutError after the deadline.

    The clients of object stores give up a silent server, but not one that drips. Nothing can stop
    such a call: its thread is left behind, and ends when the call does. PyArrow waits for it at the
    end of the process; `has_left_calls` tells that there is one.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
            outcome.set_exception(error)

    Thread(target=run, daemon=True, name=_NAME).start()
    try:
        return outcome.result(deadline_s)
    except TimeoutError as error:
        if outcome.done():
            raise
        raise TimeoutError(f"not complete after {deadline_s:g} s") from error


def has_left_calls() -> bool:
    """Return whether a call still runs, such as one whose deadline has passed."""
    return any(thread.name == _NAME for thread in all_threads())
