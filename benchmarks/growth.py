"""Growth of time, or memory, with work: the slope on log axes, and the plot."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from jaxkd.results.document import Plot
from jaxkd.results.plots import PALETTE, STYLE

Line = tuple[Sequence[float], Sequence[float]]
COLUMNS = 3


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
        rows, columns = -(-len(panels) // COLUMNS), min(len(panels), COLUMNS)
        figure = Figure(figsize=(4.5 * columns, 4.2 * rows), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        for axes, (x, lines) in zip(places, panels.items(), strict=False):
            for (line, (work, seconds)), colour in zip(lines.items(), PALETTE, strict=False):
                axes.loglog(work, seconds, marker="o", markersize=4, color=colour, label=f"{line}: slope {slope(work, seconds):.2f}")
            low, high = axes.get_ylim()
            wider = max(1, 10 * low / high) ** 0.5  # a decade at least: what does not grow is to look flat
            axes.set(xlabel=x, ylabel=y.get(x, "seconds"), ylim=(low / wider, high * wider))
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    words = "; ".join(f"{line} over {x}: slope {slope(*values):.2f}" for x, lines in panels.items() for line, values in lines.items())
    return Plot(title, name, f"On log axes. {words}.", figure)
