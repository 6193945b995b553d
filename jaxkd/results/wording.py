"""The words of a report that depend on the task, on the kind of the examples, and on what the student is measured against."""

from collections.abc import Iterable
from typing import Any

from jaxkd.results.predictions import PROBE_SUFFIX

TRIAL = "This is a trial (runlocal): its sizes are so small that the scores mean nothing."
RENDERED = "The clips are rendered from scores with recorded instrument samples: the figures are not comparable with those of the papers."
UNSEEN = "unseen holds the same scores as test, rendered with a sound bank that was never heard in training."
KEPT = "The student is that of step {step} of its training, which scored best on valid."
PROBED_NOTE = "{splits}: scores of a linear probe on frozen vectors, the student's features or the teacher's embedding, fitted for that split alone."
PROBED = (
    "{splits}: how far what was learned carries. A linear probe is fitted for that split on frozen vectors, the student's features or the teacher's "
    "embedding, each its mean over time; for another data set on its training split, for all classes that it has of its own, else cross-fitted on the split "
    "itself in five folds that keep clips of one score together."
)
_METRICS = {
    "multilabel": "map is the mean over classes of the average precision, roc_auc that of the area under the ROC curve, f1_macro that of the F1 of the "
    "positive and the negative class at the threshold of the config. Labels that are masked do not count. agreement is the share of all labels of all "
    "{units} that lie on the same side of that threshold as the teacher's.",
    "multiclass": "The predicted class is the most probable one. accuracy is the share of {units} that are predicted right, f1_macro the mean of the F1 "
    "over classes, roc_auc the area under the ROC curve: of the second class if there are two, else the mean over classes, each against the rest. "
    "agreement is the share of {units} that are predicted as the teacher predicts them. ece is the expected calibration error of the predicted class "
    "over 15 bins, brier the squared difference of probabilities and label summed over classes (0 to 2), nll the mean of -log of the true class's "
    "probability; lower is better in these. _scaled: after one temperature, fitted on valid. All but agreement leave unlabelled {units} out.",
}
_DIAGNOSTICS = (
    "Diagnostics are of the means over time. The bias-corrected distance correlation (squared) is about 0 for what has nothing to do with each other, at any "
    "width, and may be negative. Label directions are the columns of the head that reads the labels off the compact embedding; their share is the part of the "
    "variance of all distances between {units} that the distances along them explain, by chance that of as many random directions (mean of 20 draws)."
)
_OF_SIDE = {"probe": "the teacher's linear probe", "teacher": "the teacher's own classifier"}


def task_of(report: dict[str, Any]) -> str:
    """The task of a run or a comparison; a report that does not say is multi-label."""
    return report.get("task", "multilabel")


def classes_of(report: dict[str, Any], split: str) -> list[str]:
    """The classes of a split of a run; those of the probe of another data set are that data set's own."""
    return report.get("split_classes", {}).get(split, report["classes"])


def unit_of(report: dict[str, Any]) -> str:
    """What one example is called: "clip" for audio, "example" for anything else; a report that does not say is of audio."""
    return "clip" if report.get("modality", "audio") == "audio" else "example"


def reference_side(report: dict[str, Any]) -> str:
    """What the student of a run is measured against: "probe" or "teacher"."""
    return (report["teacher"] or {}).get("reference", "probe")


def _probed(splits: Iterable[str], text: str) -> list[str]:
    """What the splits are that are scored by a probe of their own; nothing where there is none."""
    probed = [split for split in splits if split.endswith(PROBE_SUFFIX)]
    return [text.format(splits=" and ".join(probed))] if probed else []


def origin_lines(report: dict[str, Any]) -> list[str]:
    """What must be said beside any score of a run: of a trial, of clips that were rendered, and of probes; empty where there is none of them."""
    trial = [TRIAL] if report["config"]["name"].endswith("-runlocal") else []
    rendered = report["config"]["data"]["source"] == "rendered_instruments"
    lines = [RENDERED, *([UNSEEN] if "unseen" in report["results"] else [])] if rendered else []
    return trial + lines + _probed(report["results"], PROBED_NOTE)


def how_to_read_run(report: dict[str, Any]) -> list[str]:
    """Paragraphs below the report of a run."""
    unit = unit_of(report)
    independent = "Clips count as independent, also those of one score. " if unit == "clip" else ""
    return [
        _METRICS[task_of(report)].format(units=f"{unit}s"),
        f"Brackets hold the 95 % bootstrap interval over the {unit}s of the split. The difference is the student's score minus that of "
        f"{_OF_SIDE[reference_side(report)]}, on the same resampled {unit}s. {independent}The interval is about the {unit}s alone; how much training "
        "varies, only several seeds tell (--mode=compare).",
        "valid was used to choose the checkpoint; test and unseen were read once, at the end.",
        *_probed(report["results"], PROBED),
        *([_DIAGNOSTICS.format(units=f"{unit}s")] if report.get("diagnostics") else []),
    ]


def how_to_read_comparison(report: dict[str, Any]) -> list[str]:
    """Paragraphs below a comparison."""
    unit = unit_of(report)
    return [
        "A row is a method, or a variant: a method with settings of its own. Each was trained once a seed; mean and std (the sample standard deviation) are "
        "over those runs. kind is reference for a row without a student, such as the teacher or its probe.",
        f"The difference is the method's mean minus that of the method it is compared with. Its 95 % interval comes from a bootstrap that resamples {unit}s "
        f"and, independently, seeds, with the same draws on both sides: paired by {unit}, and by seed (a reference counts as the mean of its runs). With few "
        "seeds the part of the spread that comes from training is underestimated.",
        "Two methods whose interval of the difference includes zero are not ranked: the order of their means says nothing. Differences are not corrected for "
        "the number of comparisons.",
        "Calibration, agreement, teachers: means over the runs, without intervals. ece is the expected calibration error, brier the squared difference of "
        "probabilities and label; lower is better. _scaled: after one temperature, fitted on valid. agreement is the share of predictions that are the "
        "teacher's; a teacher that was trained for one method, as that of subclass_distillation, has a score of its own.",
        "Cost of training: of the student with what is trained beside it, and of the teacher's classifier or the fine-tuned teacher, which is trained once for "
        "all runs. Seconds count compilation and validation; peak memory is that of the whole process.",
        *_probed(report["clips"], PROBED),
    ]
