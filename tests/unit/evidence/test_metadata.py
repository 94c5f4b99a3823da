"""What generators, editors and cameras write into files, found in every place that they use."""

import json

import pytest
from PIL import Image
from support.evidence_files import (
    A1111,
    GRAPH,
    NOVEL,
    SOURCE_TYPES,
    exif_block,
    iptc_block,
    jpeg,
    jpeg_with,
    jpeg_with_exif,
    jpeg_with_extended_xmp,
    jpeg_with_iptc,
    jpeg_with_xmp,
    png,
    png_with_text,
    segment,
    webp,
    webp_with,
    xmp_block,
)
from support.image_files import encoded, png_chunk, smooth_image, with_chunks

from aigid.evidence import Finding, Says, Strength, read_evidence, strongest

WORKFLOW = {
    "links": [],
    "nodes": [
        {"type": "VAELoader", "widgets_values": ["vae.safetensors"]},
        {"type": "CheckpointLoaderSimple", "widgets_values": ["flux.safetensors"]},
    ],
}
FOOOCUS = {
    **{"prompt": "a fox", "base_model": "juggernautXL_v8", "seed": "12", "steps": 30},
    "version": "Fooocus v2.5.5",
}
SWARM = {"sui_image_params": {"prompt": "a fox", "model": "sdxl", "seed": 5, "steps": 8}}
INVOKE = {
    **{"app_version": "5.4.0", "generation_mode": "sdxl_txt2img", "positive_prompt": "a fox"},
    **{"model": {"name": "dreamshaper", "base": "sdxl"}, "seed": 3, "steps": 30},
}
DRAW_THINGS = {
    **{"c": "a fox", "uc": "", "seed": 8, "steps": 4, "model": "flux_1_schnell", "scale": 1},
    **{"sampler": "Euler A", "v2": {"seed": 8}},
}
POLLINATIONS = {
    **{"prompt": "a fox", "seed": 42, "model": "flux", "nologo": True, "nofeed": False},
    "isMature": False,
}
AIGC = {"Label": "1", "ContentProducer": "producer-1", "ProduceID": "id-2"}


def only(data: bytes) -> Finding:
    (finding,) = read_evidence(data)
    return finding


def comment(text: str, encoding: str, code: bytes = b"UNICODE\0") -> bytes:
    return code + text.encode(encoding)


A1111_FILES = {
    "tEXt": png_with_text(parameters=A1111),
    "zTXt": png_with_text(kind="zTXt", parameters=A1111),
    "iTXt": png_with_text(kind="iTXt", parameters=A1111),
    "iTXt, compressed": png_with_text(kind="iTXt, compressed", parameters=A1111),
    "UTF-16 BE": jpeg_with_exif(">", UserComment=comment(A1111, "utf-16-be")),
    "UTF-16 LE": jpeg_with_exif("<", UserComment=comment(A1111, "utf-16-le")),
    "UTF-16 BE in LE": jpeg_with_exif("<", UserComment=comment(A1111, "utf-16-be")),
    "UTF-16 LE in BE": jpeg_with_exif(">", UserComment=comment(A1111, "utf-16-le")),
    "UTF-16 with a mark": jpeg_with_exif(UserComment=comment(A1111, "utf-16")),
    "UTF-8 called UNICODE": jpeg_with_exif(UserComment=comment(A1111, "utf-8")),
    "ASCII": jpeg_with_exif(UserComment=comment(A1111, "ascii", b"ASCII\0\0\0")),
    "no code": jpeg_with_exif(UserComment=comment(A1111, "utf-8", b"\0" * 8)),
    "bare": jpeg_with_exif(UserComment=A1111.encode()),
    "WebP": webp_with(b"EXIF", exif_block(UserComment=comment(A1111, "utf-16-be"))),
    "WebP with Exif00": webp_with(
        b"EXIF", b"Exif\0\0" + exif_block(UserComment=comment(A1111, "utf-16-be"))
    ),
    "PNG eXIf": with_chunks(
        png(), png_chunk(b"eXIf", exif_block(UserComment=comment(A1111, "utf-16-le")))
    ),
    "JPEG comment": jpeg_with(segment(0xFE, A1111.encode())),
    "ImageDescription": jpeg_with_exif(ImageDescription=A1111),
}


