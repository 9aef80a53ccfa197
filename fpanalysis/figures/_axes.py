"""What the plots share: colours, new axes, and labels that stand in a legend once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: colours that keep apart in print and for the colour-blind (Okabe & Ito)
TARGET, NOISY, SILENT, SECOND, THIRD = "0.35", "#0072B2", "#D55E00", "#009E73", "#CC79A7"
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False, "fontsize": "small"}
PANELS = 12  #: at most, in one figure


def new_axes(ax: Axes | None, width: float = 4.8) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, 3.6), layout="constrained")[1]


def once(ax: Axes, label: str) -> str | None:
    return None if label in ax.get_legend_handles_labels()[1] else label
