"""The rows of one result file as the report counts them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aigid.evidence import Says
from aigid.records import Verdict
from aigid.report.findings import ShownFinding, parse_findings, shown

VERDICTS = tuple(one.value for one in (Verdict.AI, Verdict.REAL, Verdict.UNSURE))
EVIDENCE = tuple(one.value for one in (Says.AI, Says.EDITED, Says.CAMERA, Says.NONE))
FAILED = -1
"""The code of a row without a value."""

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class CodedColumn:
    """A column as codes: the index of each row's value in `names`, FAILED for null."""

    names: list[str]
    codes: Codes

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "CodedColumn":
        """Return a column of values that can be compared, as texts."""
        array = column.unify_dictionaries().combine_chunks()
        if not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        codes = array.indices.cast(pa.int32()).fill_null(FAILED).to_numpy(zero_copy_only=False)
        return cls([shown(value) for value in array.dictionary.to_pylist()], codes)

    def in_order(self, names: tuple[str, ...]) -> Codes:
        """Return the codes as indexes into other names; FAILED for those that are not there."""
        places = [names.index(name) if name in names else FAILED for name in self.names]
        return np.array([*places, FAILED], np.int32)[self.codes]


@dataclass(frozen=True)
class ResultRows:
    """Some columns of a result file. `p_ai` is NaN, and `verdict` FAILED, for a row with an error.

    `evidence` and `hashes` are None where the scan did not write them. `hashes` has the first 64
    bits of each image's hash, and 0 where there is none. `findings` has those of rows by position,
    and `unreadable` the number of rows whose findings cannot be read.
    """

    shard: int
    table: pa.Table
    p_ai: npt.NDArray[np.float32]
    verdict: Codes
    source: CodedColumn
    evidence: Codes | None
    hashes: npt.NDArray[np.uint64] | None
    findings: dict[int, list[ShownFinding]]
    unreadable: int

    @classmethod
    def of(cls, shard: int, table: pa.Table) -> "ResultRows":
        """Return the rows of a table with these columns, as far as it has them."""
        names = table.column_names
        verdict = CodedColumn.of(table.column("verdict")).in_order(VERDICTS)
        evidence = None
        if "evidence" in names:
            evidence = CodedColumn.of(table.column("evidence")).in_order(EVIDENCE)
        hashes = hash_prefixes(table.column("hash")) if "hash" in names else None
        p_ai = table.column("p_ai").to_numpy()
        source = CodedColumn.of(table.column("source"))
        findings, unreadable = _findings(table)
        return cls(shard, table, p_ai, verdict, source, evidence, hashes, findings, unreadable)

    def __len__(self) -> int:
        return len(self.p_ai)


def _findings(table: pa.Table) -> tuple[dict[int, list[ShownFinding]], int]:
    if "evidence_detail" not in table.column_names:
        return {}, 0
    column = table.column("evidence_detail")
    places = np.flatnonzero(np.asarray(pc.is_valid(column))).tolist()
    texts = column.drop_null().to_pylist()
    parsed = {
        place: parse_findings(text, details=False)
        for place, text in zip(places, texts, strict=True)
    }
    known = {place: findings for place, findings in parsed.items() if findings is not None}
    return known, len(parsed) - len(known)


def hash_prefixes(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of hashes in hex; 0 for null, and for what is no hash."""
    found = np.zeros(len(column), np.uint64)
    is_hash = pc.fill_null(pc.match_substring_regex(column, "^[0-9a-f]{64}$"), False)
    heads = pc.utf8_slice_codeunits(column.filter(is_hash), 0, 16)
    text = "".join(heads.to_pylist())
    found[np.asarray(is_hash)] = np.frombuffer(bytes.fromhex(text), ">u8")
    return found
