"""Image files with metadata of origin, made as cameras, generators and editors write it."""

import json
import struct
import zlib
from typing import Any

from support.image_files import encoded, png_chunk, smooth_image, with_chunks

_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"'
    ' xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    ' xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" {attributes}>'
    "{elements}</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
)
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
A1111 = (
    "a lighthouse, (storm:1.2)\nNegative prompt: blurry, text\n"
    "Steps: 28, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: 4242, Size: 512x768, "
    "Model hash: 6ce0161689, Model: sd_xl_base_1.0, Version: v1.10.1"
)
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            **{"seed": 77, "steps": 20, "sampler_name": "euler"},
            **{"model": ["4", 0], "positive": ["9", 0], "negative": ["9", 1]},
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red boat", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "9": {
        "class_type": "ControlNetApplyAdvanced",
        "inputs": {"negative": ["7", 0], "positive": ["6", 0]},
    },
}
NOVEL = {"prompt": "1girl", "steps": 28, "seed": 9, "uc": "bad", "sampler": "k_euler"}


def png() -> bytes:
    return encoded(smooth_image(24, 16), "PNG")


def jpeg() -> bytes:
    return encoded(smooth_image(24, 16), "JPEG")


def webp() -> bytes:
    return encoded(smooth_image(24, 16), "WEBP")


def png_with_text(*, kind: str = "tEXt", **texts: str | dict[str, Any]) -> bytes:
    """Return a PNG with text chunks, by name."""
    chunks = b""
    for name, value in texts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        chunks += text_chunk(name, text, kind)
    return with_chunks(png(), chunks)


def text_chunk(name: str, text: str, kind: str = "tEXt") -> bytes:
    key, value = name.encode("latin-1") + b"\0", text.encode()
    if kind == "tEXt":
        return png_chunk(b"tEXt", key + value)
    if kind == "zTXt":
        return png_chunk(b"zTXt", key + b"\0" + zlib.compress(value))
    packed = kind == "iTXt, compressed"
    head = key + bytes([packed, 0]) + b"en\0" + name.encode() + b"\0"
    return png_chunk(b"iTXt", head + (zlib.compress(value) if packed else value))


def exif_block(order: str = "<", **fields: str | bytes) -> bytes:
    """Return an EXIF block with text fields; UserComment stands in the directory of EXIF."""
    tags = {"ImageDescription": 0x010E, "Make": 0x010F, "Model": 0x0110, "Software": 0x0131}
    main = {tags[name]: value for name, value in fields.items() if name in tags}
    comment = fields.get("UserComment")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    size = 8 + 2 + 12 * (len(main) + (comment is not None)) + 4
    entries, values = b"", b""
    for tag, value in sorted(main.items()):
        data = value.encode() + b"\0" if isinstance(value, str) else value
        entries += _entry(order, tag, 2, data, size + len(values))
        values += data if len(data) > 4 else b""
    if comment is not None:
        assert isinstance(comment, bytes)
        at = size + len(values)
        entries += struct.pack(f"{order}HHII", 0x8769, 4, 1, at)
        values += struct.pack(f"{order}H", 1) + _entry(order, 0x9286, 7, comment, at + 18)
        values += bytes(4) + comment
    count = struct.pack(f"{order}H", len(main) + (comment is not None))
    return head + count + entries + bytes(4) + values


def _entry(order: str, tag: int, kind: int, data: bytes, at: int) -> bytes:
    head = struct.pack(f"{order}HHI", tag, kind, len(data))
    return head + (data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{order}I", at))


def xmp_block(attributes: str = "", elements: str = "") -> bytes:
    return _XMP.format(attributes=attributes, elements=elements).encode()


def iptc_block(**fields: str) -> bytes:
    """Return a Photoshop block with IPTC records: credit, source, caption or program."""
    numbers = {"credit": 110, "source": 115, "caption": 120, "program": 65}
    records = b""
    for name, value in fields.items():
        data = value.encode()
        records += b"\x1c\x02" + bytes([numbers[name]]) + struct.pack(">H", len(data)) + data
    padded = records + b"\0" * (len(records) % 2)
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + padded


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(*segments: bytes) -> bytes:
    data = jpeg()
    return data[:2] + b"".join(segments) + data[2:]


def jpeg_with_exif(order: str = "<", **fields: str | bytes) -> bytes:
    return jpeg_with(segment(0xE1, b"Exif\0\0" + exif_block(order, **fields)))


def jpeg_with_xmp(attributes: str = "", elements: str = "") -> bytes:
    body = b"http://ns.adobe.com/xap/1.0/\0" + xmp_block(attributes, elements)
    return jpeg_with(segment(0xE1, body))


def jpeg_with_extended_xmp(block: bytes, part_bytes: int = 100) -> bytes:
    """Return a JPEG whose XMP stands in parts, the last one first."""
    parts = []
    for offset in range(0, len(block), part_bytes):
        header = struct.pack(">32sII", b"0" * 32, len(block), offset)
        body = (
            b"http://ns.adobe.com/xmp/extension/\0" + header + block[offset : offset + part_bytes]
        )
        parts.append(segment(0xE1, body))
    return jpeg_with(*reversed(parts))


def jpeg_with_iptc(**fields: str) -> bytes:
    return jpeg_with(segment(0xED, b"Photoshop 3.0\0" + iptc_block(**fields)))


def webp_with(kind: bytes, block: bytes) -> bytes:
    data = webp()
    chunk = kind + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    body = data[8:] + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body
