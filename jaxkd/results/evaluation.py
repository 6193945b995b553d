"""The final evaluation: predictions of the student and of the teacher on every split, sizes and speeds of both."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd import methods, teachers
from jaxkd.data.dataset import Dataset
from jaxkd.embeddings.joined import JoinedStore
from jaxkd.embeddings.store import EmbeddingStore, mean_embeddings
from jaxkd.errors import ArtefactError
from jaxkd.files import atomic_path
from jaxkd.lelp import fold_logits
from jaxkd.metrics import calibration_after_scaling, fit_temperature, multiclass_metrics, multilabel_metrics, softmax
from jaxkd.models.macs import count_macs
from jaxkd.results.diagnostics import diagnose
from jaxkd.results.predictions import predictions_path
from jaxkd.teachers import precomputed
from jaxkd.teachers.choice import Choice
from jaxkd.training.artefact import load_student
from jaxkd.training.experiment import Assembly, assemble, probabilities
from jaxkd.training.inference import predict
from jaxkd.training.inputs import Transform
from jaxkd.training.preparation import frozen_teacher, trained_teacher
from jaxkd.training.prepared import Prepared, unaugmented
from jaxkd.training.probe import Probe, fit_probe

SPEED_BATCH = 16
SPEED_REPEATS = 5


def evaluate(config: Any, workdir: Path, cache_dir: Path, prepared: Prepared) -> dict[str, Any]:
    """Predicts every split once with the student and with the teacher's own classifier, or a probe where it has none; keeps the predictions.

    Args:
      config: of the experiment.
      workdir: with `student/`, unless the method is a reference.
      cache_dir: shared by runs.
      prepared: data, inputs and what the teacher said.

    Returns:
      The content of `evaluation.json`: "task", "modality", "classes", "fine_classes" (the hidden ones, or none), "teacher", "student",
      "results", "diagnostics", "notes".

    Raises:
      ArtefactError: the student is not there, or damaged.
    """
    dataset, threshold = prepared.dataset, config.evaluation.f1_threshold
    side = "probe" if prepared.classifier is None or config.method == "probe" else "teacher"
    teacher: dict[str, Any] = {"reference": side}
    if side == "probe":
        probe, reference = fit_and_score_probe(dataset, prepared.embedding())
        teacher |= {"probe": split_metrics(dataset, reference, threshold), "probe_inverse_penalty": probe.inverse_penalty}
    else:
        reference = classifier_scores(prepared)
        teacher["predictions"] = split_metrics(dataset, reference, threshold)
    for split, scores in reference.items():
        write_predictions(workdir, dataset, split, scores, side=side)
    teacher |= {"name": _teacher_name(config)} | measure_teacher(config, cache_dir, prepared)
    student, logits, scores, diagnostics, warning = None, {}, reference, {}, ""
    if config.method not in methods.REFERENCES:
        student, logits, diagnostics, warning = _evaluate_student(config, workdir, prepared)
        scores = {split: probabilities(values, dataset.task) for split, values in logits.items()}
    for split, values in scores.items():
        write_predictions(workdir, dataset, split, values)
    results = split_metrics(dataset, scores, threshold, teacher=reference if side == "teacher" else None)
    if logits and dataset.task == "multiclass":
        _add_scaled_calibration(results, dataset, logits)
    return {
        "task": dataset.task,
        "modality": dataset.modality,
        "classes": list(dataset.classes),
        "fine_classes": list(dataset.fine_classes),
        "teacher": teacher,
        "student": student,
        "results": results,
        "diagnostics": diagnostics,
        "notes": dataset.notes | prepared.inputs.notes | dict(prepared.notes) | ({"method": warning} if warning else {}),
    }


def _teacher_name(config: Any) -> str:
    if config.teacher.classifier != "none":
        return f"{config.teacher.name} ({config.teacher.classifier})"
    return " + ".join(choice.label if config.teacher.others else choice.name for choice in teachers.choices(config.teacher))


def _evaluate_student(config: Any, workdir: Path, prepared: Prepared) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any], str]:
    """Size and speed of the trained student, its logits on every evaluated split, the diagnostics, and the warning of its method."""
    if not (workdir / "student").exists():
        raise ArtefactError(f"{workdir}/student is missing: run with --mode=train (or run) first.")
    variables, _ = load_student(workdir / "student")
    assembly = assemble(config, prepared)
    state = assembly.state._replace(params={**assembly.state.params, "student": variables["params"]}, batch_stats=variables["batch_stats"])
    state = assembly.devices.replicate(state)
    splits = prepared.dataset.splits
    logits = {split: predict(assembly, state, prepared, splits[split], config.evaluation.batch_size)[0] for split in evaluated_splits(prepared.dataset)}
    sample = prepared.inputs.source.gather(splits["valid"][:SPEED_BATCH])
    size = measure_student(_alone(assembly), variables, assembly.experiment.transform, sample)
    diagnostics = diagnose(assembly, prepared, workdir, config.evaluation.batch_size)
    return {"name": config.student.name} | size, logits, diagnostics, assembly.experiment.method.warning


def _alone(assembly: Assembly) -> Any:
    """The student as one device runs it."""
    student = assembly.experiment.student
    return student.clone(axis_name=None) if hasattr(student, "axis_name") else student


def evaluated_splits(dataset: Dataset) -> list[str]:
    """Every split but the training split."""
    return [split for split in dataset.splits if split != "train"]


def fit_and_score_probe(dataset: Dataset, store: EmbeddingStore | JoinedStore | None) -> tuple[Probe, dict[str, np.ndarray]]:
    """Fits the teacher's linear probe and scores every evaluated split, float32 [n, K] each."""
    assert store is not None
    ids_of = {split: unaugmented(dataset, split) for split in dataset.splits}
    of = {split: (mean_embeddings(store, ids), dataset.labels(ids), dataset.label_mask(ids)) for split, ids in ids_of.items()}
    probe = fit_probe(of["train"], of["valid"], task=dataset.task)
    return probe, {split: probe.scores(of[split][0]) for split in evaluated_splits(dataset)}


