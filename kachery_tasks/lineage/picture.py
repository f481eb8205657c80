"""A lineage as a small picture for notebooks."""

from __future__ import annotations

from ..drawing.folding import folded
from ..drawing.small import drawn, nearest
from .boxes import figure_of
from .model import Lineage

_MOST = 12  # boxes


def picture(lineage: Lineage) -> str:
    """An SVG of a dozen boxes at most: equal jobs share one, and what is far away is only counted."""
    return drawn(nearest(folded(figure_of(lineage), _MOST, _MOST), _MOST, up=lineage.up))