@pytest.mark.parametrize("place", A1111_FILES)
def test_parameters_are_read_wherever_they_stand(place: str) -> None:
    finding = only(A1111_FILES[place])
    assert (finding.kind, finding.says) == ("parameters", Says.AI)
    assert finding.strength is Strength.METADATA
    assert finding.source == "Stable Diffusion web UI"
    assert finding.details == {
        "prompt": "a lighthouse, (storm:1.2)",
        "negative_prompt": "blurry, text",
        "steps": "28",
        "seed": "4242",
        "sampler": "DPM++ 2M",
        "cfg_scale": "6.5",
        "size": "512x768",
        "model": "sd_xl_base_1.0",
        "model_hash": "6ce0161689",
    }


def test_a_prompt_in_other_letters_survives_utf_16() -> None:
    text = A1111.replace("a lighthouse", "灯台と嵐")
    for encoding in ("utf-16-be", "utf-16-le"):
        data = jpeg_with_exif(UserComment=comment(text, encoding))
        assert only(data).details["prompt"] == "灯台と嵐, (storm:1.2)"


@pytest.mark.parametrize("text", ["", "Steps: to the church", "Steps: 12", "a prompt, Seed: 4"])
def test_other_text_is_no_parameters(text: str) -> None:
    assert read_evidence(png_with_text(parameters=text, Description=text)) == ()


GENERATORS = [
    ("ComfyUI", png_with_text(prompt=GRAPH), ("sd15.safetensors", "a red boat", "77", "20")),
    ("ComfyUI", webp_with(b"EXIF", exif_block(Model="prompt:" + json.dumps(GRAPH))), None),
    ("ComfyUI", jpeg_with_exif(Make="Workflow: " + json.dumps(WORKFLOW)), None),
    ("ComfyUI", png_with_text(workflow=WORKFLOW), ("flux.safetensors", None, None, None)),
    ("Fooocus", png_with_text(parameters=FOOOCUS), ("juggernautXL_v8", "a fox", "12", "30")),
    ("SwarmUI", png_with_text(parameters=SWARM), ("sdxl", "a fox", "5", "8")),
    (
        "SwarmUI",
        jpeg_with_exif(UserComment=comment(json.dumps(SWARM), "utf-16-be")),
        ("sdxl", "a fox", "5", "8"),
    ),
    ("InvokeAI", png_with_text(invokeai_metadata=INVOKE), ("dreamshaper", "a fox", "3", "30")),
    ("Draw Things", png_with_text(Comment=DRAW_THINGS), ("flux_1_schnell", "a fox", "8", "4")),
    (
        "Pollinations",
        jpeg_with_exif(UserComment=comment(json.dumps(POLLINATIONS), "utf-8", b"ASCII\0\0\0")),
        ("flux", "a fox", "42", None),
    ),
    (
        "Pollinations",
        jpeg_with_exif(UserComment=comment(json.dumps(POLLINATIONS), "utf-16-le")),
        ("flux", "a fox", "42", None),
    ),
]


@pytest.mark.parametrize(("generator", "data", "expected"), GENERATORS)
def test_a_generator_s_json_is_read(
    generator: str, data: bytes, expected: tuple[str | None, ...] | None
) -> None:
    finding = only(data)
    assert (finding.says, finding.source) == (Says.AI, generator)
    if expected is not None:
        names = ("model", "prompt", "seed", "steps")
        assert tuple(finding.details.get(name) for name in names) == expected


def test_novelai_is_told_by_its_fields() -> None:
    data = png_with_text(
        Software="NovelAI", Source="NovelAI Diffusion V4", Comment=NOVEL, Title="AI generated image"
    )
    found = {finding.kind: finding for finding in read_evidence(data)}
    assert found["novelai"].details["prompt"] == "1girl"
    assert {finding.source for finding in found.values()} == {"NovelAI"}


def test_draw_things_in_xmp_is_read() -> None:
    text = json.dumps(DRAW_THINGS).replace('"', "&quot;")
    elements = f"<exif:UserComment><rdf:Alt><rdf:li>{text}</rdf:li></rdf:Alt></exif:UserComment>"
    data = jpeg_with_xmp('xmp:CreatorTool="Draw Things"', elements)
    kinds = {finding.kind for finding in read_evidence(data)}
    assert kinds == {"draw-things", "software"}


