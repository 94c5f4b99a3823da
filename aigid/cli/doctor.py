"""`aigid doctor`: check that this host and this installation can run scans."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aigid.cli.command import Command, options_under
from aigid.cli.errors import with_flags
from aigid.cli.option_types import FOLDER
from aigid.cli.stdout import print_result, printing

if TYPE_CHECKING:
    from aigid.doctor import Check

_model = options_under("Model")
_output = options_under("Output")


@click.command("doctor", cls=Command)
@_model("--model", type=FOLDER, help="Model repository to load.  [default: the demo model]")
@_output("--json", is_flag=True, help="Print the checks as JSON.")
def command(model: Path | None, json: bool) -> None:
    """Check that this host and this installation can run scans.

    It shows versions, extras, CPU, memory, GPUs, the model, a Triton server, what the environment
    says about the network, and folders. Each line is ok, a hint, or a problem with its remedy. No
    network is used, and no secret is shown.

    \b
    Example:
      aigid doctor
      aigid doctor --model model/ --json

    Exit status: 0 scans can run; 1 a problem stops them.
    """
    from aigid.doctor import State, diagnose

    checks = list(diagnose(model))
    problems = sum(check.state is State.PROBLEM for check in checks)
    with printing("the checks"):
        _print_checks(checks, as_json=json)
    if problems:
        sys.exit(1)


def _print_checks(checks: "Sequence[Check]", *, as_json: bool) -> None:
    counts = Counter(check.state.value for check in checks)
    if as_json:
        listed = [{**asdict(check), "state": check.state.value} for check in checks]
        print_result(json.dumps({"problems": counts["problem"], "checks": listed}))
        return
    from aigid.cli.fact_lines import print_facts
    from aigid.progress_bar import counted

    print_facts(_facts(checks))
    result = f"{counted(counts['problem'], 'problem')}, {counted(counts['hint'], 'hint')}"
    verdict = "a problem stops scans" if counts["problem"] else "scans can run"
    print_result(f"{verdict}: {result}")


def _facts(checks: "Sequence[Check]") -> Iterator[tuple[str, str]]:
    width = max(len(check.state.value) for check in checks)
    for check in checks:
        yield f"{check.state.value:{width}}  {check.name}", with_flags(check.text)
        if check.remedy:
            yield "", with_flags(check.remedy)
