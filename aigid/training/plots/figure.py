"""What all plots share: the canvas, the colours, how text is drawn and the file is written."""

import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
GREY = "#777777"
_DPI = 120
_LONGEST_NAME = 24


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: "Figure", title: str, subject: str) -> None:
    """Write the title, and below it the model and data that the plot is about."""
    columns = int(11 * figure.get_figwidth())
    lines = [title, *textwrap.wrap(subject, columns, max_lines=2, placeholder=" ...")]
    figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)


def draw_literally(texts: "Iterable[Text]") -> None:
    """Have names drawn as they are: a dollar sign in one begins no formula."""
    for text in texts:
        text.set_parse_math(False)


def short_name(name: str) -> str:
    """Return a name, cut in the middle where it is too long for an axis."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 3) // 2
    return f"{name[:half]}...{name[-half:]}"


def save_figure(figure: "Figure", file: Path) -> None:
    """Write a figure as a PNG. Characters that the font lacks are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(file, dpi=_DPI, bbox_inches="tight")
