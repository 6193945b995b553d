"""The plots of a report, as matplotlib figures, and their two forms: SVG for the page (light or dark), PNG for Markdown."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from jaxkd.results.predictions import SIDES

INK = "#1b1f24"  # in the SVG it becomes the colour of the page's own text
BLUE, ORANGE, GREEN, PURPLE = "#2f7fd1", "#d9730d", "#2a9d6f", "#8f63c9"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, "#c2477f", "#7a8a1e", "#1797a6", "#a0694b")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "legend.frameon": False,
}
VALID_SCORES = ("accuracy", "map", "roc_auc", "f1_macro")
Curves = dict[str, dict[str, tuple[list[int], list[float]]]]


P = ParamSpec("P")
F = TypeVar("F")


def _styled(draw: Callable[P, F]) -> Callable[P, F]:
    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> F:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def _figure(width: float, height: float, rows: int, columns: int, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.08))
    axes = np.asarray(figure.subplots(rows, columns, sharey=sharey, squeeze=False))
    return figure, list(axes.ravel())


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.2, color=INK, linewidth=0.6)
    axes.set_axisbelow(True)


def _lines(axes: Axes, series: list[tuple[str, tuple[list[int], list[float]]]]) -> None:
    for index, (name, (steps, values)) in enumerate(series):
        few = len(steps) < 30
        axes.plot(steps, values, label=name, color=PALETTE[index % len(PALETTE)], linewidth=1.6, marker="o" if few else None, markersize=3.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if series:
        axes.legend(loc="best", fontsize=9)
    else:
        axes.text(0.5, 0.5, "nothing was logged", transform=axes.transAxes, ha="center", va="center")


@_styled
def training_curves(curves: Curves) -> Figure:
    """Losses of the training split, and the validation scores, over the steps.

    Args:
      curves: {split: {name: (steps, values)}}, as `jaxkd.results.predictions.read_curves` returns it.
    """
    figure, (left, right) = _figure(9.0, 3.4, 1, 2)
    train, valid = curves.get("train", {}), curves.get("valid", {})
    _lines(left, [(f"train {name}", line) for name, line in sorted(train.items()) if "loss" in name])
    _label(left, "Training losses", "step", "loss")
    _lines(right, [(f"valid {name}", line) for name, line in sorted(valid.items()) if name in VALID_SCORES])
    _label(right, "Validation scores", "step", "score")
    right.set_ylim(0.0, 1.0)
    return figure


@_styled
def distance_curves(curves: Curves) -> Figure | None:
    """The distance between features and embedding over the steps, train and valid, and what they share on valid; None if the run logged no distance."""
    series = [(f"{split} {name}", line) for split in ("train", "valid") for name, line in sorted(curves.get(split, {}).items()) if "distance" in name]
    if not series:
        return None
    figure, (left, right) = _figure(9.0, 3.2, 1, 2)
    shared = [pair for pair in series if "distance_correlation" in pair[0]]
    _lines(left, [pair for pair in series if pair not in shared])
    _label(left, "Distance to the teacher's embedding", "step", "distance")
    _lines(right, shared)
    _label(right, "Bias-corrected distance correlation", "step", "$R^2$")
    return figure


@_styled
def singular_values(layers: dict[str, list[float]]) -> Figure:
    """The singular values of each matrix of a transformation by their rank, on a logarithmic axis: how many directions of the embedding it passes on.

    Args:
      layers: {name: descending}; zeros are left out.
    """
    figure, (axes,) = _figure(6.0, 3.2, 1, 1)
    _lines(axes, [(layer, (list(range(1, len(values) + 1)), [value or np.nan for value in values])) for layer, values in layers.items()])
    _label(axes, "Singular values of the transformation", "rank", "singular value")
    axes.set_yscale("log")
    return figure


@_styled
def class_scores(classes: Sequence[str], panels: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Average precision of each class, one panel a split; the points of the student and of what it is measured against joined by a line.

    Args:
      classes: K names.
      panels: {split: {"student": float [K], and at most one other side of `SIDES`: float [K]}}; NaN for a class without positives.
    """
    figure, axes = _figure(9.0, 1.3 + 0.27 * len(classes), 1, len(panels), sharey=True)
    rows = np.arange(len(classes))
    for panel, (split, scores) in zip(axes, panels.items(), strict=True):
        for other in scores.keys() - {"student"}:
            panel.hlines(rows, scores["student"], scores[other], color=INK, alpha=0.35, linewidth=1.2)
            panel.scatter(scores[other], rows, s=34, color=ORANGE, marker="D", label=SIDES[other], zorder=3)
        panel.scatter(scores["student"], rows, s=42, color=BLUE, label="student", zorder=4)
        _label(panel, split, "average precision", "")
        panel.set_xlim(-0.03, 1.03)
        panel.set_ylim(len(classes) - 0.5, -0.5)
    axes[0].set_yticks(rows, classes)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=9)
    return figure


