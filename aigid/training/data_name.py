"""Short names for data, as reports and model cards show them."""

from collections.abc import Sequence
from pathlib import Path

from aigid.records import printable

_HUB_DATASETS = "hf://datasets/"
_SHOWN = 3


def data_name(paths: Sequence[str]) -> str:
    """Return a short name for the data of some manifests: no folders of this host, no secrets.

    It is the last part of each path or URI, or all of a data set's name on the hub.
    """
    names = [_name(path) for path in paths]
    more = len(names) - _SHOWN
    shown = " + ".join(names[:_SHOWN])
    return f"{shown} + {more} more" if more > 0 else shown


def _name(path: str) -> str:
    if path.startswith(_HUB_DATASETS):
        return printable(path.removeprefix(_HUB_DATASETS).rstrip("/"))
    public = printable(path).partition("?")[0] if "://" in path else path
    if "://" in public:
        return public.rstrip("/").rpartition("/")[2]
    return printable(Path(path).name or Path(path).resolve().name or "data")
