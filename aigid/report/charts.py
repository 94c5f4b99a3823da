"""What the charts of a report show. `report.js` draws them with Plotly, in the page's colours."""

from typing import Any

import numpy as np

from aigid.report.counts import SCORE_BINS, FindingCounts, ScoreCounts
from aigid.report.groups import Group

_SHOWN_BINS = 50
MOST_BARS = 16


def score_bins(scores: ScoreCounts) -> list[tuple[float, float, int]]:
    """Return the rows by score: from, to and count of _SHOWN_BINS bins."""
    counts = scores.scores.reshape(_SHOWN_BINS, SCORE_BINS // _SHOWN_BINS).sum(axis=1)
    edges = np.linspace(0, 1, _SHOWN_BINS + 1).round(4).tolist()
    return list(zip(edges[:-1], edges[1:], counts.tolist(), strict=True))


def score_chart(scores: ScoreCounts, ai_from: float, real_below: float) -> dict[str, Any]:
    """Return the histogram of scores, each bin in the colour of its verdict."""
    bins = score_bins(scores)
    middles = [(low + high) / 2 for low, high, _ in bins]
    verdicts = [
        "ai" if middle >= ai_from else "real" if middle < real_below else "unsure"
        for middle in middles
    ]
    lines = [{"at": ai_from, "text": f"threshold {ai_from:.3g}"}]
    if real_below != ai_from:
        lines = [
            {"at": ai_from, "text": f"ai from {ai_from:.3g}"},
            {"at": real_below, "text": f"real below {real_below:.3g}"},
        ]
    return {
        "kind": "histogram",
        "x": middles,
        "y": [count for *_, count in bins],
        "colours": verdicts,
        "labels": [f"{low:.2f} to {high:.2f}" for low, high, _ in bins],
        "lines": lines,
        "x_title": "score (p_ai)",
        "y_title": "rows",
    }


def source_chart(scores: ScoreCounts) -> dict[str, Any]:
    """Return the rows by source, the most first."""
    found = scores.sources.most_common(MOST_BARS)
    colours = ["real" if name == "real" else "ai" for name, _ in found]
    return _bars([name for name, _ in found], [count for _, count in found], colours)


def finding_chart(findings: FindingCounts) -> dict[str, Any]:
    """Return the rows by kind of finding, the most first."""
    found = findings.kinds.most_common(MOST_BARS)
    names = [
        f"{kind}: {says} ({strength.replace('_', ' ')})" for (kind, says, strength), _ in found
    ]
    colours = [says for (_, says, _), _ in found]
    chart = _bars(names, [count for _, count in found], colours)
    # On a phone there is no room for more.
    return chart | {"narrow": [f"{kind}: {says}" for (kind, says, _), _ in found]}


def group_chart(groups: list[Group], share: float) -> dict[str, Any]:
    """Return each group's share of AI verdicts with its interval, and the share of all rows."""
    return {
        "kind": "shares",
        "names": [group.name for group in groups],
        "x": [group.share for group in groups],
        "low": [group.low for group in groups],
        "high": [group.high for group in groups],
        "colours": ["ai" if group.differs else "neutral" for group in groups],
        "lines": [{"at": share, "text": f"all rows {share:.1%}"}],
        "x_title": "share with the verdict ai",
    }


def _bars(names: list[str], values: list[int], colours: list[str]) -> dict[str, Any]:
    return {"kind": "bars", "names": names, "x": values, "colours": colours, "x_title": "rows"}
