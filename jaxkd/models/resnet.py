"""Residual networks of the CIFAR family for small images: basic blocks (He et al., arXiv 1512.03385) and pre-activation bottlenecks (arXiv 1603.05027)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxkd.losses.reduce import to_compute_dtype
from jaxkd.models.batch_norm import BatchNorm
from jaxkd.models.convolution import Conv
from jaxkd.types import StudentOutputs

_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _conv(channels: int, kernel: int, stride: int, name: str) -> Conv:
    """A convolution without bias that is padded alike on both sides."""
    return Conv(channels, kernel, _HE, stride, name=name)


def _pooled(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 1, C]."""
    return x.mean(axis=(1, 2))[:, None]


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions; where the shape changes, the shortcut is strided and filled up with channels of zeros (option A)."""

    channels: int
    stride: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, self.axis_name)
        x = nn.relu(norm(name="norm1")(_conv(self.channels, 3, self.stride, "conv1")(inputs), train))
        x = norm(name="norm2")(_conv(self.channels, 3, 1, "conv2")(x), train)
        shortcut = inputs[:, :: self.stride, :: self.stride]
        added = self.channels - inputs.shape[-1]
        return nn.relu(x + (jnp.pad(shortcut, [(0, 0)] * 3 + [(0, added)]) if added else shortcut))


class _PreActivationBottleneck(nn.Module):
    """Norm, ReLU and convolution three times: 1x1 to a quarter of the channels, 3x3, 1x1; where the shape changes, the shortcut is a 1x1 convolution."""

    channels: int
    stride: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, self.axis_name)
        activated = nn.relu(norm(name="norm1")(inputs, train))
        x = _conv(self.channels // 4, 1, self.stride, "conv1")(activated)
        x = _conv(self.channels // 4, 3, 1, "conv2")(nn.relu(norm(name="norm2")(x, train)))
        x = _conv(self.channels, 1, 1, "conv3")(nn.relu(norm(name="norm3")(x, train)))
        if inputs.shape[-1] != self.channels:
            inputs = _conv(self.channels, 1, self.stride, "shortcut")(activated)
        return x + inputs


class CifarResNet(nn.Module):
    """A 3x3 stem and three stages of residual blocks, the second and third at half the resolution of the one before.

    With basic blocks the depth is 6n + 2 for n blocks a stage, with bottlenecks 9n + 2. Batch statistics are those of the global batch, also under
    pmap with `axis_name`.

    Attributes:
      num_outputs: K, the size of the head.
      blocks: n, blocks a stage.
      widths: channels after each stage; D is the last.
      stem: channels of the stem.
      bottleneck: whether the blocks are pre-activation bottlenecks (inner width a quarter) in place of basic blocks.
      axis_name: the pmap axis over which BatchNorm averages, or None.
    """

    num_outputs: int
    blocks: int
    widths: tuple[int, ...] = (16, 32, 64)
    stem: int = 16
    bottleneck: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps images [B, H, W, channels] to StudentOutputs: logits [B, K], features [B, 1, D], taps after each stage [B, 1, C_k]."""
        norm = partial(BatchNorm, self.axis_name)
        block = _PreActivationBottleneck if self.bottleneck else _BasicBlock
        x = _conv(self.stem, 3, 1, "stem")(to_compute_dtype(inputs))
        if not self.bottleneck:
            x = nn.relu(norm(name="norm")(x, train))
        taps = []
        for stage, channels in enumerate(self.widths, start=1):
            for index in range(self.blocks):
                stride = 2 if stage > 1 and index == 0 else 1
                x = block(channels, stride, self.axis_name, name=f"stage{stage}_block{index + 1}")(x, train)
            if self.bottleneck and stage == len(self.widths):
                x = nn.relu(norm(name="norm")(x, train))
            taps.append(_pooled(x))
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(taps[-1][:, 0]), taps[-1], tuple(taps))
