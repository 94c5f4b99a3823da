"""Prompts and thumbnails of rows, from the manifest once more."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import pyarrow as pa
from PIL import Image

from aigid.bounded_map import bounded_map
from aigid.config import ScanConfig
from aigid.contract import ImageSpec
from aigid.errors import AigidError
from aigid.fetch import (
    FetchPolicy,
    ImageReference,
    fetch_image,
    image_references,
    is_remote,
    web_host,
)
from aigid.manifest import Manifest, read_segment
from aigid.pixels import DecodeLimits, decode_image
from aigid.records import RowFailure
from aigid.report.cards import Card
from aigid.report.opened import OpenedResults
from aigid.report.patience import Patience
from aigid.results import ScanRecord
from aigid.scan_job import fetch_policy
from aigid.sources import (
    CAPTION,
    ColumnChoice,
    Columns,
    Kind,
    ManifestFile,
    ManifestFiles,
    Segment,
    captions_beside,
    texts,
)
from aigid.storage import Location, locate

Key = TypeVar("Key")

_SIDE = 192
_QUALITY = 70
_THREADS = 8
# Less than a scan's: a page needs no thumbnail of a huge image, and memory is for other things.
_LIMITS = DecodeLimits(max_bytes=32 << 20, max_memory_bytes=256 << 20)
_PROMPT_CHARACTERS = 600


@dataclass(frozen=True)
class _Found:
    """What the manifest has in a row; `reason` says why there is no image.

    `has_prompt` tells whether `prompt` is known; it may be None then as well.
    """

    prompt: str | None = None
    image: ImageReference | None = None
    reason: str | None = None
    has_prompt: bool = False


def with_images(
    opened: OpenedResults, cards: Mapping[Key, Card], *, thumbnails: bool
) -> dict[Key, Card]:
    """Return the cards with prompts and, if asked for, thumbnails. Nothing that is gone fails."""
    patience = Patience()
    policy = _policy(opened.scan) if thumbnails else None
    places = dict(cards)

    def finished(pair: tuple[Key, _Found]) -> tuple[Key, Card]:
        key, found = pair
        card = replace(
            places[key], prompt=found.prompt, has_prompt=found.has_prompt, reason=found.reason
        )
        if not thumbnails:
            return key, replace(card, reason=None)
        if found.image is None:
            return key, card
        if isinstance(policy, str) or policy is None:
            return key, replace(card, reason=policy)
        return key, _with_thumbnail(card, found.image, policy, patience)

    found = _manifest_rows(opened.scan, places, patience)
    return dict(bounded_map(finished, found, _THREADS))


def _with_thumbnail(
    card: Card, image: ImageReference, policy: FetchPolicy, patience: Patience
) -> Card:
    root = image.root or policy.root
    place = web_host(image, policy) or (root.store.bucket if root and root.store else None)
    try:
        with patience.with_place(place if is_remote(image, policy) else None):
            data = fetch_image(image, policy)
        return replace(card, thumbnail=thumbnail(data))
    except RowFailure as failure:
        return replace(card, reason=failure.error.detail)
    except AigidError as error:
        return replace(card, reason=str(error))


def thumbnail(data: bytes) -> str:
    """Return the middle of an encoded image as a data: URI of a small WebP.

    Raises RowFailure where it cannot be decoded within the limits.
    """
    pixels = decode_image(data, ImageSpec(size=_SIDE), _LIMITS)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"


def _policy(scan: ScanRecord) -> FetchPolicy | str:
    """Return the policy of the scan, or why it cannot be had."""
    settings = scan.settings
    try:
        config = ScanConfig(
            scan.manifests,
            out="-",
            image_root=settings.image_root,
            allow_outside_root=settings.allow_outside_root,
            allow_private_addresses=settings.allow_private_addresses,
            respect_opt_out=settings.respect_opt_out,
        )
        return replace(fetch_policy(config), limits=_LIMITS, object_deadline_s=20.0)
    except AigidError as error:
        return str(error)


def _manifest_rows(
    scan: ScanRecord, cards: Mapping[Key, Card], patience: Patience
) -> Iterator[tuple[Key, _Found]]:
    """Yield what the manifest has in the rows of cards, file by file."""
    known = [pair for pair in cards.items() if pair[1].segment is not None]
    for key, card in cards.items():
        if card.segment is None:
            yield key, _Found(reason="the row is in no file of the manifest")
    known.sort(key=lambda pair: _place(pair[1]))
    for _, pairs in groupby(known, key=lambda pair: _place(pair[1])[:2]):
        wanted = list(pairs)
        done = set()
        try:
            for key, found in _rows_of_group(scan, wanted, patience):
                done.add(key)
                yield key, found
            reason = "the manifest has no such row any more"
        except AigidError as error:
            reason = str(error)
        for key, _ in wanted:
            if key not in done:
                yield key, _Found(reason=reason)


def _place(card: Card) -> tuple[str, int, int]:
    """Return a row's file, its row group there and its position, so that a group is read once."""
    assert card.segment is not None, "the row has one"
    file = card.segment.file
    position, stop = card.row - file.first_row, 0
    for number, rows in enumerate(file.row_groups):
        stop += rows
        if position < stop:
            return f"{file.path}\0{file.first_row}", number, position
    return f"{file.path}\0{file.first_row}", 0, position


