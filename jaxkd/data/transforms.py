"""From stored inputs to what a student takes: pure functions that run inside the compiled step."""

from collections.abc import Callable
from typing import Any

import jax

from jaxkd.frontend import LogMel, log_mel, normalise, pcm_to_float, spec_augment
from jaxkd.types import Batch


def audio_transform(
    settings: LogMel, *, fmin_jitter: int = 0, fmax_jitter: int = 0, frequency_mask: int = 0, time_mask: int = 0
) -> Callable[[Any, jax.Array], jax.Array]:
    """The audio front end with its augmentation, in the order of EAsT (arXiv 2306.17424): log-mel, SpecAugment, normalisation.

    Args:
      settings: of the log-mel front end.
      fmin_jitter: in training, fmin + U{0 .. fmin_jitter - 1} Hz per clip; 0 for none.
      fmax_jitter: in training, fmax - U{0 .. fmax_jitter - 1} Hz per clip; 0 for none.
      frequency_mask: SpecAugment's largest width in bands; 0 for none.
      time_mask: SpecAugment's largest width in frames; 0 for none.

    Returns:
      f(keys, inputs): one random key per clip [B], or None for no augmentation, and int16 [B, samples] -> float32 [B, T, F].
    """

    def transform(keys: jax.Array | None, inputs: jax.Array) -> jax.Array:
        waveform = pcm_to_float(inputs)
        if keys is None:
            return normalise(log_mel(waveform, settings), settings)
        low, high, mask = jax.numpy.unstack(jax.vmap(lambda key: jax.random.split(key, 3))(keys), axis=1)
        edges = {}
        if fmin_jitter or fmax_jitter:
            edges["fmin"] = settings.fmin + jax.vmap(lambda key: jax.random.randint(key, (), 0, max(fmin_jitter, 1)))(low)
            edges["fmax"] = settings.fmax - jax.vmap(lambda key: jax.random.randint(key, (), 0, max(fmax_jitter, 1)))(high)
        spectrogram = log_mel(waveform, settings, **edges)
        if frequency_mask or time_mask:
            spectrogram = spec_augment(mask, spectrogram, frequency_mask, time_mask)
        return normalise(spectrogram, settings)

    return transform


def mixup(batch: Batch, partner: Batch, weight: jax.Array, *, mask: str) -> Batch:
    """Mixes each row with its partner: inputs, labels, the teacher's embedding and logits alike (arXiv 1710.09412; arXiv 2306.17424).

    Args:
      batch: rows with floating-point inputs.
      partner: as many rows.
      weight: of the row itself, the partner has 1 - weight; float32 [B].
      mask: "and": a label counts where it is known in both rows; "or": where it is known in one (the unknown one counts as its stored 0).

    Returns:
      The mixed batch; `where`, `targets` and `index` are those of `batch`.
    """

    def mix(one: Any, other: Any) -> Any:
        if one is None:
            return None
        share = weight.reshape(-1, *[1] * (one.ndim - 1))
        return share * one + (1 - share) * other

    known = batch.label_mask & partner.label_mask if mask == "and" else batch.label_mask | partner.label_mask
    return batch._replace(
        inputs=mix(batch.inputs, partner.inputs),
        labels=mix(batch.labels, partner.labels),
        label_mask=known,
        embedding=mix(batch.embedding, partner.embedding),
        teacher_logits=mix(batch.teacher_logits, partner.teacher_logits),
    )