def test_a_prompt_with_settings_of_an_unknown_program_is_ai() -> None:
    finding = only(png_with_text(Comment={"prompt": "a fox", "seed": 1, "steps": 2}))
    assert (finding.kind, finding.says, finding.source) == ("generation-json", Says.AI, "")
    assert read_evidence(png_with_text(Comment={"prompt": "Where were you?", "id": 1})) == ()


LABELS = [
    jpeg_with_exif(UserComment=comment(json.dumps({"AIGC": AIGC}), "utf-8", b"ASCII\0\0\0")),
    jpeg_with_exif(ImageDescription=json.dumps({"AIGC": json.dumps(AIGC)})),
    png_with_text(AIGC=AIGC),
    png_with_text(AIGC={"AIGC": AIGC}),
    jpeg_with_xmp("TC260:AIGC='" + json.dumps(AIGC) + "'"),
    webp_with(b"XMP ", xmp_block("", f"<TC260:AIGC>{json.dumps(AIGC)}</TC260:AIGC>")),
]


@pytest.mark.parametrize("data", LABELS)
def test_the_aigc_label_is_ai_by_its_producer(data: bytes) -> None:
    finding = only(data)
    assert (finding.kind, finding.says) == ("aigc-label", Says.AI)
    assert finding.source == "producer-1"
    assert finding.details["produce_id"] == "id-2"


def test_an_aigc_label_of_suspicion_alone_says_nothing() -> None:
    assert only(png_with_text(AIGC={**AIGC, "Label": "2"})).says is Says.AI
    assert only(png_with_text(AIGC={**AIGC, "Label": "3"})).says is Says.NONE


SOURCE_TYPE_SAYS = {
    "trainedAlgorithmicMedia": Says.AI,
    "compositeWithTrainedAlgorithmicMedia": Says.EDITED,
    "algorithmicMedia": Says.NONE,
    "digitalCapture": Says.CAMERA,
    "computationalCapture": Says.CAMERA,
    "digitalCreation": Says.NONE,
}


@pytest.mark.parametrize("name", SOURCE_TYPE_SAYS)
def test_a_digital_source_type_says_what_it_stands_for(name: str) -> None:
    says = SOURCE_TYPE_SAYS[name]
    element = "<Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType>"
    resource = '<Iptc4xmpExt:DigitalSourceType rdf:resource="{}"/>'
    url = SOURCE_TYPES + name
    for data in (
        jpeg_with_xmp(f'Iptc4xmpExt:DigitalSourceType="{url}"'),
        jpeg_with_xmp("", element.format(url.replace("http:", "https:"))),
        jpeg_with_xmp("", element.format(name)),
        jpeg_with_xmp("", resource.format(url)),
        jpeg_with_extended_xmp(xmp_block("", element.format(url))),
        webp_with(b"XMP ", xmp_block("", element.format(url))),
        png_with_text(
            kind="iTXt", **{"XML:com.adobe.xmp": xmp_block("", element.format(url)).decode()}
        ),
    ):
        finding = only(data)
        assert (finding.kind, finding.says) == ("digital-source-type", says)
        assert finding.details == {"digital_source_type": name}


PROGRAMS = [
    (jpeg_with_iptc(credit="Made with Google AI"), "credit", Says.AI, "Google AI"),
    (jpeg_with_xmp('photoshop:Credit="Made with Google AI"'), "credit", Says.AI, "Google AI"),
    (jpeg_with_xmp('photoshop:Credit="Edited with Google AI"'), "credit", Says.EDITED, None),
    (jpeg_with_xmp('xmp:CreatorTool="Adobe Firefly 3.0"'), "software", Says.AI, "Adobe Firefly"),
    (jpeg_with_xmp('xmp:CreatorTool="Midjourney"'), "software", Says.AI, "Midjourney"),
    (jpeg_with_exif(Software="DALL-E 3"), "software", Says.AI, "OpenAI"),
    (jpeg_with_exif(Software="DALL·E"), "software", Says.AI, "OpenAI"),
    (jpeg_with_iptc(source="dalle3"), "software", Says.AI, "OpenAI"),
    (jpeg_with_xmp('xmp:CreatorTool="Adobe Photoshop 26.1"'), "software", Says.EDITED, None),
    (jpeg_with_exif(Software="GIMP 2.10"), "software", Says.EDITED, "GIMP 2.10"),
]


