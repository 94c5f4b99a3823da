"""The dashboard of scans: Grafana can import it, and what it asks for is there."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client.metrics_core import Metric

from aigid.batching import BatchQueue
from aigid.observe import ScanBegin, ScanWatch
from aigid.observe.metrics import ScanCollector
from aigid.progress import ClusterState
from aigid.progress_bar import SilentProgress
from aigid.shards import PlanTotals

ROOT = Path(__file__).parents[3]
FILE, PAGE = ROOT / "jobs/grafana/scan.json", ROOT / "docs/observe.md"
DASHBOARD = json.loads(FILE.read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
NAME = re.compile(r"aigid_scan_\w+")
SOURCE = {"const": {"type": "prometheus", "uid": "${datasource}"}}
COUNT, TEXT = {"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}

# The fields that Grafana's import needs, from its "dashboard JSON model" (schema version 39,
# Grafana 10 and later). `id` must be absent or null: it belongs to one installation.
SCHEMA = {
    "type": "object",
    "required": ["title", "uid", "schemaVersion", "panels", "templating", "time"],
    "not": {"required": ["id"]},
    "properties": {
        "title": TEXT,
        "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
        "schemaVersion": {"type": "integer", "minimum": 36},
        "time": {"type": "object", "required": ["from", "to"]},
        "templating": {
            "type": "object",
            "required": ["list"],
            "properties": {
                "list": {
                    "type": "array",
                    "items": {"type": "object", "required": ["name", "type", "query"]},
                }
            },
        },
        "panels": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["id", "type", "title", "datasource", "gridPos", "targets"],
                "properties": {
                    "id": {"type": "integer", "minimum": 1},
                    "type": {"enum": ["stat", "timeseries", "table"]},
                    "title": TEXT,
                    "datasource": SOURCE,
                    "gridPos": {
                        "type": "object",
                        "required": ["h", "w", "x", "y"],
                        "additionalProperties": COUNT,
                    },
                    "fieldConfig": {"type": "object", "required": ["defaults", "overrides"]},
                    "targets": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["refId", "expr", "datasource"],
                            "properties": {"refId": TEXT, "expr": TEXT, "datasource": SOURCE},
                        },
                    },
                },
            },
        },
    },
}


def families() -> list[Metric]:
    """All metrics that a scan can have."""
    watch = ScanWatch(SilentProgress(), queue=BatchQueue())
    watch.start(ScanBegin(PlanTotals(1, 1, 0, 0, 1), "m", "f", "int8"))
    watch.cluster(ClusterState(1, 0, 1, 0, (), {}))
    return list(ScanCollector(watch).collect())


def served() -> dict[str, set[str]]:
    """Return the labels of each sample by its name."""
    return {sample.name: set(sample.labels) for family in families() for sample in family.samples}


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_grafana_can_import_it() -> None:
    jsonschema.validate(DASHBOARD, SCHEMA)
    identifiers = [panel["id"] for panel in PANELS]
    assert len(set(identifiers)) == len(identifiers)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", FILE.read_text(encoding="utf-8")))
    assert used == variables | {"__rate_interval"}


def test_no_panels_overlap_on_the_grid_of_24_columns() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        return {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}

    for first, second in combinations(PANELS, 2):
        assert not cells(first) & cells(second), (first["title"], second["title"])


def test_it_asks_for_metrics_that_a_scan_has_and_leaves_none_out() -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert asked == served().keys()


@pytest.mark.parametrize("expression", expressions())
def test_it_groups_by_labels_that_its_metrics_have(expression: str) -> None:
    samples = served()
    (metric, *_) = NAME.findall(expression)
    for label in re.findall(r"by \((\w+)\)", expression):
        assert label == "instance" or label in samples[metric]
    for name in NAME.findall(expression):
        # A counter is shown as a rate, or as a share of another one.
        is_share = expression.count(" / ") > 0
        assert not name.endswith("_total") or "rate(" in expression or is_share
    assert expression.count("(") == expression.count(")")


def test_the_page_lists_every_metric() -> None:
    listed = set(re.findall(r"`(aigid_scan_\w+)`", PAGE.read_text(encoding="utf-8")))
    assert listed == served().keys()


def test_every_metric_says_what_it_is_with_its_unit_in_its_name() -> None:
    units = "rows|errors|duplicates|bytes|seconds|shards|batches|workers|info"
    for family in families():
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert re.fullmatch(rf"aigid_scan_(\w+_)?({units})(_total)?", sample.name)
