"""Mobile FCN: separable convolutions and large poolings, a small music tagger (EAsT, arXiv 2306.17424)."""

import flax.linen as nn
import jax

from jaxkd.errors import ConfigError
from jaxkd.models.batch_norm import BatchNorm
from jaxkd.models.convolution import Conv
from jaxkd.models.depthwise import depthwise_conv
from jaxkd.models.dropout import Dropout
from jaxkd.models.pooling import max_pool
from jaxkd.torch_start import TORCH_DEFAULT, torch_bias
from jaxkd.types import StudentOutputs

BANDS = (96, 128)
"""The numbers of mel bands that the poolings reduce to 1."""

FRAMES = 96
"""Frames that the poolings reduce to 1."""


class _Layer(nn.Module):
    """A 3x3 convolution, plain or separable, each convolution with norm and ReLU, then a max-pool of frames x bands."""

    channels: int
    pool: tuple[int, int] = (1, 1)
    separable: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.separable:
            kernel = self.param("depthwise", TORCH_DEFAULT, (3, 3, 1, x.shape[-1]))
            x = nn.relu(BatchNorm(self.axis_name, name="depthwise_norm")(depthwise_conv(x, kernel), train))
        x = Conv(self.channels, 1 if self.separable else 3, TORCH_DEFAULT, name="conv")(x)
        return max_pool(nn.relu(BatchNorm(self.axis_name, name="norm")(x, train)), *self.pool)


class MobileFCN(nn.Module):
    """Mobile FCN on log-mel frames: 314,098 parameters at 50 outputs.

    Dropout and batch statistics are those of the global batch, also under pmap with `axis_name`.

    Attributes:
      num_outputs: K, the size of the head.
      dropout: rate after layers 4, 6 and 8.
      axis_name: the pmap axis over which the batch is split, or None.
    """

    num_outputs: int
    dropout: float = 0.5
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps log-mel [B, T, F] with F of BANDS to StudentOutputs: logits [B, K], features [B, T // 96, 256], taps before each dropout [B, T_k, C_k].

        Raises:
          ConfigError: another number of bands, or fewer frames than FRAMES.
        """
        frames, bands = inputs.shape[1:]
        if bands not in BANDS:
            raise ConfigError(f"the Mobile FCN takes {' or '.join(map(str, BANDS))} mel bands, not {bands}: set frontend.bands.")
        if frames < FRAMES:
            raise ConfigError(f"the Mobile FCN needs at least {FRAMES} frames, not {frames}: take longer clips or a shorter frontend.hop.")
        # channels and pooled (frames, bands) of each layer
        stages = (
            ((64, (4, 2)), (128, (3, 2)), (128, (2, 2)), (128, (2, bands // 32))),
            ((128, (2, 4)), (256, (1, 1))),
            ((256, (1, 1)), (256, (1, 1))),
        )
        x, taps, number = inputs[..., None], [], 0
        for stage in stages:
            for channels, pool in stage:
                number += 1
                x = _Layer(channels, pool, separable=number > 2, axis_name=self.axis_name, name=f"layer{number}")(x, train)
            taps.append(x.mean(axis=2))
            x = Dropout(self.dropout, self.axis_name)(x, train)
        pooled = x.mean(axis=(1, 2))
        head = nn.Dense(self.num_outputs, kernel_init=TORCH_DEFAULT, bias_init=torch_bias(pooled.shape[-1]), name="head")
        return StudentOutputs(head(pooled), taps[-1], tuple(taps))
