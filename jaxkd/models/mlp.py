"""A multi-layer perceptron on feature vectors; without hidden layers it is a linear classifier."""

import flax.linen as nn
import jax

from jaxkd.losses.reduce import to_compute_dtype
from jaxkd.models.dropout import Dropout
from jaxkd.types import StudentOutputs


class MLP(nn.Module):
    """Hidden layers with ReLU, head.

    Attributes:
      num_outputs: K, the size of the head.
      hidden: sizes of the hidden layers; with none, the features are the inputs themselves.
      dropout: rate after every hidden layer.
      axis_name: the pmap axis over which the batch is split, or None; dropout then is that of the whole batch.
    """

    num_outputs: int
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> StudentOutputs:
        """Maps feature vectors [B, D] to StudentOutputs: logits [B, K], features [B, 1, C], taps after each hidden layer [B, 1, C_k]."""
        x = to_compute_dtype(inputs)
        taps = [] if self.hidden else [x[:, None]]
        for number, size in enumerate(self.hidden, start=1):
            x = Dropout(self.dropout, self.axis_name)(nn.relu(nn.Dense(size, name=f"hidden{number}")(x)), train)
            taps.append(x[:, None])
        return StudentOutputs(nn.Dense(self.num_outputs, name="head")(x), taps[-1], tuple(taps))
