"""Growth of time, or memory, with work: the slope on log axes, and the plot."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxkd.results.document import Plot
from jaxkd.results.plots import PALETTE, STYLE

Line = tuple[Sequence[float], Sequence[float]]


def slope(work: Sequence[float], seconds: Sequence[float]) -> float:
    """The power of the work that the seconds grow with: least squares on the logarithms of both."""
    return float(np.polyfit(np.log(work), np.log(seconds), 1)[0])


def growth_plot(title: str, name: str, panels: Mapping[str, Mapping[str, Line]], y: Mapping[str, str] = MappingProxyType({})) -> Plot:
    """Seconds over work on log axes, one panel for each kind of work, with the slope of each line.

    Args:
      title: heading.
      name: of the file.
      panels: {what is on the x axis: {line: (work, seconds)}}.
      y: {what is on the x axis: what is on the y axis}, where that is not seconds.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
        for axes, (x, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            for (line, (work, seconds)), colour in zip(lines.items(), PALETTE, strict=False):
                axes.loglog(work, seconds, marker="o", markersize=4, color=colour, label=f"{line}: slope {slope(work, seconds):.2f}")
            axes.set(xlabel=x, ylabel=y.get(x, "seconds"))
            axes.legend(fontsize=8)
    words = "; ".join(f"{line} over {x}: slope {slope(*values):.2f}" for x, lines in panels.items() for line, values in lines.items())
    return Plot(title, name, f"On log axes. {words}.", figure)
