"""Files that several manifests have in common: their rows would count twice, or be no test."""

from collections.abc import Iterable, Sequence

from aigid.manifest import Manifest
from aigid.sources import ManifestFile
from aigid.storage import GivenFiles, identity_of, locate


def refuse_shared(manifests: Sequence[Manifest]) -> None:
    """Raise ManifestError where two manifests have a file in common, perhaps by two names."""
    given = GivenFiles()
    for number, manifest in enumerate(manifests if len(manifests) > 1 else ()):
        for file in manifest.files:
            given.add(locate(file.uri), number)


def warn_of_shared(
    purpose: str, measured: Iterable[ManifestFile], learnt: Iterable[ManifestFile]
) -> str | None:
    """Return a warning where data to measure on is also learnt from: the files, or copies of them.

    Return None where there is none. `purpose` names the data, as in "validation".
    """
    known = {fact for file in learnt for fact in (file.digest, identity_of(locate(file.uri)))}
    files = list(measured)
    shared = [
        file for file in files if not known.isdisjoint((file.digest, identity_of(locate(file.uri))))
    ]
    if not shared:
        return None
    return (
        f"{purpose}: {len(shared)} of its {len(files)} files are training data as well, such as "
        f"{shared[0].path}: its metrics say nothing of other images"
    )
