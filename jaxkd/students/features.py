"""The students on frozen feature vectors, which are also the classifiers that turn an embedding into a teacher."""

from collections.abc import Sequence

from jaxkd.models.mlp import MLP


def mlp(*, num_outputs: int, axis_name: str | None = None, hidden: Sequence[int] = (256, 256), dropout: float = 0.0) -> MLP:
    """Two hidden layers, as LELP's student on frozen sentence features, whose sizes are not published."""
    return MLP(num_outputs=num_outputs, hidden=tuple(hidden), dropout=dropout, axis_name=axis_name)


def linear(*, num_outputs: int, axis_name: str | None = None) -> MLP:
    """A linear classifier: its features are the inputs themselves. `axis_name` is not used: nothing in it is random or depends on the batch."""
    return MLP(num_outputs=num_outputs)
