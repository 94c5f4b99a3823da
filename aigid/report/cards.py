"""The rows of galleries in full: what the results say of each, and a thumbnail of its image."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from aigid.report.findings import ShownFinding, parse_findings, shown
from aigid.report.opened import OpenedResults
from aigid.report.rows import VERDICTS
from aigid.report.selection import Chosen
from aigid.shards import Shard
from aigid.sources import Segment

_SHOWN_COLUMNS = ("manifest", "row", "image", "p_ai", "is_ai", "source", "known_score", "verdict")
_OPTIONAL = ("evidence", "evidence_detail")


@dataclass(frozen=True)
class Card:
    """A row of a gallery. `thumbnail` is a data: URI, or None; `reason` then says why.

    `has_prompt` tells whether `prompt` is known; it may be None then as well.
    """

    manifest: str
    row: int
    image: str | None
    p_ai: float | None
    source: str | None
    known_score: float | None
    verdict: str | None
    evidence: str | None
    findings: tuple[ShownFinding, ...]
    kept: dict[str, str]
    segment: Segment | None = field(default=None, repr=False)
    prompt: str | None = None
    has_prompt: bool = False
    thumbnail: str | None = None
    reason: str | None = None


def read_cards(opened: OpenedResults, chosen: Iterable[Chosen]) -> dict[Chosen, Card]:
    """Return the rows in full, without prompts and thumbnails.

    Raises ResultsError where a result file is missing or damaged.
    """
    by_shard: dict[int, list[Chosen]] = {}
    for one in dict.fromkeys(chosen):
        by_shard.setdefault(one.shard, []).append(one)
    shards = {shard.index: shard for shard in opened.shards() if shard.index in by_shard}
    kept = [name for name in opened.scan.settings.columns.keep if _is_shown(opened, name)]
    names = [name for name in (*_SHOWN_COLUMNS, *_OPTIONAL, *kept) if opened.has(name)]
    cards: dict[Chosen, Card] = {}
    for index, rows in by_shard.items():
        table = opened.folder.read(shards[index], names)
        for one in rows:
            values = table.slice(one.position, 1).to_pylist()[0]
            card = _card(values, {name: shown(values[name]) for name in kept})
            cards[one] = replace(card, segment=_segment(shards[index], card))
    return cards


def _card(values: dict[str, Any], kept: dict[str, str]) -> Card:
    verdict = values.get("verdict")
    if verdict is None and values["is_ai"] is not None:
        verdict = VERDICTS[0] if values["is_ai"] else VERDICTS[1]
    findings = parse_findings(values.get("evidence_detail") or "[]")
    return Card(
        manifest=values["manifest"],
        row=values["row"],
        image=values["image"],
        p_ai=values["p_ai"],
        source=values["source"],
        known_score=values["known_score"],
        verdict=verdict,
        evidence=values.get("evidence"),
        findings=tuple(findings or ()),
        kept=kept,
    )


def _segment(shard: Shard, card: Card) -> Segment | None:
    """Return the segment of the shard that a row is in."""
    for segment in shard.segments:
        first = segment.file.first_row + segment.start
        stop = None if segment.stop is None else segment.file.first_row + segment.stop
        if (
            segment.file.path == card.manifest
            and first <= card.row
            and (not stop or card.row < stop)
        ):
            return segment
    return None


def _is_shown(opened: OpenedResults, name: str) -> bool:
    """Return whether a kept column has short values that a person can read."""
    kind = opened.schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not pa.types.is_nested(kind) and "binary" not in str(kind)
