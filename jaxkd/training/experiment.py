"""Puts the parts of an experiment together: student, method, optimiser, front end, compiled steps, initial state, training batches."""

import functools
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from jaxkd import methods, students
from jaxkd.data.audio_dataset import AudioDataset
from jaxkd.data.loader import TrainLoader
from jaxkd.data.transforms import audio_transform
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.frontend import LogMel
from jaxkd.metrics import multilabel_metrics
from jaxkd.parallel import Devices
from jaxkd.training.inference import predict
from jaxkd.training.optimiser import make_optimiser
from jaxkd.training.state import TrainState, initial_state, stream_key
from jaxkd.training.step import Experiment, Normalisation, eval_step, train_step


class Assembly(NamedTuple):
    """What the loop and the evaluation take.

    Attributes:
      experiment: the parts of the steps.
      devices: where arrays lie.
      loader: training batches.
      embeddings: the store, or None for a method that needs none.
      state: initial, on the devices.
      train: compiled train step.
      evaluate: compiled eval step.
    """

    experiment: Experiment
    devices: Devices
    loader: TrainLoader
    embeddings: EmbeddingStore | None
    state: TrainState
    train: Any
    evaluate: Any


def frontend_settings(config: Any) -> LogMel:
    """The student's front end of a config (its `frontend` and `data.sample_rate`)."""
    names = ("kind", "n_fft", "window", "hop", "bands", "fmin", "fmax")
    return LogMel(sample_rate=config.data.sample_rate, **{name: config.frontend[name] for name in names})


def fit_normalisation(store: EmbeddingStore, ids: list[str], kind: str) -> Normalisation:
    """Mean and standard deviation of the embeddings of `ids` per dimension ("zscore"), or 0 and 1 ("none")."""
    if kind == "none":
        return Normalisation(np.zeros(store.dim, np.float32), np.ones(store.dim, np.float32))
    frames, lengths = store.gather(ids), store.lengths(ids)
    embedding = frames[np.arange(frames.shape[1]) < lengths[:, None]].astype(np.float64)
    std = embedding.std(axis=0)
    return Normalisation(embedding.mean(axis=0).astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32))


def assemble(config: Any, dataset: AudioDataset, store: EmbeddingStore) -> Assembly:
    """Builds everything that training and evaluation need.

    Raises:
      ConfigError: a batch is larger than the data set, or does not split over the devices.
    """
    frozen = ml_collections.FrozenConfigDict(config)
    settings = config.training
    devices = Devices.all(config.parallel.mode)
    student = students.build(config.student.name, num_outputs=len(dataset.classes), axis_name=devices.axis_name)
    frontend = frontend_settings(config)
    inputs = jax.ShapeDtypeStruct((1, frontend.frames(dataset.clip_samples), frontend.bands), np.float32)
    shapes = jax.eval_shape(lambda: student.init_with_output(jax.random.key(0), np.zeros(inputs.shape, np.float32), train=False)[0])
    method = methods.build(config.method, frozen, num_labels=len(dataset.classes), feature_dim=shapes.features.shape[-1])
    embeddings = store if method.uses_embedding else None
    loader = TrainLoader(
        dataset,
        embeddings,
        batch_size=settings.batch_size,
        unlabelled_ratio=settings.unlabelled_ratio if method.uses_embedding else 0,
        mixup_alpha=settings.mixup_alpha,
        seed=config.seed,
    )
    devices.require_divisible(settings.batch_size, "training.batch_size", rows_each=loader.rows // settings.batch_size)
    devices.require_divisible(config.evaluation.batch_size, "evaluation.batch_size")
    transform = audio_transform(
        frontend,
        fmin_jitter=config.frontend.fmin_jitter,
        fmax_jitter=config.frontend.fmax_jitter,
        frequency_mask=settings.frequency_mask,
        time_mask=settings.time_mask,
    )
    normalisation = fit_normalisation(store, dataset.splits["train"], config.teacher.normalisation)
    experiment = Experiment(student, method, make_optimiser(settings, method), transform, normalisation, settings.mixup_mask, config.seed)
    embedding = None if embeddings is None else jax.ShapeDtypeStruct(store.gather(dataset.splits["train"][:1]).shape, np.float32)
    state = initial_state(stream_key(config.seed, "initialisation"), student, method, experiment.optimiser, inputs, embedding)
    return Assembly(
        experiment,
        devices,
        loader,
        embeddings,
        devices.replicate(state),
        devices.compile(functools.partial(train_step, experiment), donate_state=True),
        devices.compile(functools.partial(eval_step, experiment)),
    )


def validate(assembly: Assembly, state: TrainState, config: Any, dataset: AudioDataset) -> dict[str, float]:
    """Metrics and the method's terms on the validation split."""
    ids = dataset.splits["valid"]
    scores, terms = predict(assembly.evaluate, state, dataset, assembly.embeddings, ids, config.evaluation.batch_size, assembly.devices)
    return {**terms, **multilabel_metrics(dataset.labels(ids), scores, dataset.label_mask(ids), threshold=config.evaluation.f1_threshold)}
