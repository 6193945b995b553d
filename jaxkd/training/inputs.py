"""What a student takes: where its inputs are read by id, and the transform from them, inside the compiled step, to what its network sees."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.data.image_transform import image_transform, pixel_statistics
from jaxkd.data.tokens import TokenView
from jaxkd.data.transforms import audio_transform
from jaxkd.embeddings.blocks import mean_and_std
from jaxkd.embeddings.store import EmbeddingStore, mean_embeddings
from jaxkd.frontend import LogMel
from jaxkd.types import Gatherable

Transform = Callable[[Any, jax.Array], jax.Array]
LOG_MEL_FIELDS = ("kind", "n_fft", "window", "hop", "bands", "fmin", "fmax")


class StudentInputs(NamedTuple):
    """The inputs of a network.

    Attributes:
      source: read by id.
      transform: f(keys, rows): one random key a row, or None for no augmentation.
      settings: JSON values that rebuild the transform without augmentation (`transform_of`).
      notes: remarks for the report.
    """

    source: Gatherable
    transform: Transform
    settings: dict[str, Any]
    notes: dict[str, str]

    def shape(self, example: str) -> jax.ShapeDtypeStruct:
        """Shape and dtype of what the network sees for one example, [1, ...]."""
        return jax.eval_shape(lambda rows: self.transform(None, rows), self.source.gather([example]))


class Features(NamedTuple):
    """Vectors of a store, one an example."""

    store: EmbeddingStore

    def gather(self, ids: list[str]) -> np.ndarray:
        """float32 [n, D]: the mean over frames."""
        return mean_embeddings(self.store, ids)


def transform_of(settings: dict[str, Any], **augmentation: int) -> Transform:
    """The transform that `settings` describe: log-mel, token ids as they are, normalised pixels, or standardised features."""
    kind = settings["kind"]
    if kind == "log_mel":
        return audio_transform(log_mel(settings), **augmentation)
    if kind == "image":
        return image_transform(np.array(settings["mean"], np.float32), np.array(settings["std"], np.float32))
    if kind == "features":
        mean, std = np.array(settings["mean"], np.float32), np.array(settings["std"], np.float32)
        return lambda keys, rows: (jnp.asarray(rows, jnp.float32) - mean) / std
    return lambda keys, rows: jnp.asarray(rows, jnp.int32)


def log_mel(settings: dict[str, Any]) -> LogMel:
    """The front end of the settings of kind "log_mel"."""
    return LogMel(sample_rate=settings["sample_rate"], **{name: settings["frontend"][name] for name in LOG_MEL_FIELDS})


def audio_inputs(config: Any, dataset: Any) -> StudentInputs:
    """Clips through the log-mel front end of the config, augmented in training."""
    settings = {"kind": "log_mel", "sample_rate": dataset.sample_rate, "frontend": config.frontend.to_dict(), "samples": dataset.input_shape[0]}
    augmentation = {name: config.frontend[name] for name in ("fmin_jitter", "fmax_jitter")}
    augmentation |= {name: config.training[name] for name in ("frequency_mask", "time_mask")}
    return StudentInputs(dataset, transform_of(settings, **augmentation), settings, {})


def token_inputs(view: TokenView, tokeniser: dict[str, Any]) -> StudentInputs:
    """Token ids; `tokeniser` are JSON values that say how text became tokens."""
    settings = {"kind": "tokens", "tokeniser": tokeniser}
    return StudentInputs(view, transform_of(settings), settings, {"tokens": view.note} if view.note else {})


def image_inputs(dataset: Any) -> StudentInputs:
    """Pixels, normalised by mean and standard deviation of the training split."""
    mean, std = pixel_statistics(dataset)
    settings = {"kind": "image", "shape": list(dataset.input_shape), "mean": np.ravel(mean).tolist(), "std": np.ravel(std).tolist()}
    return StudentInputs(dataset, transform_of(settings), settings, {})


def feature_inputs(store: EmbeddingStore, notes: dict[str, str], train_ids: list[str] | None) -> StudentInputs:
    """Frozen features, standardised by the training split, or as they are for None; `notes` are remarks on how they were made."""
    source = Features(store)
    mean, std = (np.zeros(store.dim), np.ones(store.dim)) if train_ids is None else mean_and_std(source.gather, train_ids)
    settings = {
        "kind": "features",
        "made_by": store.identity,
        "mean": mean.astype(np.float32).tolist(),
        "std": std.astype(np.float32).tolist(),
    }
    return StudentInputs(source, transform_of(settings), settings, notes)
