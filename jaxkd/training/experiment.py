"""Puts the parts of an experiment together: student, method, optimiser, front end, compiled steps, initial state, training batches."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from jaxkd import methods, students, teachers
from jaxkd.compression import FIXED, Projection, principal_components, random_projection
from jaxkd.data.loader import TrainLoader
from jaxkd.embeddings.blocks import all_frames, id_blocks, mean_and_std
from jaxkd.embeddings.job import require_one_length
from jaxkd.embeddings.joined import JoinedStore
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.errors import ConfigError
from jaxkd.methods.method import Context, Method
from jaxkd.metrics import multiclass_metrics, multilabel_metrics, sigmoid, softmax
from jaxkd.parallel import Devices
from jaxkd.training.dimensions import frames_warning
from jaxkd.training.inference import predict
from jaxkd.training.optimiser import make_optimiser
from jaxkd.training.prepared import Prepared, unaugmented
from jaxkd.training.state import TrainState, initial_state, stream_key
from jaxkd.training.step import Experiment, Normalisation, eval_step, train_step, train_steps
from jaxkd.types import Batch, TeacherSide

SELECTION_METRIC = {"multilabel": "map", "multiclass": "accuracy"}
"""What the best checkpoint is chosen by on the validation split."""

CONSTANT_NORMALISATIONS = {"none": (0.0, 1.0), "vggish": (128.0, 256.0), "openl3": (2.24, 1.0)}


class Assembly(NamedTuple):
    """What the loop and the evaluation take.

    Attributes:
      experiment: the parts of the steps.
      devices: where arrays lie.
      loader: training batches.
      teacher: what the method needs of the teacher, by id.
      state: initial, on the devices.
      train: compiled `train_step`, or with several steps a dispatch `train_steps`.
      evaluate: compiled eval step.
    """

    experiment: Experiment
    devices: Devices
    loader: TrainLoader
    teacher: TeacherSide
    state: TrainState
    train: Any
    evaluate: Any


def fit_normalisation(store: EmbeddingStore | JoinedStore, ids: list[str], kinds: Sequence[str]) -> Normalisation:
    """What is subtracted from the embeddings and what they are then divided by, per dimension, with one kind for each teacher of the store.

    "zscore": mean and standard deviation over `ids`. "none": 0 and 1. "vggish": 128 and 256, "openl3": 2.24 and 1, as in EAsT (arXiv 2306.17424).
    """
    constants = [CONSTANT_NORMALISATIONS.get(kind, CONSTANT_NORMALISATIONS["none"]) for kind in kinds]
    mean, std = (np.repeat(np.array(values, np.float32), store.widths) for values in zip(*constants, strict=True))
    fitted = np.repeat([kind == "zscore" for kind in kinds], store.widths)
    if fitted.any():
        mean[fitted], std[fitted] = mean_and_std(lambda block: all_frames(store, block)[:, fitted], ids)
    return Normalisation(mean, std)


def normalisations(config: Any) -> list[str]:
    """The kind of normalisation of each frozen teacher; its constants are not those of what a classifier makes of its embedding, which is left as it is."""
    kinds = [choice.normalisation for choice in teachers.choices(config.teacher)]
    if config.teacher.classifier in ("linear", "mlp") and config.method not in methods.PRETRAINED_EMBEDDING:
        return [kind if kind == "zscore" else "none" for kind in kinds]
    return kinds


def fixed_projection(config: Any, store: EmbeddingStore | JoinedStore | None, ids: list[str]) -> Callable[[int], Projection] | None:
    """f(width) -> the teacher transformation that is not trained, where the config names one: drawn by its seed, or the principal components of `ids`."""
    kind = config.compressed.transformation
    if config.method != "compressed" or kind not in FIXED or store is None:
        return None
    if kind == "random":
        return functools.partial(random_projection, dim=store.dim, seed=config.seed)
    normalisation = fit_normalisation(store, ids, normalisations(config))

    return principal_components(lambda: (np.asarray(normalisation(all_frames(store, block))) for block in id_blocks(ids))).projection


def teacher_side(method: Method, prepared: Prepared) -> TeacherSide:
    """What a method needs of the teacher, by id."""
    offered = {"embedding": prepared.embedding(), "logits": prepared.teacher_logits() if "logits" in method.needs else None, "targets": prepared.targets}
    return TeacherSide(**{name: prepared.by_view(offered[name]) for name in method.needs})


def _require_divisible(config: Any, devices: Devices, section: str, rows_each: int) -> None:
    devices.require_divisible(config[section].batch_size, f"{section}.batch_size", rows_each=rows_each)
    devices.require_divisible(config.evaluation.batch_size, "evaluation.batch_size")


def require_batches(config: Any, *, student: bool) -> None:
    """Refuses batches that will not split over the devices, as far as it is known before the data are; `assemble` knows how many rows they have.

    Args:
      config: of the experiment.
      student: whether it will be trained or evaluated, and not only what it needs prepared.

    Raises:
      ConfigError: names the field, its value and the next that fit.
    """
    trained = {"teacher_training": config.teacher.classifier not in ("none", "probe"), "training": student and config.method not in methods.REFERENCES}
    for section in [section for section, so in trained.items() if so]:
        _require_divisible(config, Devices.all(), section, 1 + config[section].unlabelled_ratio)


def assemble(config: Any, prepared: Prepared, *, network: Any = None, pretrained: Any = None, section: str = "training") -> Assembly:
    """Builds everything that training and evaluation need.

    Args:
      config: of the experiment.
      prepared: data, inputs and what the teacher said.
      network: a module to train in place of the student that the config names.
      pretrained: parameters that its training starts from: branches of the network's, or None.
      section: of the user's config that `config.training` comes from; for messages.

    Raises:
      ConfigError: a batch is larger than the data set, or does not split over the devices; several processes have embeddings of different lengths.
    """
    frozen = ml_collections.FrozenConfigDict(config)
    settings, dataset = config.training, prepared.dataset
    devices = Devices.all(config.parallel.mode, config.parallel.parameters)
    subclasses = config.lelp.subclasses if prepared.targets is None else prepared.targets.values.shape[-1]
    store = prepared.embedding()
    projection = fixed_projection(config, store, unaugmented(dataset, "train"))
    widths = store.widths if store is not None and config.teacher.combine == "separate" else ()
    context = Context(dataset.task, len(dataset.classes), prepared.train_classes(), subclasses, projection, widths, prepared.log_odds())
    method = methods.build(config.method, frozen, context)
    student = network or students.build(
        config.student.name,
        num_outputs=len(dataset.classes) * method.outputs_per_label,
        axis_name=devices.axis_name,
        compute_dtype=config.student.compute_dtype,
        **students.options(config.student.name, frozen),
    )
    teacher = teacher_side(method, prepared)
    loader = TrainLoader(
        dataset,
        prepared.inputs.source,
        teacher,
        batch_size=settings.batch_size,
        unlabelled_ratio=settings.unlabelled_ratio if method.needs else 0,
        mixup_alpha=settings.mixup_alpha,
        seed=config.seed,
        section=section,
        length_pool=settings.length_pool,
        together=settings.steps_per_dispatch,
        own_rows=devices.own_rows,
    )
    methods.require_rows(config, loader.rows, devices=devices.mesh.size)
    _require_divisible(config, devices, section, loader.rows // settings.batch_size)
    normalisation = Normalisation(np.float32(0), np.float32(1))
    if teacher.embedding is not None and store is not None:
        require_one_length(store)
        if settings.steps_per_dispatch > 1 and store.frames is None:
            raise ConfigError(
                f"config.{section}.steps_per_dispatch is {settings.steps_per_dispatch}, but the embeddings have different lengths, and batches that go "
                "together have one: set it to 1."
            )
        normalisation = fit_normalisation(store, unaugmented(dataset, "train"), normalisations(config))
    experiment = Experiment(student, method, make_optimiser(settings, method), prepared.inputs.transform, normalisation, settings.mixup_mask, config.seed)
    example = jax.eval_shape(functools.partial(_as_the_step_sees_it, experiment), loader.batch(0).rows)
    state = initial_state(stream_key(config.seed, "initialisation"), student, method, experiment.optimiser, example, devices, pretrained)
    method = dataclasses.replace(method, warning=method.warning or frames_warning(config, student, example))
    experiment = experiment._replace(method=method)
    step = train_step if settings.steps_per_dispatch == 1 else functools.partial(train_steps, unroll=jax.default_backend() == "cpu")
    in_step = experiment.on(devices)
    return Assembly(
        experiment,
        devices,
        loader,
        teacher,
        state,
        devices.compile(functools.partial(step, in_step), updates=state),
        devices.compile(functools.partial(eval_step, in_step)),
    )


def _as_the_step_sees_it(experiment: Experiment, rows: Batch) -> Batch:
    """One row of a batch after its transforms."""
    row = jax.tree.map(lambda x: x[:1], rows)
    return row._replace(inputs=experiment.transform(None, row.inputs), embedding=experiment.normalisation(row.embedding))


def probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    """Logits [n, K] to scores in (0, 1), float32: each label's own, or of classes that sum to 1."""
    return softmax(logits) if task == "multiclass" else sigmoid(logits)


def validate(assembly: Assembly, state: TrainState, config: Any, prepared: Prepared) -> dict[str, float]:
    """Metrics and the method's terms on the validation split."""
    dataset = prepared.dataset
    ids = dataset.splits["valid"]
    logits, terms = predict(assembly, state, prepared, ids, config.evaluation.batch_size)
    scores = probabilities(logits, dataset.task)
    if dataset.task == "multiclass":
        return {**terms, **multiclass_metrics(dataset.labels(ids), scores, dataset.label_mask(ids))}
    return {**terms, **multilabel_metrics(dataset.labels(ids), scores, dataset.label_mask(ids), threshold=config.evaluation.f1_threshold)}