@_styled
def confusion(classes: Sequence[str], mean_scores: np.ndarray, split: str) -> Figure:
    """Heat map of the mean score of each predicted class (columns) given each true class (rows).

    Args:
      classes: K names.
      mean_scores: float [K, K] in [0, 1]; NaN for a class without positives.
      split: its name, for the title.
    """
    side = max(0.42 * len(classes), 2.4)
    figure, (axes,) = _figure(side + 2.6, side + 1.9, 1, 1)
    mesh = axes.pcolormesh(mean_scores, cmap="viridis", vmin=0.0, vmax=1.0, edgecolors="face", linewidth=0.3)
    for row, column in np.ndindex(*mean_scores.shape):
        value = mean_scores[row, column]
        if np.isfinite(value):
            text = f"{value:.2f}".lstrip("0") if value < 0.995 else "1"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7, color="#ffffff" if value < 0.6 else "#101010")
    ticks = np.arange(len(classes)) + 0.5
    axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, classes)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_title(split, loc="left")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(mesh, ax=axes, shrink=0.7, pad=0.02)
    bar.set_label("mean score")
    return figure


@_styled
def method_scores(panels: dict[str, list[tuple[str, str, list[float]]]]) -> Figure:
    """Score of each method, one panel a split and metric: a dot a seed, a tick at the mean, a line from mean - std to mean + std.

    Args:
      panels: {title: [(method, kind, values of its seeds)]}.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    methods = max(len(entries) for entries in panels.values())
    figure, axes = _figure(9.0, rows * (1.1 + 0.38 * methods), rows, columns, sharey=True)
    for panel, (title, entries) in zip(axes, panels.items(), strict=False):
        for row, (_, kind, values) in enumerate(entries):
            colour = BLUE if kind == "student" else ORANGE
            mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
            panel.errorbar(mean, row, xerr=spread, fmt="|", color=colour, markersize=15, markeredgewidth=2, capsize=0, linewidth=1.2)
            panel.scatter(values, [row] * len(values), s=26, color=colour, alpha=0.75, linewidths=0)
        _label(panel, title, "", "")
        panel.set_ylim(methods - 0.5, -0.5)
    axes[0].set_yticks(range(methods), [method for method, _, _ in next(iter(panels.values()))])
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    return figure


@_styled
def label_curves(panels: dict[str, dict[str, tuple[list[float], list[float], list[float]]]]) -> Figure:
    """Score over the share of the labels, one panel a split: a line a method with one standard deviation to each side.

    Args:
      panels: {title: {method: (shares in percent, means, standard deviations)}}.
    """
    figure, axes = _figure(9.0, 3.4, 1, len(panels))
    for panel, (title, lines) in zip(axes, panels.items(), strict=True):
        for place, ((method, (shares, means, spreads)), colour) in enumerate(zip(lines.items(), PALETTE, strict=False)):
            beside = [share + place - (len(lines) - 1) / 2 for share in shares]  # so that the bars of equal shares do not hide each other
            panel.errorbar(beside, means, yerr=spreads, label=method, color=colour, marker="o", markersize=4, linewidth=1.6, capsize=2)
            panel.set_xticks(shares)
        _label(panel, title, "labels, %", "score")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=9)
    return figure


@_styled
def to_png(figure: Figure) -> bytes:
    """The figure as PNG on white, for Markdown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


@_styled
def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element to stand in a page: transparent, its ink the page's text colour, its ids made unique by `name`."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', rf'\1 style="max-width: {figure.get_figwidth():g}in"', text, count=1)
    return text.replace(INK, "currentColor")
