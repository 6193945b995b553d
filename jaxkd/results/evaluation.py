"""The final evaluation: predictions of the student and of the teacher on every split, sizes and speeds of both."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd import methods, teachers
from jaxkd.data.other import other_split
from jaxkd.embeddings.store import mean_embeddings
from jaxkd.lelp import fold_logits
from jaxkd.metrics import calibration_after_scaling, fit_temperature, softmax
from jaxkd.models.macs import count_macs
from jaxkd.progress import progress
from jaxkd.results.diagnostics import best_state, diagnose
from jaxkd.results.examples import Examples, evaluated_examples, split_metrics, write_predictions
from jaxkd.results.probes import Fit, fit_on, fits, of_teacher, probe_scores, probed_examples
from jaxkd.teachers import precomputed
from jaxkd.together import stopping_together
from jaxkd.training.artefact import load_student
from jaxkd.training.cost import training_cost
from jaxkd.training.experiment import Assembly, assemble, probabilities
from jaxkd.training.inference import predict
from jaxkd.training.inputs import Transform
from jaxkd.training.interrupt import MeetingGuard
from jaxkd.training.preparation import frozen_teacher, trained_teacher
from jaxkd.training.prepared import Prepared
from jaxkd.training.state import TrainState

SPEED_BATCH = 16
SPEED_REPEATS = 5


class _Trained(NamedTuple):
    """What the processes of a job read or compute together of a trained student.

    Attributes:
      assembly: its parts.
      variables: its parameters and statistics.
      best_step: of its training.
      logits: of the labels, float32 [n, K], by each split of its own data set.
      best: for the diagnostics.
    """

    assembly: Assembly
    variables: dict[str, Any]
    best_step: int
    logits: dict[str, np.ndarray]
    best: TrainState | None


def evaluate(config: Any, workdir: Path, cache_dir: Path, prepared: Prepared, guard: MeetingGuard) -> dict[str, Any]:
    """Predicts every split once with the student and with the teacher's own classifier, or a probe where it has none; keeps the predictions.

    The unseen splits of a multi-label task are scored twice: as they are, and as "SPLIT_probe" by a linear probe that is fitted for them on what each side
    makes of a clip, frozen.

    Args:
      config: of the experiment.
      workdir: with `student/`, unless the method is a reference.
      cache_dir: shared by runs.
      prepared: data, inputs and what the teacher said.
      guard: entered; released once the processes of a job have done what they do together.

    Returns:
      The content of `evaluation.json`: "task", "modality", "classes", "split_classes" (of the splits that have others), "fine_classes" (the hidden ones, or
      none), "teacher", "student", "results", "diagnostics", "notes".

    Raises:
      ArtefactError: the student is not there, or damaged.
    """
    probes, networks = fits(config, prepared), _networks_of_teacher(config, cache_dir, prepared)
    trained = None if config.method in methods.REFERENCES else _read_student(config, workdir, prepared, guard)
    with stopping_together():
        guard.release()
        return _evaluate(config, workdir, prepared, *probes, networks, trained)


def _evaluate(
    config: Any, workdir: Path, prepared: Prepared, on_embedding: Fit, on_features: Fit, networks: list[tuple[Any, Any]], trained: _Trained | None
) -> dict[str, Any]:
    """What each process does alone."""
    dataset, threshold = prepared.dataset, config.evaluation.f1_threshold
    examples = evaluated_examples(prepared, other_split(config))
    probed, missing = probed_examples(examples)
    side = "probe" if prepared.classifier is None or config.method == "probe" else "teacher"
    teacher: dict[str, Any] = {"reference": side}
    if side == "probe":
        probe = fit_on(prepared, of_teacher, on_embedding)
        reference = {split: probe.scores(of_teacher(of.data, of.ids)) for split, of in examples.items()}
        reference |= {split: probe_scores(of, of_teacher, on_embedding) for split, of in probed.items()}
        teacher |= {"probe": split_metrics(examples | probed, reference, threshold), "probe_inverse_penalty": probe.inverse_penalty}
    else:
        reference = classifier_scores(examples) | {split: probe_scores(of, of_teacher, on_embedding) for split, of in probed.items()}
        teacher["predictions"] = split_metrics(examples | probed, reference, threshold)
    write_predictions(workdir, examples | probed, reference, side=side)
    teacher |= {"name": _teacher_name(config)} | _measure_teacher(config, networks, dataset.splits["valid"][:SPEED_BATCH])
    student, logits, scores, diagnostics, warning = None, {}, reference, {}, ""
    if trained is not None:
        student, logits, of_features, diagnostics = _evaluate_student(config, workdir, prepared, trained, examples, probed, on_features)
        warning = trained.assembly.experiment.method.warning
        scores = {split: probabilities(values, dataset.task) for split, values in logits.items()} | of_features
    write_predictions(workdir, examples | probed, scores)
    results = split_metrics(examples | probed, scores, threshold, teacher=reference if side == "teacher" else None)
    if logits and dataset.task == "multiclass":
        _add_scaled_calibration(results, examples, logits)
    notes = dataset.notes | prepared.inputs.notes | dict(prepared.notes) | missing | _notes_on_other(config, prepared)
    return {
        "task": dataset.task,
        "modality": dataset.modality,
        "classes": list(dataset.classes),
        "split_classes": {split: list(of.data.dataset.classes) for split, of in probed.items() if of.data.dataset.classes != dataset.classes},
        "fine_classes": list(dataset.fine_classes),
        "teacher": teacher,
        "student": student,
        "results": results,
        "diagnostics": diagnostics,
        "notes": notes | ({"method": warning} if warning else {}),
    }


def _notes_on_other(config: Any, prepared: Prepared) -> dict[str, Any]:
    if prepared.other is None:
        return {}
    other = prepared.other.dataset
    scored = [other.classes[place] for place in np.flatnonzero(other.label_mask(other.splits["test"]).any(axis=0))]
    remarks: dict[str, Any] = {"test split of": other.name, "never trained on; classes": scored, "licences": other.notes.get("licences", "not told")}
    seconds, trained_on = (dataset.input_shape[0] / config.data.sample_rate for dataset in (other, prepared.dataset))
    if seconds != trained_on:
        remarks["clips"] = f"{seconds:g} s, each taken whole; training had {trained_on:g} s; student and teacher average their frames over either"
    return {other_split(config): remarks | dict(prepared.other.notes)}


def _teacher_name(config: Any) -> str:
    if config.teacher.classifier != "none":
        return f"{config.teacher.name} ({config.teacher.classifier})"
    return " + ".join(choice.label if config.teacher.others else choice.name for choice in teachers.choices(config.teacher))


def _read_student(config: Any, workdir: Path, prepared: Prepared, guard: MeetingGuard) -> _Trained:
    variables, kept = load_student(workdir / "student")
    assembly = assemble(config, prepared)
    params = {**assembly.state.params, "student": assembly.devices.place_parameters(variables["params"])}
    state = assembly.state._replace(params=params, batch_stats=assembly.devices.replicate(variables["batch_stats"]))
    splits = {split: ids for split, ids in prepared.dataset.splits.items() if split != "train"}
    batch_size = config.evaluation.batch_size
    with progress(total=sum(math.ceil(len(ids) / batch_size) for ids in splits.values()), description="evaluate", unit="batch") as bar:

        def after_batch() -> None:
            bar.update(1)
            guard()

        logits = {split: predict(assembly, state, prepared, ids, batch_size, after_batch=after_batch)[0] for split, ids in splits.items()}
    best = best_state(assembly, workdir)
    guard()
    return _Trained(assembly, variables, kept["best_step"], logits, best)


def _evaluate_student(
    config: Any, workdir: Path, prepared: Prepared, trained: _Trained, examples: Mapping[str, Examples], probed: Mapping[str, Examples], fit: Fit
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Size and speed of the trained student, its logits on each of `examples`, scores of probes on its features, diagnostics."""
    assembly, variables, batch_size = trained.assembly, trained.variables, config.evaluation.batch_size
    forward = student_forward(assembly, variables, batch_size)
    logits = trained.logits | {split: forward(of.data, of.ids)[0] for split, of in examples.items() if of.data is not prepared}
    of_features = {split: probe_scores(of, lambda data, ids: forward(data, ids)[1], fit) for split, of in probed.items()}
    sample = prepared.inputs.source.gather(prepared.dataset.splits["valid"][:SPEED_BATCH])
    size = measure_student(assembly.experiment.student_alone(), variables, assembly.experiment.transform, sample)
    diagnostics = diagnose(assembly, prepared, trained.best, batch_size)
    summary = {"name": config.student.name, "best_step": trained.best_step, "training": training_cost(workdir), **size}
    return summary, logits, of_features, diagnostics


