"""`aigid inspect`: print what image files say of their origin."""

from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aigid.cli.command import Command, options_under
from aigid.cli.errors import print_message
from aigid.cli.evidence_options import READERS, TRUST_LIST, trust_anchors
from aigid.cli.option_types import FILE
from aigid.cli.stdout import print_result, printing
from aigid.errors import UsageError
from aigid.records import RowFailure, printable

if TYPE_CHECKING:
    from aigid.evidence import Finding

_output = options_under("Output")
_SHOWN_CHARACTERS = 200


@click.command("inspect", cls=Command)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=FILE)
@TRUST_LIST
@READERS
@_output("--json", is_flag=True, help="Print a JSON object for each image, one a line.")
def command(
    images: tuple[Path, ...], trust_list: Path | None, readers: tuple[str, ...], json: bool
) -> None:
    """Print what image files say of their origin, the strongest evidence first.

    Evidence is signed provenance (C2PA, with the extra `evidence`), labels of generated content,
    prompts that generators write into files, and the camera. Anybody can write or remove what is
    not signed. No model is loaded, nothing is fetched, and pixels are decoded for --reader alone.

    \b
    Example:
      aigid inspect photo.jpg render.png
    """
    from aigid.evidence import load_readers, read_evidence

    anchors, loaded = trust_anchors(trust_list), load_readers(readers)
    failed = 0
    with printing("the evidence"):
        for path in images:
            try:
                data = _read(path)
            except UsageError as error:
                print_message(str(error))
                failed += 1
                continue
            found = read_evidence(data, anchors, loaded), _error(data)
            lines = [_as_json(path, *found)] if json else _lines(path, *found)
            for line in lines:
                print_result(line)
    if failed:
        click.get_current_context().exit(UsageError.exit_status)


def _read(path: Path) -> bytes:
    from aigid.pixels import DecodeLimits

    limit = DecodeLimits().max_bytes
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise UsageError(f"{path}: more than {limit >> 20} MiB, which is the limit for an image")
    return data


def _error(data: bytes) -> str | None:
    """Return why a file is no image that aigid reads, None where it begins as one."""
    from aigid.pixels import open_image

    try:
        open_image(data).close()
    except RowFailure as failure:
        return failure.error.detail
    return None


def _as_json(path: Path, findings: "tuple[Finding, ...]", error: str | None) -> str:
    from aigid.evidence import evidence_of

    return dumps(
        {
            "image": str(path),
            "evidence": evidence_of(findings),
            "findings": [finding.to_json() for finding in findings],
            "error": error,
        }
    )


def _lines(path: Path, findings: "tuple[Finding, ...]", error: str | None) -> Iterator[str]:
    from aigid.evidence import Says, evidence_of

    says = evidence_of(findings)
    why = f": {error}" if error else ""
    yield f"{path}: {f'no evidence{why}' if says is Says.NONE else says}"
    for finding in findings:
        strength = finding.strength.name.lower().replace("_", " ")
        source = f", {printable(finding.source)}" if finding.source else ""
        says_so = "note" if finding.says is Says.NONE else finding.says
        yield f"  {says_so}: {finding.kind}{source} ({finding.found_in}; {strength})"
        for name, text in finding.details.items():
            short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
            yield f"    {name}: {short}"
