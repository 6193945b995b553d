"""How numbers are written in every form of a report, and plain values made fit for JSON."""

import math
from typing import Any

import numpy as np

ABSENT = "-"


def score(value: float | None) -> str:
    """A score in [0, 1] with three decimals."""
    return ABSENT if value is None else f"{value:.3f}"


def difference(value: float | None) -> str:
    """A difference of scores with its sign."""
    return ABSENT if value is None else f"{value:+.3f}"


def with_interval(value: float | None, ci95: list[float] | None, *, signed: bool = False) -> str:
    """A score or a difference with its 95 % interval in brackets."""
    write = difference if signed else score
    return write(value) if ci95 is None else f"{write(value)} [{write(ci95[0])}, {write(ci95[1])}]"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return ABSENT if value is None else f"{value:,.0f}"


def amount(value: float | None) -> str:
    """A rate or a time: whole from 100 on, else three significant digits."""
    return ABSENT if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def megabytes(value: float | None) -> str:
    """Bytes as whole megabytes (10^6)."""
    return ABSENT if value is None else f"{value / 1e6:,.0f}"


def plain(value: Any) -> Any:
    """The value with every float that is not finite replaced by None, as JSON has no such numbers; numpy scalars become Python's."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def flat_lines(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested value as (dotted name, text) pairs, lists joined by commas."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in flat_lines(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list | tuple):
        parts = [f"({', '.join(map(str, item))})" if isinstance(item, list | tuple) else str(item) for item in value]
        return [(prefix, ", ".join(parts) or "none")]
    return [(prefix, str(value))]
