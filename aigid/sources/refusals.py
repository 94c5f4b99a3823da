"""The errors that are the same for files of every kind."""

from collections.abc import Iterator
from contextlib import contextmanager

from aigid.errors import AigidError, ManifestError
from aigid.sources.files import ManifestFile
from aigid.storage import Location, explain_failure, info_of, store_failures


@contextmanager
def opening(location: Location) -> Iterator[None]:
    """Turn what fails while a file is identified into a ManifestError with its name."""
    try:
        with store_failures(location):
            yield
    except FileNotFoundError as error:
        raise ManifestError(f"{location.text}: no such file") from error
    except OSError as error:
        raise ManifestError(
            f"{location.text}: cannot be read: {explain_failure(error, location)}"
        ) from error


@contextmanager
def unchanged(file: ManifestFile, location: Location) -> Iterator[None]:
    """Raise AigidError if an object is replaced while the block reads it.

    Its parts would come from two contents. A file on a disk stays the same once it is open; the
    hub's do not change, and web servers are asked with each part.
    """
    if location.is_local or location.is_read_only:
        yield
        return
    before = info_of(location)
    yield
    after = info_of(location)
    if (before.size, before.mtime_ns) != (after.size, after.mtime_ns):
        raise changed(file)


def changed(file: ManifestFile) -> AigidError:
    """Return the error for a file that is not the same as when the manifest was opened."""
    return AigidError(
        f"{file.path}: has changed since the scan began; "
        "restore the file to go on, or start a new scan"
    )
