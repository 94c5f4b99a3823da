"""The results folder that a report is about: its records, and the result files there are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from aigid.contract import find_model, load_contract
from aigid.errors import AigidError, ResultsError, UsageError
from aigid.report.config import ReportConfig
from aigid.results import (
    ResultsFolder,
    ScanRecord,
    ScanSummary,
    open_results,
    read_scan,
    refuse_relabel_under_way,
    result_schema,
    scorer_metadata,
)
from aigid.shards import PlanTotals, Shard, plan_shards
from aigid.sources import ManifestFiles


@dataclass(frozen=True)
class OpenedResults:
    """The records of a scan, and the `totals` of its shards that have a result file.

    `summary` is None while the scan has not finished. `schema` has the columns of a result file.
    """

    folder: ResultsFolder
    scan: ScanRecord
    summary: ScanSummary | None
    files: ManifestFiles
    committed: frozenset[int]
    totals: PlanTotals
    schema: pa.Schema

    def shards(self) -> Iterator[Shard]:
        """Plan the shards that have a result file, in the manifest's order.

        They are not kept: a manifest may have a million files.
        """
        settings = self.scan.settings
        planned = plan_shards(self.files, settings.shard_rows, settings.limit)
        return (shard for shard in planned if shard.index in self.committed)

    @property
    def name(self) -> str:
        """The folder's path or URI, without secrets."""
        return self.folder.location.text

    @property
    def notice(self) -> str:
        """The notice of the model's makers.

        Results tell it once the scan has finished. Until then, only the demo model's is known.
        """
        if self.summary is not None:
            return self.summary.model.notice
        try:
            contract = load_contract(find_model(None))
        except AigidError:
            return ""
        return contract.notice if contract.fingerprint == self.scan.model.fingerprint else ""

    def check_origin(self, index: int, metadata: Mapping[bytes, bytes]) -> None:
        """Raise ResultsError where a result file is that of another shard, model or decision."""
        expected = {"shard": str(index), **scorer_metadata(self.scan)}
        for name, value in expected.items():
            found = metadata.get(f"aigid.{name}".encode(), b"none").decode("utf-8", "replace")
            if found != value:
                raise ResultsError(
                    f"{self.folder.detections.child(self.folder.shard_name(index)).text}: its "
                    f"{name} is {found}, the scan's {value}; run `aigid verify` to see what is "
                    "wrong"
                )

    def has(self, column: str) -> bool:
        """Return whether result files have a column."""
        return column in self.schema.names


def open_for_report(config: ReportConfig) -> OpenedResults:
    """Open the results folder of a scan, finished or not.

    Raises UsageError where there are no results, or where a column that the config names was not
    kept; ResumeMismatchError where another version of aigid wrote the folder, or a relabel of it
    has not finished; and ResultsError where a record or the first result file is missing or
    damaged.
    """
    folder = open_results(config.results, parameter="results")
    scan = read_scan(folder)
    refuse_relabel_under_way(folder)
    files = folder.recorded_files()
    if files is None:
        raise ResultsError(
            f"{folder.location.text}: files.arrow is missing or damaged; run `aigid verify` to see "
            "what is wrong"
        )
    committed = frozenset(folder.committed())
    if not committed:
        raise UsageError(f"`results` {folder.location.text}: no shard of the scan is finished yet")
    for name in ("by", "label_column"):
        column = getattr(config, name)
        if column is not None and column not in scan.settings.columns.keep:
            kept = ", ".join(scan.settings.columns.keep) or "none"
            raise UsageError(
                f"`{name}` {column}: not a column that the scan kept (these are: {kept}); scan "
                f"with --keep {column}"
            )
    schema = result_schema(folder, min(committed))
    summary, none = folder.read_summary(), PlanTotals.of((), ())
    opened = OpenedResults(folder, scan, summary, files, committed, none, schema)
    return replace(opened, totals=PlanTotals.of(opened.shards(), ()))
