"""What of a listing is no file of its own: links to files that are listed anyway, and notes."""

import os

from aigid.sources.kinds import Kind, kind_of_name
from aigid.storage import Identity, ListedFile, Listing, identity_of


class Links:
    """The links of a listing so far."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._root = os.path.realpath(listing.root.path)
        self._seen: set[Identity] = set()

    def is_repeated(self, name: str, kind: Kind | None, file: ListedFile) -> bool:
        """Return whether a file, called `name` below the root, is listed by another name as well.

        Of a file that is itself below the root, the links are the repetitions; of another, all
        links but the first. What is of no kind, such as captions, may repeat.
        """
        if kind is None or not file.has_links:
            return False
        target = os.path.relpath(os.path.realpath(file.location.path), self._root)
        if target != name and self._is_listed(target, kind):
            return True
        identity = identity_of(file.location)
        is_known = identity in self._seen
        self._seen.add(identity)
        return is_known

    def _is_listed(self, name: str, kind: Kind | None) -> bool:
        if name.split("/")[0] == ".." or not self._listing.lists(name):
            return False
        is_scanned = kind is Kind.IMAGES or not is_note(name, self._listing)
        return is_scanned and kind_of_name(name) is kind


def is_note(name: str, listing: Listing) -> bool:
    """Return whether it is what programs that write tables note beside them, such as _SUCCESS."""
    return not listing.is_glob and any(part.startswith("_") for part in name.split("/"))
