"""`aigid inspect`: print what image files say of their origin, and what a model says of them."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.errors import print_message
from aigid.cli.evidence_options import READERS, TRUST_LIST, trust_anchors
from aigid.cli.option_types import FILE, FOLDER
from aigid.cli.stdout import print_result, printing
from aigid.errors import UsageError
from aigid.records import RowFailure, printable

if TYPE_CHECKING:
    from aigid.detection import Detection
    from aigid.detector import Detector
    from aigid.evidence import Finding, Readers

_score = options_under("Score")
_output = options_under("Output")
_SHOWN_CHARACTERS = 200


@click.command("inspect", cls=Command)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=FILE)
@TRUST_LIST
@READERS
@_score("--score", is_flag=True, help="Also score the images with the model.")
@_score(
    "--model",
    type=FOLDER,
    help="Model repository.  [default: the demo model, not for real decisions]",
)
@_score("--prompt", metavar="TEXT", help="Score the images with this prompt.")
@_output("--json", is_flag=True, help="Print a JSON object for each image, one a line.")
def command(
    images: tuple[Path, ...],
    trust_list: Path | None,
    reader: tuple[str, ...],
    json: bool,
    **score: Any,
) -> None:
    """Print what image files say of their origin, the strongest evidence first.

    Evidence is signed provenance (C2PA, with the extra `evidence`), labels of generated content,
    prompts that generators write into files, and the camera. Anybody can write or remove what is
    not signed. Nothing is fetched. Pixels are decoded for --reader and --score alone.

    \b
    Example:
      aigid inspect photo.jpg render.png
      aigid inspect --score --prompt "a red car" render.png
    """
    from aigid.evidence import load_readers

    look = _Inspection(trust_anchors(trust_list), load_readers(reader), _scorer(**score))
    failed = 0
    with printing("the evidence"):
        for path in images:
            try:
                data = _read(path)
            except UsageError as error:
                print_message(str(error))
                failed += 1
                continue
            found = look.at(data)
            for line in [_as_json(path, found)] if json else _lines(path, found):
                print_result(line)
    if failed:
        click.get_current_context().exit(UsageError.exit_status)


@dataclass(frozen=True)
class _Found:
    """What is known of a file: its findings, why it is no image, and the model's answer."""

    findings: "tuple[Finding, ...]"
    error: str | None
    detection: "Detection | None"


@dataclass(frozen=True)
class _Inspection:
    """How files are looked at; `scorer` is None where they are not scored."""

    anchors: str
    readers: "Readers"
    scorer: "tuple[Detector, str | None] | None"

    def at(self, data: bytes) -> _Found:
        from aigid.evidence import read_evidence

        findings = read_evidence(data, self.anchors, self.readers)
        if self.scorer is None:
            return _Found(findings, _error(data), None)
        detector, prompt = self.scorer
        (detection,) = detector.detect([data], [prompt])
        return _Found(findings, detection.error.detail if detection.error else None, detection)


def _scorer(
    *, score: bool, model: Path | None, prompt: str | None
) -> "tuple[Detector, str | None] | None":
    """Return the detector and the prompt; None without --score."""
    if not score:
        for name, value in (("model", model), ("prompt", prompt)):
            if value is not None:
                raise UsageError(f"`{name}` is for `score`: give `score` too")
        return None
    from aigid.detector import Detector
    from aigid.errors import ModelNoticeWarning

    with warnings.catch_warnings():
        # It is printed as a message.
        warnings.simplefilter("ignore", ModelNoticeWarning)
        detector = Detector.load(model)
    if detector.notice:
        print_message(detector.notice)
    return detector, prompt


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


def _as_json(path: Path, found: _Found) -> str:
    from aigid.evidence import evidence_of

    values: dict[str, Any] = {
        "image": str(path),
        "evidence": evidence_of(found.findings),
        "findings": [finding.to_json() for finding in found.findings],
        "error": found.error,
    }
    if found.detection is not None:
        names = ("p_ai", "verdict", "source", "p_source", "known_score")
        values["score"] = {name: getattr(found.detection, name) for name in names}
    return dumps(values)


def _lines(path: Path, found: _Found) -> Iterator[str]:
    from aigid.evidence import Says, evidence_of

    says = evidence_of(found.findings)
    why = f": {found.error}" if found.error else ""
    yield f"{path}: {f'no evidence{why}' if says is Says.NONE else says}"
    if found.detection is not None and found.detection.error is None:
        one = found.detection
        yield f"  score: {one.verdict}, p_ai {one.p_ai:.3f}, source {printable(str(one.source))}"
    for finding in found.findings:
        strength = finding.strength.name.lower().replace("_", " ")
        source = f", {printable(finding.source)}" if finding.source else ""
        says_so = "note" if finding.says is Says.NONE else finding.says
        yield f"  {says_so}: {finding.kind}{source} ({finding.found_in}; {strength})"
        for name, text in finding.details.items():
            short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
            yield f"    {name}: {short}"