def classifier_scores(prepared: Prepared) -> dict[str, np.ndarray]:
    """Probabilities of the classes or labels by the teacher's own classifier on every evaluated split, float32 [n, K]."""
    logits = prepared.teacher_logits()
    assert logits is not None
    dataset = prepared.dataset
    folded = {split: np.asarray(fold_logits(logits.gather(dataset.splits[split]), len(dataset.classes))) for split in evaluated_splits(dataset)}
    return {split: probabilities(values, dataset.task) for split, values in folded.items()}


def write_predictions(workdir: Path, dataset: Dataset, split: str, scores: np.ndarray, *, side: str = "student") -> None:
    """Keeps the scores [n, K] of a split with its ids, labels and mask."""
    ids = dataset.splits[split]
    path = predictions_path(workdir, split, side=side)
    arrays = {"scores": scores, "labels": dataset.labels(ids), "label_mask": dataset.label_mask(ids)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, ids=np.array(ids), task=np.array(dataset.task), **arrays)


def split_metrics(
    dataset: Dataset, scores: dict[str, np.ndarray], threshold: float, *, teacher: dict[str, np.ndarray] | None = None
) -> dict[str, dict[str, float]]:
    """{split: {metric: value}} of scores [n, K]; with the teacher's scores also the agreement with it."""
    results = {}
    for split, values in scores.items():
        labels, mask = dataset.labels(dataset.splits[split]), dataset.label_mask(dataset.splits[split])
        of_teacher = None if teacher is None else teacher[split]
        if dataset.task == "multiclass":
            results[split] = multiclass_metrics(labels, values, mask, teacher=of_teacher)
        else:
            results[split] = multilabel_metrics(labels, values, mask, threshold=threshold, teacher=of_teacher)
    return results


def _add_scaled_calibration(results: dict[str, dict[str, float]], dataset: Dataset, logits: dict[str, np.ndarray]) -> None:
    """Adds calibration after temperature scaling, with the temperature fitted on the validation split."""
    labels = {split: dataset.labels(dataset.splits[split]) for split in logits}
    masks = {split: dataset.label_mask(dataset.splits[split]) for split in logits}
    temperature = fit_temperature(logits["valid"], labels["valid"], masks["valid"])
    for split, values in logits.items():
        results[split] |= calibration_after_scaling(labels[split], softmax(values), masks[split], temperature=temperature)


def examples_per_second(function: Callable[[Any], Any], inputs: Any) -> float:
    """Rows of `inputs` a second through `function`, the best of a few calls after one to compile."""
    jax.block_until_ready(function(inputs))
    seconds = []
    for _ in range(SPEED_REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(function(inputs))
        seconds.append(time.perf_counter() - started)
    return len(inputs) / min(seconds)


def measure_student(student: Any, variables: dict[str, Any], transform: Transform, inputs: np.ndarray) -> dict[str, Any]:
    """Parameters, multiply-accumulates an example (front end not counted) and examples a second (front end counted) of a student.

    Args:
      student: module.
      variables: its parameters and statistics.
      transform: from inputs to what it takes.
      inputs: a batch of examples.
    """
    features = jax.eval_shape(lambda x: transform(None, x), inputs[:1])
    macs = count_macs(lambda x: student.apply(variables, x, train=False).logits, features)
    forward = jax.jit(lambda variables, x: student.apply(variables, transform(None, x), train=False).logits)
    parameters = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(variables["params"]))
    return {"parameters": parameters, "macs_per_example": macs, "examples_per_second": examples_per_second(lambda x: forward(variables, x), inputs)}


def measure_teacher(config: Any, cache_dir: Path, prepared: Prepared) -> dict[str, Any]:
    """The same of the teacher; a classifier on frozen embeddings counts with the encoder below it."""
    ids = prepared.dataset.splits["valid"][:SPEED_BATCH]
    if config.teacher.classifier == "none":
        return _together([_measure_frozen(choice, prepared.dataset, cache_dir) for choice in teachers.choices(config.teacher)])
    classifier, examples = trained_teacher(config, prepared.dataset, cache_dir)
    own = _measure(classifier, examples.gather(ids))
    if config.teacher.classifier == "finetuned":
        return own
    (choice,) = teachers.choices(config.teacher)
    return _together([own, _measure_frozen(choice, prepared.dataset, cache_dir)])


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What networks that run one after the other measure; None where one of them is not known."""

    def total(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    sums = {name: total([part[name] for part in parts]) for name in ("parameters", "macs_per_example")}
    seconds = total([part["examples_per_second"] and 1 / part["examples_per_second"] for part in parts])
    return {**sums, "examples_per_second": seconds and 1 / seconds}


def _measure_frozen(choice: Choice, dataset: Dataset, cache_dir: Path) -> dict[str, Any]:
    """The same of a pretrained teacher; nothing is known of what made precomputed embeddings."""
    if choice.name == precomputed.NAME:
        return dict.fromkeys(("parameters", "macs_per_example", "examples_per_second"))
    return _measure(frozen_teacher(choice, dataset, cache_dir), dataset.gather(dataset.splits["valid"][:SPEED_BATCH]))


def _measure(teacher: Any, rows: Any) -> dict[str, Any]:
    return {
        "parameters": teacher.parameters,
        "macs_per_example": teacher.macs_of(rows),
        "examples_per_second": examples_per_second(teacher.embed, rows),
    }
