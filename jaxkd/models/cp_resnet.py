"""CP-ResNet: a residual network with a limited receptive field in frequency (EAsT, arXiv 2306.17424; after Koutini et al., arXiv 1907.01803)."""

import math
from typing import Literal, NamedTuple

import flax.linen as nn
import jax

from jaxkd.models.batch_norm import BatchNorm
from jaxkd.models.convolution import Conv
from jaxkd.models.pooling import max_pool
from jaxkd.torch_start import TORCH_DEFAULT
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

TEXTBOOK_STAGES = (
    EAST_STAGES[0],
    Stage(256, ((3, 1), (1, 1), (1, 1), (1, 1))),
    EAST_STAGES[2],
)


def _normal(standard_deviation: float) -> nn.initializers.Initializer:
    return nn.initializers.normal(standard_deviation)


class _ConvNorm(nn.Module):
    channels: int
    kernel: int
    init: nn.initializers.Initializer
    stride: int = 1
    padding: int | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        x = Conv(self.channels, self.kernel, self.init, self.stride, self.padding, name="conv")(inputs)
        return BatchNorm(self.axis_name, name="norm")(x, train)


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
      stem_padding: rows and columns of zeros around the stem's input.
      pool_stem: whether a 2x2 max-pool follows the stem.
      head: "linear" on the mean over time and frequency, or "conv": a 1x1 convolution with norm, then that mean.
      axis_name: the pmap axis over which BatchNorm averages, or None.
    """

    num_outputs: int
    stem_channels: int = 128
    stages: tuple[Stage, ...] = EAST_STAGES
    stem_padding: int = 2
    pool_stem: bool = False
    head: Literal["linear", "conv"] = "linear"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps log-mel [B, T, F] to StudentOutputs: logits [B, K], features [B, T', C], taps after each stage [B, T_k, C_k]."""
        blocks = sum(len(stage.kernels) for stage in self.stages)
        stem_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
        x = _ConvNorm(self.stem_channels, 5, stem_init, stride=2, padding=self.stem_padding, axis_name=self.axis_name, name="stem")(inputs[..., None], train)
        x = max_pool(nn.relu(x), 2, 2) if self.pool_stem else nn.relu(x)
        taps = []
        for number, stage in enumerate(self.stages, start=1):
            for index, kernels in enumerate(stage.kernels):
                x = _Block(stage.channels, kernels, blocks, self.axis_name, name=f"stage{number}_block{index + 1}")(x, train)
                if index in stage.pool_after:
                    x = max_pool(x, 2, 2)
            taps.append(x.mean(axis=2))
        if self.head == "conv":
            logits = _ConvNorm(self.num_outputs, 1, TORCH_DEFAULT, axis_name=self.axis_name, name="head")(x, train).mean(axis=(1, 2))
        else:
            logits = nn.Dense(self.num_outputs, kernel_init=TORCH_DEFAULT, name="head")(taps[-1].mean(axis=1))
        return StudentOutputs(logits, taps[-1], tuple(taps))
