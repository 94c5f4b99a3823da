"""`aigid plan`: what a scan would find, take and cost."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under, with_options
from aigid.cli.errors import print_message, with_flags
from aigid.cli.option_types import NON_NEGATIVE_NUMBER, POSITIVE_INT
from aigid.cli.scan_config import plan_config
from aigid.cli.scan_options import PLAN_OPTIONS
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import is_quiet

if TYPE_CHECKING:
    from aigid.planning import Estimate, SampleFigures, ScanPlan

_plan = options_under("Plan")
_output = options_under("Output")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_MORE = 10


@click.command("plan", cls=Command)
@lambda function: with_options(function, PLAN_OPTIONS)
@_plan(
    "--sample",
    type=POSITIVE_INT,
    default=256,
    show_default=True,
    help="Rows to fetch, decode and score, spread over the manifest.",
)
@_plan(
    "--price-per-hour",
    type=NON_NEGATIVE_NUMBER,
    help="Price of this host for an hour, in any currency: adds the cost.",
)
@_output("--json", is_flag=True, help="Print the plan as JSON.")
def command(
    paths: tuple[str, ...],
    sample: int,
    price_per_hour: float | None,
    json: bool,
    **options: Any,
) -> None:
    """Tell what a scan would find, take and cost, from a sample; write nothing.

    The options are those of `aigid scan`. Time and cost are estimates for this host, from rows that
    are fetched, decoded and scored as a scan does it.

    \b
    Example:
      aigid plan photos/
      aigid plan s3://bucket/manifest/ --model model/ --sample 2000 --price-per-hour 1.20

    Exit status: 0 the scan can begin; 1 or 2 it could not, or would stop at one of these rows.
    """
    from aigid.planning import plan_scan

    context = click.get_current_context()

    def tell(line: str) -> None:
        if not is_quiet():
            print_message(with_flags(line, context))

    config = plan_config(paths, options)
    plan = plan_scan(config, sample, price_per_hour, tell)
    with printing("the plan"):
        _print_plan(plan, as_json=json)
    if plan.refusal is not None:
        print_message(with_flags(f"the scan would stop: {plan.refusal}", context))
        sys.exit(1)


def _print_plan(plan: "ScanPlan", *, as_json: bool) -> None:
    if as_json:
        print_result(json.dumps(plan.to_json()))
        return
    from aigid.cli.fact_lines import print_facts

    print_facts(_facts(plan))


def _facts(plan: "ScanPlan") -> Iterator[tuple[str, str]]:
    from aigid.progress_bar import counted

    for found in plan.files:
        size = "" if found.bytes is None else f", {_size(found.bytes)}"
        rows = _rows(found.rows, at_least=found.at_least)
        yield "found", f"{found.kind}: {counted(found.files, 'file')}, {rows}{size}"
    shards = counted(plan.shards, "shard")
    yield "to scan", f"{_rows(plan.rows, at_least=plan.at_least)} in {shards}"
    yield from _column_facts(plan)
    yield from (("note", note) for note in plan.notes)
    yield "model", f"{plan.model}, {plan.precision}{': ' if plan.notice else ''}{plan.notice}"
    if plan.sample is not None:
        yield from _sample_facts(plan.sample)
    if plan.estimate is not None:
        yield from _estimate_facts(plan.estimate, plan)
    elif plan.refusal is None:
        yield "estimate", "none: no image of the sample could be scored"


def _column_facts(plan: "ScanPlan") -> Iterator[tuple[str, str]]:
    columns = plan.columns
    yield "images", f"column {columns.image}"
    yield "prompts", f"column {columns.prompt}" if columns.prompt else "none"
    for image, prompt in columns.others[:_MORE]:
        yield "", f"in other files: images in {image}, prompts in {prompt or 'no column'}"
    if columns.keep:
        yield "copied", ", ".join(columns.keep)
    if columns.not_read:
        more = f" and {len(columns.not_read) - _MORE} more" if columns.not_read[_MORE:] else ""
        yield "not read", ", ".join(columns.not_read[:_MORE]) + more


def _sample_facts(sample: "SampleFigures") -> Iterator[tuple[str, str]]:
    from aigid.progress_bar import counted
    from aigid.results import REMEDIES

    names = {"manifest": "in the manifest", "none": "missing", "file": "in files"}
    names |= {"object store": "in an object store", "web": "on web servers"}
    forms = ", ".join(f"{count:,} {names[form]}" for form, count in sample.images.items())
    failed = sample.rows - sample.scored
    yield "sample", f"{counted(sample.rows, 'row')}, images: {forms}"
    if failed:
        share = f"{failed:,} of {sample.rows:,} rows fail ({failed / sample.rows:.1%})"
        yield "errors", f"{share}; by default, a scan with more than 5 % ends with status 3"
    for error in sample.errors:
        where = f"row {error.row:,} of {error.manifest}: {error.detail}"
        yield f"- {error.code}", f"{counted(error.rows, 'row')}, the first: {where}"
        if error.code in REMEDIES:
            yield "", REMEDIES[error.code]
    if sample.decode_ms is not None and sample.score_ms is not None:
        decode, score = sample.decode_ms, sample.score_ms
        yield "measured", f"decoding: {decode:.2f} ms of CPU time a row, {_rate(decode)} a thread"
        scoring = "sending to Triton servers" if sample.on_servers else "scoring"
        yield "", f"{scoring}: {score:.2f} ms of CPU time a row, {_rate(score)} a thread"
        yield "", f"waiting: {sample.wait_ms:.2f} ms a row"


def _estimate_facts(estimate: "Estimate", plan: "ScanPlan") -> Iterator[tuple[str, str]]:
    from aigid.progress_bar import counted

    threads = counted(plan.threads, "thread")
    speed = f"{estimate.rows_per_s:,.1f} rows/s"
    yield "estimated", f"time: {_duration(estimate.seconds)} with {threads} on this host, {speed}"
    if plan.at_least:
        yield "", f"rows: about {estimate.rows:,}, by the bytes of the tars"
    yield "", f"results: {_size(estimate.results_bytes)}"
    if estimate.cost is not None:
        yield "", f"cost: {estimate.cost:,.2f}"
    memory, most = estimate.memory_mib, estimate.most_memory_mib
    yield "calculated", f"peak memory: {memory:,.0f} MiB for images like these"
    yield "", f"at most {most:,.0f} MiB, whatever the images are"


def _rows(count: int, *, at_least: bool) -> str:
    from aigid.progress_bar import counted

    if at_least and count == 0:
        return "rows not counted before a scan"
    return f"at least {counted(count, 'row')}" if at_least else counted(count, "row")


def _rate(milliseconds: float) -> str:
    return f"{1000 / milliseconds:,.0f}/s" if milliseconds > 0 else "no time"


def _size(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:,.{1 if unit else 0}f} {_UNITS[unit]}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
