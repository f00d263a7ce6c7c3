"""A picture shows what matplotlib drew, whatever the size of the figure."""

from __future__ import annotations

import io

import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageChops

from kvlab.instruments.picture import png_of


@pytest.mark.parametrize(
    "width", [8.0, 8.29, 8.5, 9.2, 9.62]
)  # 9.2 * 100 is a little less than 920
@pytest.mark.parametrize("height", [0.5, 1.15])
def test_each_pixel_stands_where_it_was_drawn(width: float, height: float) -> None:
    figure = Figure(figsize=(width, height), dpi=100)
    figure.add_axes((0, 0, 1, 1)).plot([0, 1], color="black", linewidth=10)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=200)
    ours, on_page = png_of(figure)
    full, shown = (Image.open(file).convert("RGBA") for file in (drawn, io.BytesIO(ours)))
    assert shown.size == full.size
    assert ImageChops.difference(full, shown).convert("L").getextrema()[1] < 32  # a palette
    assert on_page == {"width": round(width * 100), "height": round(height * 100)}
