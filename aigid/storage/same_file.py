"""Which files are the same, whatever their names: by inode on disks, by key in stores."""

import os

from aigid.errors import ManifestError
from aigid.storage.clients import azure_account
from aigid.storage.location import Location

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
Identity = tuple[object, ...]


def identity_of(location: Location) -> Identity:
    """Return what is equal for two locations of one file, and for no others.

    On a disk links are followed; a file that does not exist is known by its path. In a store,
    options that only say how to reach it make no difference.
    """
    store = location.store
    if store is None:
        try:
            # A Path would cost more than the call.
            facts = os.stat(location.path)  # noqa: PTH116
        except (OSError, ValueError):
            return (os.path.realpath(location.path),)
        return facts.st_dev, facts.st_ino
    if store.kind == "web":
        host = store.bucket.lower().removesuffix(_DEFAULT_PORTS[store.scheme])
        return store.scheme, host, store.key, store.query
    options = store.options
    server = options.get("endpoint_override") or options.get("blob_storage_authority")
    account = store.account or (azure_account() if store.kind == "az" else None)
    return store.kind, server, account, store.path


class GivenFiles:
    """The files of a command's paths. No two paths may name the same: each row counts once."""

    def __init__(self) -> None:
        self._names: dict[Identity, tuple[int, str]] = {}

    def add(self, location: Location, number: int) -> None:
        """Note a file of the path with this number.

        Raises ManifestError where another path has named it, perhaps by another name.
        """
        before, name = self._names.setdefault(identity_of(location), (number, location.text))
        if before != number:
            other = "" if name == location.text else f", before as {name}"
            raise ManifestError(
                f"{location.text}: given twice{other}, but each row is to count once: give it once"
            )
