"""Metrics as pure functions of numpy arrays: multi-label and multi-class scores, calibration, and paired bootstrap intervals.

The names here that are not marked as multi-class are multi-label; `jaxkd.metrics.multiclass` has those of the same name for one class a row.
"""

from jaxkd.metrics.bootstrap import PairedDifference, paired_bootstrap
from jaxkd.metrics.calibration import calibration_after_scaling, fit_temperature
from jaxkd.metrics.multiclass import multiclass_metrics
from jaxkd.metrics.multilabel import (
    THRESHOLD,
    average_precision,
    brier,
    evaluated_classes,
    expected_calibration_error,
    f1,
    multilabel_metrics,
    resampled,
    roc_auc,
)
from jaxkd.metrics.probabilities import CALIBRATION_BINS, log_probabilities, sigmoid, softmax

__all__ = [
    "CALIBRATION_BINS",
    "THRESHOLD",
    "PairedDifference",
    "average_precision",
    "brier",
    "calibration_after_scaling",
    "evaluated_classes",
    "expected_calibration_error",
    "f1",
    "fit_temperature",
    "log_probabilities",
    "multiclass_metrics",
    "multilabel_metrics",
    "paired_bootstrap",
    "resampled",
    "roc_auc",
    "sigmoid",
    "softmax",
]
