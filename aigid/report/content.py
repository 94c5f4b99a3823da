"""What the page says, as the template takes it."""

from collections.abc import Mapping
from typing import Any

from aigid.report.cards import Card
from aigid.report.charts import (
    MOST_BARS,
    finding_chart,
    group_chart,
    score_bins,
    score_chart,
    source_chart,
)
from aigid.report.config import ReportConfig
from aigid.report.counts import ScoreCounts
from aigid.report.groups import Group, share_interval
from aigid.report.near import MOST_BITS
from aigid.report.opened import OpenedResults
from aigid.report.rows import EVIDENCE, FAILED, VERDICTS
from aigid.report.selection import Chosen
from aigid.report.statistics import Statistics
from aigid.results import REMEDIES

_MOST_GROUPS = 24
_MOST_NAMES = 12
_SOURCE_GALLERIES = 12
# The scores that the table of certainty cuts at.
_CERTAINTY = (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.001)


def page_charts(opened: OpenedResults, statistics: Statistics) -> dict[str, dict[str, Any]]:
    """Return the charts by the names that the template has for them."""
    scores, settings = statistics.scores, opened.scan.settings
    if not scores.scored:
        return {}
    charts = {
        "scores": score_chart(scores, settings.ai_from, settings.real_below),
        "sources": source_chart(scores),
        "groups": group_chart(shown_groups(statistics), _ai_share(scores)),
    }
    if statistics.findings is not None and statistics.findings.kinds:
        charts["findings"] = finding_chart(statistics.findings)
    return charts


def page_context(
    opened: OpenedResults,
    statistics: Statistics,
    cards: Mapping[Chosen, Card],
    config: ReportConfig,
) -> dict[str, Any]:
    """Return all that the template shows, apart from the charts."""
    return {
        "name": opened.name,
        "scan": opened.scan,
        "summary": opened.summary,
        "settings": opened.scan.settings,
        "notice": opened.notice,
        "shards": opened.totals.shards,
        "scores": statistics.scores,
        "verdicts": _verdicts(statistics.scores),
        "certainty": _certainty(statistics.scores),
        "bins": score_bins(statistics.scores),
        "evidence": _evidence(opened, statistics),
        "outcomes": _outcomes(statistics.scores) if opened.has("evidence") else None,
        "sources": _sources(statistics),
        "most_bars": MOST_BARS,
        "truth": statistics.truth,
        "truth_interval": _truth_interval(statistics),
        "errors": _errors(opened, statistics.scores),
        "same": statistics.same,
        "alike": statistics.alike,
        "near": statistics.near,
        "near_bits": MOST_BITS,
        "grouped_by": statistics.grouped_by,
        "groups": shown_groups(statistics),
        "all_groups": len(statistics.groups),
        "group_share": _ai_share(statistics.scores),
        "galleries": _galleries(opened, statistics, cards),
        "images": config.images,
    }


def shown_groups(statistics: Statistics) -> list[Group]:
    """Return the groups in order; of many, those that differ most from all rows."""
    groups = statistics.groups
    if len(groups) <= _MOST_GROUPS:
        return groups
    return sorted(groups, key=lambda group: -group.distance)[:_MOST_GROUPS]


def _ai_share(scores: ScoreCounts) -> float:
    return scores.verdict("ai") / scores.scored if scores.scored else 0.0


def _verdicts(scores: ScoreCounts) -> list[dict[str, Any]]:
    """Return rows by verdict, with the place of each in a bar of width 100."""
    failed = int(scores.outcomes[FAILED].sum())
    counts = [(name, scores.verdict(name)) for name in ("ai", "unsure", "real")]
    found: list[dict[str, Any]] = []
    start = 0.0
    for name, rows in (*counts, ("error", failed)):
        share = rows / scores.rows if scores.rows else 0.0
        found.append({"name": name, "rows": rows, "share": share, "start": round(100 * start, 3)})
        start += share
    return found


def _certainty(scores: ScoreCounts) -> list[dict[str, Any]]:
    return [
        {"low": low, "high": min(high, 1), "rows": scores.scored_from(low, high)}
        for low, high in zip(_CERTAINTY, _CERTAINTY[1:], strict=False)
    ]