@pytest.mark.parametrize(("data", "kind", "says", "source"), PROGRAMS)
def test_a_program_s_name_says_what_it_does(
    data: bytes, kind: str, says: Says, source: str | None
) -> None:
    finding = only(data)
    assert (finding.kind, finding.says) == (kind, says)
    assert source is None or finding.source == source


@pytest.mark.parametrize("name", ["Matplotlib 3.9", "Ver.1.00", "Gemini Salon", "www.flux.org"])
def test_other_programs_say_nothing(name: str) -> None:
    assert read_evidence(jpeg_with_exif(Software=name)) == ()


@pytest.mark.parametrize(
    "name",
    ["Kendall E. Smith", "Maria Dalle Valle", "Affinity Magazine", "Acorn/Corel", "Meta AIR"],
)
def test_people_and_agencies_are_no_programs(name: str) -> None:
    for data in (
        jpeg_with_iptc(credit=name, source=name),
        jpeg_with_xmp(f'photoshop:Credit="{name}"'),
    ):
        assert read_evidence(data) == ()


def test_midjourney_s_description_has_its_prompt_and_job() -> None:
    job = "5f37e182-3687-462e-a7fb-573462780391"
    text = f"a red boat --ar 3:2 --v 6.1 Job ID: {job}"
    elements = f"<dc:description><rdf:Alt><rdf:li>{text}</rdf:li></rdf:Alt></dc:description>"
    files = (
        png_with_text(Description=text, Author="somebody"),
        jpeg_with_exif(ImageDescription=text),
        jpeg_with_iptc(caption=text),
        jpeg_with_xmp("", elements),
    )
    for data in files:
        finding = only(data)
        assert (finding.source, finding.says) == ("Midjourney", Says.AI)
        assert finding.details["job_id"] == job
        assert finding.details["model"] == "6.1"


CAMERA = {"Make": "NIKON CORPORATION", "Model": "NIKON D5100"}


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with_exif(**CAMERA),
        jpeg_with_exif(">", **CAMERA),
        webp_with(b"EXIF", exif_block(**CAMERA)),
        with_chunks(png(), png_chunk(b"eXIf", exif_block(**CAMERA))),
    ],
)
def test_camera_exif_is_camera_with_the_weakest_strength(data: bytes) -> None:
    finding = only(data)
    assert (finding.kind, finding.says) == ("camera", Says.CAMERA)
    assert finding.strength is Strength.CAMERA_EXIF
    assert finding.found_in == "EXIF Make and Model"


def test_exif_that_pillow_wrote_is_read() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 70D"
    exif.get_ifd(0x8769)[0x9286] = comment(A1111, "utf-16-be")
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(smooth_image(24, 16), kind, exif=exif)
        found = {finding.kind: finding for finding in read_evidence(data)}
        assert found["camera"].source == "Canon EOS 70D"
        assert found["parameters"].details["seed"] == "4242"


def test_a_camera_beside_a_graph_is_a_contradiction_and_the_graph_is_stronger() -> None:
    data = with_chunks(png_with_text(prompt=GRAPH), png_chunk(b"eXIf", exif_block(**CAMERA)))
    findings = read_evidence(data)
    assert [finding.kind for finding in findings] == ["comfyui", "camera", "contradiction"]
    assert findings[2].details == {"ai": "comfyui ComfyUI", "camera": "camera NIKON D5100"}
    assert strongest(findings) is findings[0]


def test_a_camera_that_was_edited_is_no_contradiction() -> None:
    data = jpeg_with_exif(**CAMERA, Software="Adobe Photoshop Lightroom 9")
    assert [finding.says for finding in read_evidence(data)] == [Says.EDITED, Says.CAMERA]


NOTHING = [jpeg(), png(), webp(), b"", b"GIF89a", b"GIF89a" + bytes(9), b"\xff\xd8", iptc_block()]


@pytest.mark.parametrize("data", NOTHING)
def test_a_file_without_metadata_has_no_findings(data: bytes) -> None:
    assert read_evidence(data) == ()


