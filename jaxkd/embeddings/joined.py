"""Several stores read as one: the embeddings of an example side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxkd.embeddings.store import EmbeddingStore, mean_embeddings
from jaxkd.errors import ConfigError


class JoinedStore:
    """The embeddings of several teachers of the same examples, concatenated along D; read like one `EmbeddingStore`.

    Teachers with one frame are repeated over the frames of the others. Where those have different time grids, each is averaged over time first.

    Args:
      stores: one for each teacher, of the same ids.
      over_time: whether the embeddings are used without their time axis, so that different grids may be averaged.

    Attributes:
      widths: D of each teacher; `dim` is their sum.
      frames: T.
      pooled: whether the grids differ and every teacher was averaged over time.

    Raises:
      ConfigError: grids that differ, and `over_time` is False; names them.
    """

    def __init__(self, stores: Sequence[EmbeddingStore], *, over_time: bool) -> None:
        self._stores = tuple(stores)
        self.ids = stores[0].ids
        self.widths = tuple(store.dim for store in stores)
        self.dim = sum(self.widths)
        self.dtype = stores[0].dtype
        grids = [(store.frames, store.identity["hop_seconds"]) for store in stores]
        of_time = [(frames, hop) for frames, hop in grids if frames != 1]
        known = {hop for _, hop in of_time if hop}
        self.pooled = len({frames for frames, _ in of_time}) > 1 or len(known) > 1
        if self.pooled and not over_time:
            shown = ", ".join(f"{store.identity['teacher']} {frames} frames {hop:g} s apart" for store, (frames, hop) in zip(stores, grids, strict=True))
            raise ConfigError(
                f"the teachers have different time grids ({shown}), so that they can only be joined as means over time: set "
                "--config.distance.alignment=repeat, features_expand=-1 and embedding_expand=-1, or name teachers of one grid."
            )
        self.frames = 1 if self.pooled else max(store.frames or 1 for store in stores)
        self.identity: dict[str, Any] = {"teachers": [store.identity for store in stores], "pooled": self.pooled}

    def __len__(self) -> int:
        return len(self.ids)

    def lengths(self, ids: Sequence[str]) -> np.ndarray:
        """Number of frames of each example, int64 [n]."""
        return np.full(len(ids), self.frames, np.int64)

    def gather(self, ids: Sequence[str]) -> np.ndarray:
        """Embeddings in the order of `ids`, [n, T, D]: in the stored dtype, means over time in float32.

        Raises:
          DataError: an id is not in the stores.
        """
        if self.pooled:
            return np.concatenate([mean_embeddings(store, ids)[:, None] for store in self._stores], axis=-1)
        parts = [store.gather(ids) for store in self._stores]
        return np.concatenate([np.broadcast_to(part, (len(ids), self.frames, part.shape[-1])) for part in parts], axis=-1)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of the examples at these places of `ids`, integers [n], as `gather`."""
        return self.gather([self.ids[row] for row in rows])