def _evidence(opened: OpenedResults, statistics: Statistics) -> dict[str, Any] | None:
    findings, scores = statistics.findings, statistics.scores
    if findings is None or not opened.has("evidence"):
        return None
    counts = {name: scores.evidence(name) for name in EVIDENCE}
    signed = [
        rows
        for (says, strength), rows in findings.strengths.items()
        if says == "ai" and strength.startswith("signed")
    ]
    return {
        "counts": counts,
        "unknown": scores.rows - sum(counts.values()),
        "signed_ai": sum(signed),
        "ai_not_by_score": int(scores.outcomes[VERDICTS.index("real"), EVIDENCE.index("ai")]),
        "kinds": [(*kind, rows) for kind, rows in findings.kinds.most_common(_MOST_NAMES)],
        "makers": [(*maker, rows) for maker, rows in findings.makers.most_common(_MOST_NAMES)],
        "more_makers": max(0, len(findings.makers) - _MOST_NAMES),
        "unreadable": findings.unreadable,
    }


def _outcomes(scores: ScoreCounts) -> list[dict[str, Any]]:
    """Return the table of rows by verdict and evidence."""
    names = (*VERDICTS, "error")
    return [
        {"verdict": name, "rows": scores.outcomes[place].tolist()}
        for place, name in enumerate(names)
        if name != "unsure" or scores.outcomes[place].any()
    ]


def _sources(statistics: Statistics) -> list[dict[str, Any]]:
    truth, scores = statistics.truth, statistics.scores
    return [
        {
            "name": name,
            "rows": rows,
            "share": rows / scores.scored,
            "labelled": truth.sources[name] if truth else None,
            "right": truth.right_sources[name] if truth else None,
        }
        for name, rows in scores.sources.most_common()
    ]


def _truth_interval(statistics: Statistics) -> tuple[float, float] | None:
    truth = statistics.truth
    return share_interval(truth.right, truth.rows) if truth and truth.rows else None


def _errors(opened: OpenedResults, scores: ScoreCounts) -> list[dict[str, Any]]:
    examples = opened.summary.error_examples if opened.summary else {}
    return [
        {
            "code": code,
            "rows": rows,
            "share": rows / scores.rows,
            "example": examples.get(code),
            "remedy": REMEDIES.get(code, ""),
        }
        for code, rows in scores.errors.most_common()
    ]


def _galleries(
    opened: OpenedResults, statistics: Statistics, cards: Mapping[Chosen, Card]
) -> list[dict[str, Any]]:
    """Return the galleries in the page's order; those without rows say why."""
    found = statistics.galleries
    no_evidence = "" if opened.has("evidence") else "The scan did not read evidence."
    named = [
        ("evidence", "Strongest evidence", "What files say of themselves, the hardest to forge "
         "first.", found.evidence, no_evidence or "No file says anything of its origin."),
        ("contradictions", "Contradictions", "Files that contradict themselves, and files that "
         "contradict the score.", found.contradictions, no_evidence or "There is none."),
        ("confident-ai", "Most confident AI", "The highest scores.", found.ai, "No row has the "
         "verdict ai."),
        ("borderline", "Borderline", "The scores nearest to where verdicts change.",
         found.borderline, "No row has a score."),
        ("confident-real", "Most confident real", "The lowest scores.", found.real, "No row has "
         "the verdict real."),
    ]  # fmt: skip
    galleries = [
        {"id": name, "title": title, "note": note, "cards": [cards[row] for row in best.rows],
         "empty": empty}
        for name, title, note, best, empty in named
    ]  # fmt: skip
    for number, (name, _) in enumerate(statistics.scores.sources.most_common(_SOURCE_GALLERIES)):
        galleries.append(
            {
                "id": f"source-{number}",
                "title": f"Source: {name}",
                "note": "Rows at random.",
                "cards": [cards[row] for row in found.sources[name].rows],
                "empty": "",
            }
        )
    return galleries
