"""From statistics and cards to one self-contained HTML page under a strict policy."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

_TEMPLATES = files("aigid.report") / "templates"
# Plotly puts a style sheet for maps into the page, unless an element has this id; a report has no
# maps, and the page's policy would refuse the sheet.
_GUARD = re.compile(r'if\(!document\.getElementById\("([0-9a-f]{64})"\)\)')
# The only style that is not the page's own: Plotly makes an empty sheet and adds rules to it.
_EMPTY = ""


@dataclass(frozen=True)
class _Inlined:
    """Text that stands in the page, and its hash for the page's policy."""

    text: str

    @property
    def source(self) -> str:
        """The hash as Content-Security-Policy has it."""
        digest = hashlib.sha256(self.text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


# Control characters but for tabs and line ends, halves of surrogate pairs, and characters that
# turn the direction of the text that follows.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def render_page(context: dict[str, Any], charts: dict[str, dict[str, Any]]) -> bytes:
    """Return the page. Everything in `context` and `charts` is escaped."""
    style, script = (_Inlined(_read(name)) for name in ("report.css", "report.js"))
    plotly = _Inlined(get_plotlyjs())
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src {style.source} {_Inlined(_EMPTY).source}",
            f"script-src {plotly.source} {script.source}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    page = (
        _environment()
        .get_template("report.html")
        .render(
            context,
            policy=policy,
            style=Markup(style.text),
            script=Markup(script.text),
            plotly=Markup(plotly.text),
            guards=_GUARD.findall(plotly.text),
            charts=Markup(_as_json(charts)),
            chart_names=set(charts),
        )
    )
    return page.encode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("aigid.report"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["percent"] = _percent
    environment.filters["score"] = _score
    environment.filters["words"] = lambda text: text.replace("_", " ")
    return environment


def _visible(value: Any) -> Any:
    """Return a text with characters that hide or turn text as escapes; all else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), value)


def _percent(share: float) -> str:
    """Return a share in per cent, in which few are not none and nearly all are not all."""
    if 0 < share < 0.0005:
        return "< 0.1\u00a0%"
    if 0.9995 <= share < 1:
        return "> 99.9\u00a0%"
    return f"{share:.1%}".replace("%", "\u00a0%")


def _score(score: float) -> str:
    """Return a score in which a high one is not 1 and a low one not 0."""
    if 0.9995 <= score < 1:
        return "> 0.999"
    return "< 0.001" if 0 < score < 0.0005 else f"{score:.3f}"


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _visible_in(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _visible_in(value) for name, value in values.items()}
    return list(map(_visible_in, values)) if isinstance(values, list) else _visible(values)


def _as_json(values: Any) -> str:
    """Return JSON that is text in a script element, whatever strangers wrote in it."""
    text = json.dumps(_visible_in(values))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
