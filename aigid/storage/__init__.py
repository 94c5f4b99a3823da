"""Files on local disks, in object stores and on web servers."""

from aigid.storage import http_errors
from aigid.storage.endpoints import endpoint_variables
from aigid.storage.failures import object_failure
from aigid.storage.folders import (
    make_output_folder,
    replace_folder,
    restore_folder,
    staged_folder,
)
from aigid.storage.http import download
from aigid.storage.hub_copy import copy_of_hub_files, is_hub_offline
from aigid.storage.listing import (
    ListedFile,
    Listing,
    fixed_folder,
    has_glob,
    list_files,
    relative_name,
)
from aigid.storage.location import (
    Location,
    absence_hint,
    check_name,
    exists,
    explain_absence,
    explain_failure,
    failure_of_store,
    info_of,
    is_folder,
    is_temporary,
    list_names,
    list_others,
    list_sizes,
    locate,
    make_folder,
    read_bytes,
    remove_file,
    remove_leftovers,
    store_failures,
    without_query,
    write_atomic,
)
from aigid.storage.locks import lock_open_file
from aigid.storage.name_list import NameList
from aigid.storage.proxies import proxy_for
from aigid.storage.same_file import GivenFiles, Identity, identity_of
from aigid.storage.uri import (
    STORE_SCHEMES,
    URI_SCHEMES,
    WEB_SCHEMES,
    MalformedUriError,
    StoreUri,
    parse_store_uri,
)
from aigid.storage.web_settings import DEFAULT_REQUESTS_PER_HOST, HostHeader, WebSettings

__all__ = [
    "check_name",
    "DEFAULT_REQUESTS_PER_HOST",
    "GivenFiles",
    "HostHeader",
    "Identity",
    "ListedFile",
    "Listing",
    "Location",
    "MalformedUriError",
    "NameList",
    "STORE_SCHEMES",
    "StoreUri",
    "URI_SCHEMES",
    "WEB_SCHEMES",
    "WebSettings",
    "absence_hint",
    "copy_of_hub_files",
    "download",
    "endpoint_variables",
    "exists",
    "explain_absence",
    "explain_failure",
    "failure_of_store",
    "object_failure",
    "fixed_folder",
    "has_glob",
    "http_errors",
    "identity_of",
    "info_of",
    "is_folder",
    "is_temporary",
    "is_hub_offline",
    "list_files",
    "list_names",
    "list_others",
    "list_sizes",
    "locate",
    "lock_open_file",
    "make_folder",
    "make_output_folder",
    "parse_store_uri",
    "proxy_for",
    "read_bytes",
    "relative_name",
    "remove_file",
    "remove_leftovers",
    "replace_folder",
    "restore_folder",
    "staged_folder",
    "store_failures",
    "without_query",
    "write_atomic",
]
