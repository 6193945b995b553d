"""Methods on one vector a row, the student's feature and the teacher's embedding, beside knowledge distillation: embedding distillation, FitNet, VID, RKD."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd import losses as lib
from jaxkd.errors import ConfigError
from jaxkd.methods.distillation import kd_divergence
from jaxkd.methods.method import Context, Method, label_loss
from jaxkd.torch_start import TORCH_DEFAULT
from jaxkd.types import Array, Batch, StudentOutputs

FeatureLoss = Callable[[Any, Batch, str | None], Array]
"""f(what the auxiliary module returned, batch, axis_name) -> scalar."""


def _pooled(x: Array) -> jax.Array:
    return jnp.asarray(x).mean(axis=1)


class _Projected(nn.Module):
    """A trained linear map of the student's pooled features to the teacher's width: [B, D]."""

    tap: int = -1

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> jax.Array:
        taps = len(outputs.taps)
        if not -taps <= self.tap < taps:
            raise ConfigError(f"config.fitnet.tap is {self.tap}, but the student has {taps} tap(s): choose from {-taps} to {taps - 1}.")
        return nn.Dense(batch.embedding_dim, kernel_init=TORCH_DEFAULT, name="projection")(_pooled(outputs.taps[self.tap]))


class _Variational(nn.Module):
    """The mean network of VID, three layers, and one raw variance a dimension: ([B, D], [D])."""

    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> tuple[jax.Array, jax.Array]:
        width = batch.embedding_dim
        mean = _pooled(outputs.features)
        for layer in range(2):
            mean = nn.relu(nn.Dense(width, kernel_init=TORCH_DEFAULT, name=f"mean_{layer}")(mean))
        mean = nn.Dense(width, kernel_init=TORCH_DEFAULT, name="mean_2")(mean)
        return mean, self.param("raw_variance", nn.initializers.constant(lib.initial_raw_variance()), (width,))


class _Features(nn.Module):
    @nn.compact
    def __call__(self, outputs: StudentOutputs, batch: Batch) -> jax.Array:
        return _pooled(outputs.features)


def _method(name: str, config: Any, context: Context, auxiliary: nn.Module, feature_loss: FeatureLoss) -> Method:
    """L = alpha * label loss + (1 - alpha) * knowledge distillation + weight * feature loss, with the weight of `config.NAME.weight`."""
    alpha, weight, divergence = config.distillation.alpha, config[name].weight, kd_divergence(config, context)

    def losses(outputs: StudentOutputs, projected: Any, batch: Batch, axis_name: str | None) -> dict[str, Array]:
        label = label_loss(context.task, outputs.logits, batch, axis_name)
        kd = divergence(outputs.logits, batch, axis_name)
        apart = feature_loss(projected, batch, axis_name)
        total = alpha * label + (1 - alpha) * kd + weight * apart
        return {"loss": total, "label_loss": label, "distillation": kd, "distance": apart}

    return Method(losses, needs=("embedding", "logits"), auxiliary=auxiliary)


def _l2(projected: Array, batch: Batch, axis_name: str | None) -> Array:
    return lib.l2(projected, _pooled(batch.embedding), where=batch.where, axis_name=axis_name)


def embedding_distillation(config: Any, context: Context) -> Method:
    """Mean squared error between the projected feature and the embedding (the baseline of arXiv 2409.20449)."""
    return _method("embedding_distillation", config, context, _Projected(), _l2)


def fitnet(config: Any, context: Context) -> Method:
    """FitNet: the same on a hint layer of the student, tap `config.fitnet.tap` (Romero et al. 2015, arXiv 1412.6550), trained jointly."""
    method = _method("fitnet", config, context, _Projected(config.fitnet.tap), _l2)
    same = "fitnet on the student's last tap is embedding_distillation: --config.fitnet.tap=0 names its first, where it has more than one."
    return dataclasses.replace(method, warning=same if config.fitnet.tap == -1 else "")


def vid(config: Any, context: Context) -> Method:
    """Variational information distillation with trained variances (Ahn et al. 2019, arXiv 1904.05835)."""

    def feature_loss(projected: tuple[Array, Array], batch: Batch, axis_name: str | None) -> Array:
        mean, raw_variance = projected
        return lib.vid(mean, _pooled(batch.embedding), raw_variance, where=batch.where, axis_name=axis_name)

    return _method("vid", config, context, _Variational(), feature_loss)


def rkd(config: Any, context: Context) -> Method:
    """Relational knowledge distillation: distances and angles within groups of `config.rkd.group_size` rows (Park et al. 2019, arXiv 1904.05068)."""
    group_size = config.rkd.group_size or None

    def feature_loss(features: Array, batch: Batch, axis_name: str | None) -> Array:
        return lib.rkd(features, _pooled(batch.embedding), group_size=group_size, where=batch.where, axis_name=axis_name)

    return _method("rkd", config, context, _Features(), feature_loss)