def student_forward(assembly: Assembly, variables: dict[str, Any], batch_size: int) -> Callable[[Prepared, list[str]], tuple[np.ndarray, np.ndarray]]:
    """The frozen student on examples of any data set that it takes: f(data, ids) -> logits of the labels [n, K], and its features' mean over time [n, C]."""
    student, transform, method = assembly.experiment.student_alone(), assembly.experiment.transform, assembly.experiment.method

    @jax.jit
    def outputs(variables: Any, rows: Any) -> tuple[jax.Array, jax.Array]:
        found = student.apply(variables, transform(None, rows), train=False)
        return method.label_logits(found.logits), found.features.mean(axis=1)

    def forward(data: Prepared, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
        batches = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
        filled = [batch + batch[-1:] * (batch_size - len(batch)) for batch in batches]
        logits, features = zip(*(jax.device_get(outputs(variables, data.inputs.source.gather(batch))) for batch in filled), strict=True)
        return np.concatenate(logits)[: len(ids)], np.concatenate(features)[: len(ids)]

    return forward


def classifier_scores(examples: Mapping[str, Examples]) -> dict[str, np.ndarray]:
    """Probabilities of the classes or labels by the teacher's own classifier on every split, float32 [n, K]."""
    scores = {}
    for split, of in examples.items():
        assert of.data.store is not None
        assert of.data.classifier is not None
        logits = of.data.classifier.logits(mean_embeddings(of.data.store, of.ids))
        dataset = of.data.dataset
        scores[split] = probabilities(np.asarray(fold_logits(logits, len(dataset.classes))), dataset.task)
    return scores


def _add_scaled_calibration(results: dict[str, dict[str, float]], examples: Mapping[str, Examples], logits: dict[str, np.ndarray]) -> None:
    """Adds calibration after temperature scaling, with the temperature fitted on the validation split."""
    temperature = fit_temperature(logits["valid"], examples["valid"].labels, examples["valid"].label_mask)
    for split, values in logits.items():
        results[split] |= calibration_after_scaling(examples[split].labels, softmax(values), examples[split].label_mask, temperature=temperature)


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


def _networks_of_teacher(config: Any, cache_dir: Path, prepared: Prepared) -> list[tuple[Any, Any]]:
    """A trained classifier and the pretrained networks below it, each with what its rows are read from; None for what made precomputed embeddings."""
    dataset, kind = prepared.dataset, config.teacher.classifier
    networks: list[tuple[Any, Any]] = [] if kind == "none" else [trained_teacher(config, dataset, cache_dir)]
    frozen = () if kind == "finetuned" else teachers.choices(config.teacher)
    return networks + [(None if choice.name == precomputed.NAME else frozen_teacher(choice, dataset, cache_dir), dataset) for choice in frozen]


def _measure_teacher(config: Any, networks: list[tuple[Any, Any]], ids: list[str]) -> dict[str, Any]:
    """The same of the teacher, and what its training cost here; a classifier on frozen embeddings counts with the encoder below it."""
    training = None if config.teacher.classifier == "none" else networks[0][0].training
    return _sum([_measure(network, source, ids) for network, source in networks]) | {"training": training}


def _sum(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What networks that run one after the other measure; None where one of them is not known."""

    def total(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    sums = {name: total([part[name] for part in parts]) for name in ("parameters", "macs_per_example")}
    seconds = total([part["examples_per_second"] and 1 / part["examples_per_second"] for part in parts])
    return {**sums, "examples_per_second": seconds and 1 / seconds}


def _measure(teacher: Any, source: Any, ids: list[str]) -> dict[str, Any]:
    if teacher is None:
        return dict.fromkeys(("parameters", "macs_per_example", "examples_per_second"))
    rows = source.gather(ids)
    return {
        "parameters": teacher.parameters,
        "macs_per_example": teacher.macs_of(rows),
        "examples_per_second": examples_per_second(teacher.embed, rows),
    }
