"""A result file's rows with other decisions, which follow from its scores."""

import numpy as np
import pyarrow as pa

from aigid.contract import OpenSet
from aigid.results.file_metadata import ScoredBy, file_metadata, labels_of
from aigid.results.record import ScanRecord
from aigid.results.schema import decision_columns


def relabelled_table(table: pa.Table, index: int, scan: ScanRecord) -> pa.Table:
    """Return the rows of shard `index` with the decisions of the record `scan`, and new metadata.

    All columns but `is_ai`, `source` and `verdict` stay.
    """
    labels, open_set_threshold = labels_of(table)
    scored_by = ScoredBy(
        scan.model.name,
        scan.model.fingerprint,
        scan.model.precision,
        labels,
        scan.settings.threshold,
        scan.settings.verdicts,
        # Result files do not tell on what the threshold was fitted.
        None if open_set_threshold is None else OpenSet(open_set_threshold, 1.0, 1),
    )
    p_ai, known_score = (
        table.column(name).to_numpy().astype(np.float32) for name in ("p_ai", "known_score")
    )
    failed = table.column("p_ai").is_null().to_numpy()
    p_source = np.zeros((len(table), len(labels)), np.float32)
    scored = table.column("p_source").combine_chunks().drop_null().flatten()
    p_source[~failed] = scored.to_numpy().reshape(-1, len(labels))
    columns = decision_columns(p_ai, p_source, known_score, failed, scored_by)
    # Readers of Parquet call the element of a list otherwise than the scan does.
    columns["p_source"] = table.column("p_source").cast(pa.list_(pa.float32(), len(labels)))
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table.replace_schema_metadata(file_metadata(table, index, scored_by))
