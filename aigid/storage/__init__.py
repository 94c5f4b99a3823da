"""Where files live: local disks, object stores and web servers."""

from aigid.storage.folders import replace_folder, restore_folder
from aigid.storage.http import WEB_SCHEMES, fetch_web
from aigid.storage.listing import ListedFile, fixed_folder, has_glob, list_parquet
from aigid.storage.location import (
    Location,
    exists,
    explain_absence,
    explain_failure,
    info_of,
    is_folder,
    is_forbidden,
    list_names,
    locate,
    make_folder,
    read_bytes,
    remove_leftovers,
    store_failures,
    write_atomic,
)
from aigid.storage.uri import STORE_SCHEMES, URI_SCHEMES, StoreUri, parse_store_uri

__all__ = [
    "ListedFile",
    "Location",
    "STORE_SCHEMES",
    "StoreUri",
    "URI_SCHEMES",
    "WEB_SCHEMES",
    "exists",
    "explain_absence",
    "explain_failure",
    "fetch_web",
    "fixed_folder",
    "has_glob",
    "info_of",
    "is_folder",
    "is_forbidden",
    "list_names",
    "list_parquet",
    "locate",
    "make_folder",
    "parse_store_uri",
    "read_bytes",
    "remove_leftovers",
    "replace_folder",
    "restore_folder",
    "store_failures",
    "write_atomic",
]