@pytest.mark.parametrize("kind", ["tEXt", "zTXt"])
def test_blocks_that_imagemagick_wrote_as_digits_are_read(kind: str) -> None:
    blocks = {
        "exif": b"Exif\0\0" + exif_block(UserComment=comment(A1111, "utf-16-be")),
        "APP1": b"http://ns.adobe.com/xap/1.0/\0" + xmp_block('xmp:CreatorTool="Midjourney"'),
        "xmp": xmp_block('xmp:CreatorTool="Midjourney"'),
        "iptc": iptc_block(credit="Made with Google AI"),
    }
    for name, block in blocks.items():
        text = f"\n{name}\n{len(block):8}\n{block.hex()}\n"
        data = png_with_text(kind=kind, **{f"Raw profile type {name}": text})
        assert only(data).says is Says.AI, name


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "HEIF"])
def test_other_formats_have_exif_and_xmp_too(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 70D"
    xmp = xmp_block('xmp:CreatorTool="Midjourney"')
    if kind == "TIFF":
        exif[0x02BC] = xmp
        data = encoded(smooth_image(64, 48), kind, exif=exif)
    else:
        data = encoded(smooth_image(64, 48), kind, exif=exif.tobytes(), xmp=xmp)
    findings = read_evidence(data)
    assert [finding.kind for finding in findings] == ["software", "camera", "contradiction"]
    assert (findings[0].source, findings[1].source) == ("Midjourney", "Canon EOS 70D")
    assert read_evidence(encoded(smooth_image(64, 48), kind)) == ()


def gif_with(*blocks: bytes) -> bytes:
    """Return a GIF with extensions before its image."""
    data = encoded(smooth_image(24, 16), "GIF")
    at = data.index(b"\x2c", 13 + 3 * 256)
    return data[:at] + b"".join(blocks) + data[at:]


def blocks_of(content: bytes) -> bytes:
    parts = [content[at : at + 255] for at in range(0, len(content), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


XMP_IN_GIF = (
    b"!\xff\x0bXMP DataXMP"
    + xmp_block(f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPES}trainedAlgorithmicMedia"')
    + b"\1"
    + bytes(range(255, -1, -1))
    + b"\0"
)


def test_gif_has_comments_and_xmp() -> None:
    comment_block = b"!\xfe" + blocks_of(A1111.encode())
    (finding,) = read_evidence(gif_with(comment_block))
    assert (finding.kind, finding.found_in) == ("parameters", "GIF comment")
    other = b"!\xf9\4\0\0\0\0\0"
    found = read_evidence(gif_with(other, XMP_IN_GIF, comment_block))
    assert {finding.kind for finding in found} == {"digital-source-type", "parameters"}
    behind = encoded(smooth_image(24, 16), "GIF")[:-1] + XMP_IN_GIF + b";"
    assert [finding.says for finding in read_evidence(behind)] == [Says.AI]
    assert read_evidence(encoded(smooth_image(24, 16), "GIF")) == ()


@pytest.mark.parametrize("cut", range(0, 1200, 37))
def test_a_gif_that_is_cut_is_read(cut: int) -> None:
    whole = gif_with(XMP_IN_GIF)
    assert all(finding.says is Says.AI for finding in read_evidence(whole[: len(whole) - cut]))


def test_iptc_s_fields_of_generated_images_are_read() -> None:
    attributes = 'Iptc4xmpExt:AISystemUsed="A Model" Iptc4xmpExt:AIPromptInformation="a fox"'
    finding = only(jpeg_with_xmp(attributes))
    assert (finding.kind, finding.says, finding.source) == ("iptc-ai", Says.AI, "A Model")
    assert finding.details == {"model": "A Model", "prompt": "a fox"}


def test_a_program_in_xmp_s_history_is_named_once() -> None:
    saves = '<rdf:li xmlns:stEvt="a" stEvt:softwareAgent="Adobe Firefly"/>' * 5
    finding = only(jpeg_with_xmp("", f"<xmp:History><rdf:Seq>{saves}</rdf:Seq></xmp:History>"))
    assert (finding.says, finding.source) == (Says.AI, "Adobe Firefly")
