"""The distance between a student's stages and a target embedding, with the adapters that FitNet trains."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import losses as lib
from jaxkd.methods import require_stages
from jaxkd.torch_start import TORCH_DEFAULT
from jaxkd.types import Array, StudentOutputs

_ROW_BY_ROW = {"fitnet": lib.fitnet, "l2": lib.l2, "cosine": lib.cosine}
_CORRELATIONS = {"distance_correlation": lib.distance_correlation_loss, "cosine_distance_correlation": lib.cosine_distance_correlation_loss}


class Stage(NamedTuple):
    """A stage of the student that the distance looks at: its place among the taps, its share of the distance, and how often each side's frames are repeated."""

    tap: int
    share: float
    features_expand: int
    embedding_expand: int


def stages(config: Any) -> list[Stage]:
    """The stages with a weight in `config.distance.stage_weights`, their shares summing to 1; the last stage alone where the config lists none ("Final")."""
    settings = config.distance
    if not settings.stage_weights:
        return [Stage(-1, 1.0, settings.features_expand, settings.embedding_expand)]
    count, total = len(settings.stage_weights), sum(settings.stage_weights)
    features_expand = settings.stage_features_expand or [settings.features_expand] * count
    embedding_expand = settings.stage_embedding_expand or [settings.embedding_expand] * count
    listed = zip(range(count), settings.stage_weights, features_expand, embedding_expand, strict=True)
    return [Stage(tap, weight / total, *expands) for tap, weight, *expands in listed if weight]


def adapt(config: Any, outputs: StudentOutputs, target_dim: int, widths: tuple[int, ...] = ()) -> tuple[jax.Array, ...]:
    """Inside a module: the stages [B, T_k, C_k] as the distance takes them; for FitNet a linear adapter each (arXiv 1412.6550) maps C_k to D.

    Args:
      config: with `distance`.
      outputs: of the student.
      target_dim: D, of all teachers.
      widths: of each teacher, where each has its own distance, or ().

    Raises:
      ConfigError: the distance does not fit the stages or the target, see `require_stages`.
    """
    taps = (*outputs.taps[:-1], outputs.features)
    require_stages(config, [tap.shape[-1] for tap in taps], widths or (target_dim,))
    adapted = []
    for stage in stages(config):
        features = taps[stage.tap]
        if config.distance.name == "fitnet":
            suffix = "" if stage.tap == -1 else f"_{stage.tap}"
            features = nn.Dense(target_dim, kernel_init=TORCH_DEFAULT, name=f"adapter{suffix}")(features)
        adapted.append(features)
    return tuple(adapted)


def split_widths(x: Array, widths: tuple[int, ...]) -> list[jax.Array]:
    """[..., sum of widths] -> one [..., width] for each teacher; the whole for ()."""
    return jnp.split(jnp.asarray(x), np.cumsum(widths[:-1]).tolist(), axis=-1)


def distance(config: Any, adapted: tuple[Array, ...], embedding: Array, where: Array | None, axis_name: str | None, widths: tuple[int, ...] = ()) -> jax.Array:
    """The distance that the config names, after the time axes are aligned: the weighted mean over the stages, and the mean over the teachers of `widths`.

    Args:
      config: with `distance`.
      adapted: from `adapt`, [B, T_k, C_k] each.
      embedding: target, [B, T', D].
      where: rows that count, bool [B].
      axis_name: mapped axis over which the batch is split, or None.
      widths: of the targets that stand side by side in `embedding`, where each has its own distance, or ().

    Returns:
      float32 scalar of at least 0 (the bias-corrected correlations: up to 2): see `jaxkd.losses`, of which each name is a function.
    """
    targets = split_widths(embedding, widths)
    apart = []
    for stage, features in zip(stages(config), adapted, strict=True):
        sides = split_widths(features, widths) if config.distance.name == "fitnet" else [features] * len(targets)
        of_teachers = [_of_stage(config, stage, side, target, where, axis_name) for side, target in zip(sides, targets, strict=True)]
        apart.append(stage.share * sum(of_teachers[1:], of_teachers[0]) / len(targets))
    return sum(apart[1:], apart[0])


def _of_stage(config: Any, stage: Stage, features: Array, embedding: Array, where: Array | None, axis_name: str | None) -> jax.Array:
    settings = config.distance
    expands = {"features_expand": stage.features_expand, "embedding_expand": stage.embedding_expand} if settings.alignment == "repeat" else {}
    features, embedding = lib.align_time(features, embedding, alignment=settings.alignment, **expands)
    if settings.name in _ROW_BY_ROW:
        return _ROW_BY_ROW[settings.name](features, embedding, where=where, axis_name=axis_name)
    of_groups = {"group_size": settings.group_size or None, "where": where, "axis_name": axis_name, "gather": settings.gather}
    if settings.name == "cosine_distance_difference":
        return lib.cosine_distance_difference(features, embedding, difference=settings.difference, **of_groups)
    eps = lib.EAST_EPS if settings.absolute_eps else None
    # pmap alone leaves a choice: under jit each device computes its own rows of every matrix of pairs.
    own = {"rows": settings.rows if config.parallel.mode == "pmap" else "own"} if settings.name == "distance_correlation" else {}
    return _CORRELATIONS[settings.name](features, embedding, bias_corrected=settings.bias_corrected, eps=eps, **own, **of_groups)
