"""CP-ResNet: a residual network with a limited receptive field in frequency (EAsT, arXiv 2306.17424; after Koutini et al., arXiv 1907.01803)."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.types import StudentOutputs


class Stage(NamedTuple):
    """One stage: output channels, the two kernel sizes of each block, and the blocks (from 0) that a 2x2 max-pool follows."""

    channels: int
    kernels: tuple[tuple[int, int], ...]
    pool_after: tuple[int, ...] = ()


EAST_STAGES = (
    Stage(128, ((3, 1), (3, 3), (3, 3), (3, 3)), pool_after=(0, 1, 3)),
    Stage(256, ((3, 1), (1, 3), (1, 3), (1, 3))),
    Stage(512, ((1, 1), (1, 1), (1, 1), (1, 1))),
)

_HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""How torch starts a linear layer."""


def _normal(standard_deviation: float) -> nn.initializers.Initializer:
    return nn.initializers.normal(standard_deviation)


def _max_pool(x: jax.Array) -> jax.Array:
    """2x2 max-pool [B, H, W, C] that drops an odd last row or column; elementwise, since the gradient of a window reduction is serial on CPU."""
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    x = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(x[:, :, 0:width:2], x[:, :, 1:width:2])


class _ConvNorm(nn.Module):
    channels: int
    kernel: int
    init: nn.initializers.Initializer
    stride: int = 1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        padding = self.kernel // 2
        x = nn.Conv(
            self.channels,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=[(padding, padding)] * 2,
            use_bias=False,
            kernel_init=self.init,
            name="conv",
        )(inputs)
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, axis_name=self.axis_name, name="norm")(x)


class _Block(nn.Module):
    channels: int
    kernels: tuple[int, int]
    blocks: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        first, second = self.kernels
        scale = self.blocks**-0.5 * math.sqrt(2.0 / (first * first * self.channels))
        x = _ConvNorm(self.channels, first, _normal(scale), axis_name=self.axis_name, name="first")(inputs, train)
        x = _ConvNorm(self.channels, second, nn.initializers.zeros, axis_name=self.axis_name, name="second")(nn.relu(x), train)
        if inputs.shape[-1] != self.channels:
            inputs = _ConvNorm(self.channels, 1, _normal(math.sqrt(2.0 / self.channels)), axis_name=self.axis_name, name="shortcut")(inputs, train)
        return nn.relu(x + inputs)


class CPResNet(nn.Module):
    """CP-ResNet on log-mel frames.

    The defaults are the network of EAsT (5,534,612 parameters at 20 outputs, receptive field 231 frames). Initialisation is
    Fixup-like: each block starts as its shortcut. Batch statistics are those of the global batch, also under pmap with `axis_name`.

    Attributes:
      num_outputs: K, the size of the head.
      stem_channels: channels of the 5x5 stride-2 stem.
      stages: the stages, each with its blocks.
      pool_stem: whether a 2x2 max-pool follows the stem.
      axis_name: the pmap axis over which BatchNorm averages, or None.
    """

    num_outputs: int
    stem_channels: int = 128
    stages: tuple[Stage, ...] = EAST_STAGES
    pool_stem: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps log-mel [B, T, F] to StudentOutputs: logits [B, K], features [B, T', C], taps after each stage [B, T_k, C_k]."""
        blocks = sum(len(stage.kernels) for stage in self.stages)
        stem_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        x = _ConvNorm(self.stem_channels, 5, stem_init, stride=2, axis_name=self.axis_name, name="stem")(inputs[..., None], train)
        x = _max_pool(nn.relu(x)) if self.pool_stem else nn.relu(x)
        taps = []
        for number, stage in enumerate(self.stages, start=1):
            for index, kernels in enumerate(stage.kernels):
                x = _Block(stage.channels, kernels, blocks, self.axis_name, name=f"stage{number}_block{index + 1}")(x, train)
                if index in stage.pool_after:
                    x = _max_pool(x)
            taps.append(x.mean(axis=2))
        logits = nn.Dense(self.num_outputs, kernel_init=_HEAD_INIT, name="head")(taps[-1].mean(axis=1))
        return StudentOutputs(logits, taps[-1], tuple(taps))
