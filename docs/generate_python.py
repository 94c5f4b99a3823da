"""Write docs/python.md from the signatures and docstrings of aigid's public names.

`python docs/generate_python.py` writes the page. A test fails if the page is stale.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_overloads, get_type_hints

import aigid
from aigid.api import ScanOptions
from aigid.fetch import ImageInput
from aigid.results import ErrorExample, ModelIdentity, RunFigures

PAGE = Path(__file__).parent / "python.md"
_WIDTH = 90
_SECTIONS = ("Args", "Returns", "Raises", "Example")

INTRODUCTION = """# Python

<!-- Written by docs/generate_python.py from docstrings: run `make docs` instead of editing. -->

Two names do the work. `aigid.Detector` answers for a few images in memory. `aigid.scan` does so
for whole manifests, and writes the answers into a folder of Parquet files. Everything that
`aigid.__all__` lists is typed for mypy and pyright, and documented below. `import aigid` is quick:
NumPy, PyArrow and ONNX Runtime are imported on first use.

## Detect a few images

```python
import aigid

detector = aigid.Detector.load()  # the demo model; or a model repository, or "triton://gpu1:8001"
detections = detector.detect(["one.jpg", "two.png"], ["a red car", "two dogs on a beach"])
for detection in detections:
    if detection.error:
        print(detection.error.code, detection.error.detail)
    else:
        print(detection.p_ai, detection.source)
```

An image that cannot be read is its own detection's `error`; it does not affect the others. Images
may come from a generator, which is read in batches:

```python
from pathlib import Path

detections = detector.detect(Path(".").glob("*.jpg"))
```

The demo model is not for real decisions. `detector.notice` has its notice, and loading it warns
once. To silence the warning:

```python
import warnings

warnings.simplefilter("ignore", aigid.ModelNoticeWarning)
```

## Scan a manifest

```python
summary = aigid.scan("manifest.parquet", out="results/", keep=["id"])
print(f"{summary.ai} of {summary.scored} images are AI-generated")
```

The same call again scans only what is missing, so it resumes a scan that was interrupted. Rows with
an error do not raise. Decide yourself how many are too many (the command line has
`--max-error-rate` for that):

```python
if summary.error_rate > 0.05:
    for code, count in summary.errors.items():
        example = summary.error_examples[code]
        print(f"{count} rows are {code}, as row {example.row}: {example.detail}")
```

[Scan](scan.md) describes manifests, columns and results. They are the same from Python.

## Read what files say of their origin

```python
findings = aigid.read_evidence(Path("one.jpg").read_bytes())
for finding in findings:
    print(finding.says, finding.kind, finding.source, finding.details.get("prompt"))
```

No model is needed for that. `aigid.Detector.load(evidence=True)` gives the findings beside the
score, in `Detection.findings`. [Evidence](evidence.md) describes what is read.

## Catch errors

```python
try:
    aigid.scan("manifest.parquet", out="results/", threshold=0.9)
except aigid.ResumeMismatchError as error:
    print(f"another scan is in that folder: {error}")
except aigid.AigidError as error:
    print(f"the scan could not go on: {error}")
```

