"""The same image-prompt pairs in every form that a scan reads."""

import csv
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from support.manifests import encoded_image

FORMS = (
    "folder",
    "folder with metadata",
    "csv",
    "tsv",
    "json lines",
    "tars",
    "parquet",
)


def pairs(rows: int) -> list[tuple[str, bytes, str | None]]:
    """Pairs with the names of their images; every third has no prompt."""
    return [
        (
            f"{row:05}.png",
            encoded_image(row),
            f"a cat, number {row}\nin two lines" if row % 3 else None,
        )
        for row in range(rows)
    ]


def write_form(form: str, folder: Path, rows: int) -> Path:
    """Write so many pairs below a folder in one of FORMS, and return the path to scan."""
    found = pairs(rows)
    root = folder / form.replace(" ", "-")
    root.mkdir(parents=True)
    if form == "parquet":
        names, images, prompts = zip(*found, strict=True)
        table = pa.table({"image": pa.array(images), "prompt": pa.array(prompts, pa.string())})
        pq.write_table(table.append_column("id", pa.array(range(rows))), root / "m.parquet")
        return root
    if form == "tars":
        for start in range(0, rows, 10):
            write_tar(root / f"{start:05}.tar", found[start : start + 10], start)
        return root
    for name, image, prompt in found:
        (root / name).write_bytes(image)
        if form == "folder" and prompt is not None:
            (root / name).with_suffix(".txt").write_text(prompt)
    if form in ("folder", "folder with metadata"):
        if form != "folder":
            rows_of = [(name, prompt, row) for row, (name, _, prompt) in enumerate(found)]
            write_csv(root / "metadata.csv", ("file_name", "text", "id"), reversed(rows_of))
        return root
    if form == "json lines":
        path = root / "m.jsonl"
        lines = [
            {"image": name, "prompt": prompt, "id": row}
            for row, (name, _, prompt) in enumerate(found)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path
    path = root / f"m.{form}"
    lines_of = [(name, prompt, row) for row, (name, _, prompt) in enumerate(found)]
    write_csv(path, ("image", "prompt", "id"), lines_of, "\t" if form == "tsv" else ",")
    return path


def write_csv(
    path: Path, names: Iterable[str], rows: Iterable[Iterable[object]], separator: str = ","
) -> None:
    """Write a table of text."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(names)
        writer.writerows(rows)


def write_tar(
    path: Path, found: Iterable[tuple[str, bytes, str | None]], start: int = 0, mode: str = "w"
) -> None:
    """Write pairs as a WebDataset tar, with an id in JSON."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for row, (name, image, prompt) in enumerate(found, start):
            key = name.partition(".")[0]
            add_member(tar, name, image)
            add_member(tar, f"{key}.json", json.dumps({"id": row, "caption": prompt}).encode())


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a tar."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
