"""Filter a manifest by the results of its scan: the rows to keep, in the manifest's own form."""

from aigid.filtering.conditions import FilterConfig
from aigid.filtering.filter_manifest import filter_manifest
from aigid.filtering.row_mask import FilterTotals

__all__ = ["FilterConfig", "FilterTotals", "filter_manifest"]
