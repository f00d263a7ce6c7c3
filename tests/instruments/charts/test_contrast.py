"""Every ink must be readable on white and on JupyterLab's dark background (WCAG's contrast)."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.text import Text

from kvlab.instruments import charts
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.style import STYLE, Drawing
from kvlab.instruments.palette import COLOURS, FAINT, GRID, IDLE, INK, ON_TINT, OTHERS, TINTS

WHITE, DARK = "#ffffff", "#111111"
BEST = 4.35  # what one colour can reach on both


def luminance(colour: str) -> float:
    """WCAG 2, relative luminance of sRGB."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot((0.2126, 0.7152, 0.0722), channels))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def worst(colour: str) -> float:
    return min(contrast(colour, WHITE), contrast(colour, DARK))


def test_the_formula_is_the_standards() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    grey = max((f"#{i:02x}{i:02x}{i:02x}" for i in range(256)), key=worst)
    assert worst(grey) == pytest.approx(BEST, abs=0.05)


@pytest.mark.parametrize("colour", sorted({*COLOURS.values(), *OTHERS, FAINT}))
def test_lines_and_marks_stand_out_on_both(colour: str) -> None:
    assert worst(colour) >= 3.4


@pytest.mark.parametrize("colour", sorted({*COLOURS.values(), *OTHERS} - {INK}))
def test_names_beside_their_lines_are_readable_on_both(colour: str) -> None:
    assert worst(colour) >= 3.85


def test_text_is_as_readable_on_both_as_one_colour_can_be() -> None:
    texts = {STYLE[key] for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")}
    assert texts == {INK}
    assert worst(INK) >= BEST - 0.1


@pytest.mark.parametrize("tint", TINTS.values())
def test_words_on_a_tint_are_readable_on_any_page(tint: str) -> None:
    assert to_rgba(tint)[3] == 1
    assert contrast(ON_TINT, tint) >= 4.5
    assert contrast(INK, tint) < 4.5  # why there is an ink of its own


def test_what_is_seen_through_is_a_mid_grey() -> None:
    for shade in (GRID, IDLE):
        assert worst(shade[:7]) >= 3.4
        assert 0 < to_rgba(shade)[3] < 1


def figures() -> list[Figure]:
    frame = pd.DataFrame(
        {"size": [1, 2] * 3, "who": ["naive"] * 2 + ["hardened"] * 2 + ["a peer"] * 2, "ms": 2.0}
    )
    line = charts.lines(
        frame, x="size", y="ms", by="who", title="t", xlabel="x", ylabel="y (ms)", limit=1.0
    )
    bar = charts.bars(frame, x="size", y="ms", by="who", title="t", ylabel="y (ms)", remark="r")
    note(line.axes[0], "added when the style's context has ended")
    return [line, bar]


@pytest.mark.parametrize("figure", figures(), ids=["lines", "bars"])
def test_a_figure_has_no_paper_and_only_readable_inks(figure: Figure) -> None:
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        assert to_rgba(patch.get_facecolor())[3] == 0
    for text in figure.findobj(Text):
        assert text.get_bbox_patch() is None
        assert worst(to_hex(text.get_color())) >= 3.85, text
    for line in figure.findobj(Line2D):
        assert worst(to_hex(line.get_color())) >= 3.4, line


def test_a_picture_has_twice_the_pixels_of_its_place_on_the_page() -> None:
    figure = figures()[0]
    assert isinstance(figure, Drawing)
    png, place = figure._repr_png_()
    pixels = imread(io.BytesIO(png))
    assert pixels.shape == (2 * place["height"], 2 * place["width"], 4)
    assert place["width"] == 800
    assert pixels[0, 0, 3] == 0


def test_the_picture_is_shown_whatever_matplotlib_has_registered() -> None:
    shell = InteractiveShell.instance()
    try:
        shell.display_formatter.formatters["image/png"].for_type(Figure, lambda _: b"another")
        with capture_output() as shown:
            shell.display_formatter.format(figures()[0])
    finally:
        InteractiveShell.clear_instance()
    (output,) = shown.outputs
    assert base64.b64decode(output.data["image/png"]).startswith(b"\x89PNG")
    assert output.metadata["image/png"]["width"] == 800