Every error that aigid raises on purpose is an `AigidError`. A wrong argument is a `UsageError`,
whose text names the parameter.
"""


def render() -> str:
    """Return the page."""
    parts = [
        INTRODUCTION,
        "## Reference\n",
        *_class_with_methods(aigid.Detector),
        *_record(aigid.Detection),
        *_record(aigid.RowError),
        *_enum(aigid.Mode),
        *_enum(aigid.Verdict),
        *_enum(aigid.ErrorCode),
        _heading("read_evidence"),
        _code(_signature("aigid.read_evidence", aigid.read_evidence)),
        *_docstring(aigid.read_evidence),
        *_class_with_methods(aigid.EvidenceReader),
        *_record(aigid.Finding),
        *_enum(aigid.Says),
        *_enum(aigid.Strength),
        *_scan(),
        *_record(aigid.ScanConfig),
        *_record(aigid.TritonConfig),
        *_record(aigid.TlsConfig),
        *_record(aigid.RayConfig),
        *_record(aigid.ScanSummary),
        *(line for kind in (ModelIdentity, ErrorExample, RunFigures) for line in _record(kind, 4)),
        *_errors(),
        _heading(aigid.ModelNoticeWarning.__name__),
        *_docstring(aigid.ModelNoticeWarning),
        "### `aigid.__version__`\n",
        "The version of aigid, as text.\n",
    ]
    return "\n".join(parts)


def _heading(name: str, level: int = 3) -> str:
    return f"{'#' * level} `{name}`\n"


def _class_with_methods(kind: type) -> Iterator[str]:
    """Yield a class, then its methods and properties in the order of the source."""
    yield _heading(kind.__name__)
    yield from _docstring(kind)
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        title = f"{kind.__name__}.{name}"
        if isinstance(member, property):
            yield _heading(title, 4)
            yield _code(f"{title}: {_type_text(get_type_hints(member.fget)['return'])}")
            yield from _docstring(member)
        elif callable(getattr(kind, name)):
            yield _heading(title, 4)
            yield _code(_signature(title, getattr(kind, name)))
            yield from _docstring(getattr(kind, name))


def _scan() -> Iterator[str]:
    yield _heading("scan")
    yield from (_code(_signature("aigid.scan", overload)) for overload in get_overloads(aigid.scan))
    yield from _docstring(aigid.scan)


def _record(kind: type[Any], level: int = 3) -> Iterator[str]:
    """Yield a dataclass with a table of its fields, then its public methods."""
    yield _heading(kind.__name__, level)
    yield from _docstring(kind)
    types = get_type_hints(kind)
    yield "| field | type | default |\n| --- | --- | --- |"
    for field in dataclasses.fields(kind):
        kind_text = _type_text(types[field.name]).replace("|", "\\|")
        default = f"`{_default(field)}`" if _default(field) else ""
        yield f"| `{field.name}` | `{kind_text}` | {default} |"
    yield ""
    for name in vars(kind) if level == 3 else ():
        if not name.startswith("_") and inspect.isroutine(getattr(kind, name, None)):
            title = f"{kind.__name__}.{name}"
            yield _heading(title, level + 1)
            yield _code(_signature(title, getattr(kind, name)))
            yield from _docstring(getattr(kind, name))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _shorten(repr(field.default))
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.default_factory.__name__}()"
    return ""


def _enum(kind: type[Enum]) -> Iterator[str]:
    yield _heading(kind.__name__)
    yield from _docstring(kind)
    yield "| value | meaning |\n| --- | --- |"
    meanings = _attribute_docstrings(kind)
    for member in kind:
        # The number of a strength means nothing but its place.
        shown = member.value if isinstance(member, str) else member.name
        yield f"| `{shown}` | {meanings[member.name]} |"
    yield ""


def _attribute_docstrings(kind: type) -> dict[str, str]:
    """Return the strings that follow a class's attributes in its source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        before.targets[0].id: inspect.cleandoc(after.value.value).replace("\n", " ")
        for before, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(before, ast.Assign)
        and isinstance(before.targets[0], ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def _errors() -> Iterator[str]:
    yield "### Errors\n"
    yield from _error_tree(aigid.AigidError, 0)
    yield ""


def _error_tree(error: type[aigid.AigidError], depth: int) -> Iterator[str]:
    text = " ".join(inspect.getdoc(error).split()) if error.__doc__ else ""
    yield textwrap.fill(
        f"- `{error.__name__}`: {text}",
        width=100,
        initial_indent="  " * depth,
        subsequent_indent="  " * (depth + 1),
    )
    for kind in error.__subclasses__():
        if kind.__name__ in aigid.__all__:
            yield from _error_tree(kind, depth + 1)


def _code(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return a signature on one line, or with a line for each parameter."""
    signature = inspect.signature(function)
    lines = list(_parameter_lines(signature))
    returned = _type_text(signature.return_annotation)
    text = f"{name}({', '.join(lines)}) -> {returned}"
    if len(text) <= _WIDTH:
        return text
    return f"{name}(\n{''.join(f'    {line},' + chr(10) for line in lines)}) -> {returned}"


def _parameter_lines(signature: inspect.Signature) -> Iterator[str]:
    """Yield each parameter, with the marks of positional-only and keyword-only ones."""
    kinds, before = inspect.Parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD
    for parameter in signature.parameters.values():
        if before is kinds.POSITIONAL_ONLY and parameter.kind is not kinds.POSITIONAL_ONLY:
            yield "/"
        if before is not kinds.KEYWORD_ONLY and parameter.kind is kinds.KEYWORD_ONLY:
            yield "*"
        before = parameter.kind
        if parameter.kind is kinds.VAR_KEYWORD:
            yield from _option_lines()
        elif parameter.name != "self":
            yield _shorten(str(parameter))


def _option_lines() -> Iterator[str]:
    """Yield the options of `aigid.scan`, with the defaults of ScanConfig."""
    fields = {field.name: field for field in dataclasses.fields(aigid.ScanConfig)}
    for name, kind in get_type_hints(ScanOptions).items():
        yield f"{name}: {_type_text(kind)} = {_default(fields[name])}"


def _type_text(kind: object) -> str:
    return _shorten(inspect.formatannotation(kind))


def _shorten(text: str) -> str:
    """Drop modules, name the union of all forms of an image, and show the values of enums."""
    text = text.replace(str(ImageInput), "ImageInput")
    text = re.sub(r"(?:[A-Za-z_]\w*\.)+(?=[A-Z])", "", text)
    return re.sub(r"<\w+: ('[^']*')>", r"\1", text)


def _docstring(described: object) -> Iterator[str]:
    """Yield a docstring as Markdown, with its sections as lists and code."""
    for section, text in _split_sections(inspect.getdoc(described) or ""):
        if section == "Example":
            code = re.sub(r"^(>>>|\.\.\.) ?", "", text, flags=re.MULTILINE)
            code = code.replace("import aigid\n", "import aigid\n\n", 1)
            yield f"```python\n{code}\n```\n"
        elif section in ("Args", "Raises"):
            yield f"{'Parameters' if section == 'Args' else 'Raises'}:\n"
            yield "".join(_items(text))
        elif section == "Returns":
            yield f"Returns: {text[0].lower()}{text[1:]}\n"
        else:
            yield f"{text}\n"


def _split_sections(text: str) -> Iterator[tuple[str, str]]:
    pieces = re.split(rf"^({'|'.join(_SECTIONS)}):\n", text, flags=re.MULTILINE)
    yield "", pieces[0].strip()
    for section, body in zip(pieces[1::2], pieces[2::2], strict=True):
        yield section, textwrap.dedent(body).strip()


def _items(text: str) -> Iterator[str]:
    """Yield a list item for each "name: text" of a section."""
    for item in re.split(r"\n(?=\S)", text):
        name, _, body = item.partition(":")
        yield textwrap.fill(
            f"- `{name}`: {' '.join(body.split())}", width=100, subsequent_indent="  "
        )
        yield "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
