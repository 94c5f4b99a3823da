"""The exceptions and their documented exit statuses."""

import re
from collections.abc import Iterator

from support.manifests import REPOSITORY

from aigid import errors
from aigid.cli.errors import EXIT_INTERRUPTED, EXIT_TOO_MANY_ERRORS
from aigid.errors import AigidError
from aigid.records import RowFailure

PAGE = (REPOSITORY.parent / "docs/scan.md").read_text(encoding="utf-8")
USAGE = {
    "UsageError",
    "ManifestError",
    "ContractError",
    "CheckpointError",
    "ResumeMismatchError",
    "MissingExtraError",
}


def all_errors(base: type[AigidError] = AigidError) -> Iterator[type[AigidError]]:
    yield base
    for error in base.__subclasses__():
        yield from all_errors(error)


def test_usage_errors_have_exit_status_2_and_all_others_1() -> None:
    statuses = {
        error.__name__: error.exit_status
        for error in all_errors()
        if error.__module__ == errors.__name__
    }
    assert {name for name, status in statuses.items() if status == 2} == USAGE
    assert {status for name, status in statuses.items() if name not in USAGE} == {1}


def test_the_page_of_the_scan_lists_the_exit_statuses_that_there_are() -> None:
    table = PAGE[PAGE.index("### Exit status") : PAGE.index("## Stop and go on")]
    documented = [int(status) for status in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert documented == [
        0,
        *sorted({error.exit_status for error in all_errors()}),
        EXIT_TOO_MANY_ERRORS,
        EXIT_INTERRUPTED,
    ]


def test_a_row_failure_is_no_error_that_could_end_a_scan() -> None:
    assert not issubclass(RowFailure, AigidError)
