"""MobileNet for small images (Howard et al., arXiv 1704.04861): separable convolutions behind a stem that keeps the resolution."""

import flax.linen as nn
import jax

from jaxkd.losses.reduce import to_compute_dtype
from jaxkd.models.batch_norm import BatchNorm
from jaxkd.models.convolution import Conv
from jaxkd.models.depthwise import depthwise_conv
from jaxkd.types import StudentOutputs

STAGES = (((64, 1),), ((128, 2), (128, 1)), ((256, 2), (256, 1)), ((512, 2), *[(512, 1)] * 5), ((1024, 2), (1024, 1)))
_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_HE_DEPTHWISE = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class _SeparableConv(nn.Module):
    """A depthwise 3x3 and a 1x1 convolution, each with norm and ReLU."""

    channels: int
    stride: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        kernel = self.param("depthwise", _HE_DEPTHWISE, (3, 3, 1, inputs.shape[-1]))
        x = nn.relu(BatchNorm(self.axis_name, name="norm1")(depthwise_conv(inputs, kernel, self.stride), train))
        x = Conv(self.channels, 1, _HE, name="pointwise")(x)
        return nn.relu(BatchNorm(self.axis_name, name="norm2")(x, train))


class MobileNet(nn.Module):
    """MobileNet (v1) in the form used for 32x32 images: a stride-1 stem, then four halvings.

    Width 1 has 3,217,226 parameters at 3 input channels and 10 outputs. Batch statistics are those of the global batch, also under pmap with `axis_name`.

    Attributes:
      num_outputs: K, the size of the head.
      width: multiplier of all channel counts; D is 1024 times it.
      stages: channels and stride of each separable convolution, by resolution.
      axis_name: the pmap axis over which BatchNorm averages, or None.
    """

    num_outputs: int
    width: float = 1.0
    stages: tuple[tuple[tuple[int, int], ...], ...] = STAGES
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps images [B, H, W, channels] to StudentOutputs: logits [B, K], features [B, 1, D], taps after each resolution [B, 1, C_k]."""
        x = Conv(round(32 * self.width), 3, _HE, name="stem")(to_compute_dtype(inputs))
        x = nn.relu(BatchNorm(self.axis_name, name="norm")(x, train))
        taps = []
        for stage, layers in enumerate(self.stages, start=1):
            for index, (channels, stride) in enumerate(layers, start=1):
                x = _SeparableConv(round(channels * self.width), stride, self.axis_name, name=f"stage{stage}_conv{index}")(x, train)
            taps.append(x.mean(axis=(1, 2))[:, None])
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(taps[-1][:, 0]), taps[-1], tuple(taps))