def _rows_of_group(
    scan: ScanRecord, wanted: list[tuple[Key, Card]], patience: Patience
) -> Iterator[tuple[Key, _Found]]:
    """Yield rows of one row group. Raises AigidError where the manifest changed or went."""
    segment = wanted[0][1].segment
    assert segment is not None, "the rows have one"
    file = segment.file
    location = locate(file.uri)
    with patience.with_place(location.store.bucket if location.store else None):
        if file.kind is Kind.IMAGES:
            yield from _rows_of_folder(scan, wanted, location)
        else:
            yield from _rows_of_table(scan, wanted, file, patience)


def _rows_of_table(
    scan: ScanRecord, wanted: list[tuple[Key, Card]], file: ManifestFile, patience: Patience
) -> Iterator[tuple[Key, _Found]]:
    positions = {card.row - file.first_row: key for key, card in wanted}
    first, last = (0, None) if file.kind is Kind.TAR else (min(positions), max(positions) + 1)
    manifest, position = _manifest(scan, file), first
    for batch in read_segment(manifest, Segment(file, first, last)):
        for at in sorted(positions.keys() & set(range(position, position + len(batch)))):
            yield positions.pop(at), _found(manifest, batch.slice(at - position, 1), file.kind)
        position += len(batch)
        if not positions:
            return
        patience.check()


def _rows_of_folder(
    scan: ScanRecord, wanted: list[tuple[Key, Card]], root: Location
) -> Iterator[tuple[Key, _Found]]:
    """Yield rows of a folder of images. Their names are in the results; captions lie beside them.

    Captions in a metadata table would need the whole folder to be listed, so they are not shown.
    """
    prompts: list[str | None] = [None] * len(wanted)
    if scan.settings.columns.prompt == CAPTION:
        prompts = captions_beside([card.image for _, card in wanted], root)
    for (key, card), prompt in zip(wanted, prompts, strict=True):
        image = ImageReference(None, card.image, root)
        yield key, _Found(_shortened(prompt), image, has_prompt=prompt is not None)


def _found(manifest: Manifest, row: pa.RecordBatch, kind: Kind) -> _Found:
    (image,) = image_references(row.column(manifest.columns.image))
    if kind is Kind.TAR:
        image = ImageReference(image.data, None)
    prompt = manifest.columns.prompt
    text = texts(row.column(prompt))[0] if prompt else None
    return _Found(_shortened(text), image, has_prompt=True)


def _manifest(scan: ScanRecord, file: ManifestFile) -> Manifest:
    """Return a manifest of one file with the columns of images and prompts that the scan read."""
    columns = scan.settings.columns
    pairs: Iterable[tuple[str | None, ...]] = ((columns.image, columns.prompt), *columns.others)
    here = [pair for pair in pairs if pair[0] in file.schema.names]
    if not here:
        raise AigidError(f"{file.path}: its images are in none of the columns that were scanned")
    image, prompt = str(here[0][0]), here[0][1]
    prompt = prompt if prompt in file.schema.names else None
    choice = ColumnChoice(image, prompt, no_prompts=prompt is None)
    return Manifest(ManifestFiles(), Columns(image, prompt), pa.schema([]), choice=choice)


def _shortened(text: str | None) -> str | None:
    if text is None or len(text) <= _PROMPT_CHARACTERS:
        return text
    return f"{text[:_PROMPT_CHARACTERS]}..."
