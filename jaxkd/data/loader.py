"""Batches by example id, joined with embeddings. A training batch is a pure function of the step, so a data position is one integer."""

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.errors import ConfigError
from jaxkd.types import Batch, Gatherable, TeacherSide

ALL_ROWS = slice(None)
_STREAMS = {"labelled": 1, "unlabelled": 2, "partner": 3, "mixup": 4, "turn": 5}


class TrainBatch(NamedTuple):
    """What a training step takes: the rows, their mixup partners (or None) and the weight of the row itself, float32 [B]."""

    rows: Batch
    partners: Batch | None
    mixup_weight: np.ndarray | None


def _generator(seed: int, stream: str, position: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, _STREAMS[stream], position])))


@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int, stream: str, epoch: int) -> np.ndarray:
    """One run of a stream; kept, since many batches are drawn from it."""
    return _generator(seed, stream, epoch).permutation(count)


def stream_indices(count: int, start: int, size: int, *, seed: int, stream: str) -> np.ndarray:
    """Places `start .. start + size - 1` of an endless stream in which each run of `count` is a new permutation: int64 [size]."""
    return np.concatenate(
        [
            _permutation(count, seed, stream, epoch)[max(start - epoch * count, 0) : start + size - epoch * count]
            for epoch in range(start // count, (start + size - 1) // count + 1)
        ]
    )


def gather_batch(
    dataset: Dataset,
    inputs: Gatherable,
    teacher: TeacherSide,
    ids: list[str],
    *,
    size: int | None = None,
    rows: slice = ALL_ROWS,
    fitting: list[str] | None = None,
) -> Batch:
    """The rows of `ids`, padded to `size` by repeating the last row with `where` False; of these, `rows` alone are read.

    Rows of tokens are as long as the longest of `fitting`, by default of the whole batch, in every process.
    """
    whole = ids + [ids[-1]] * ((size or len(ids)) - len(ids))
    padded = whole[rows]
    embedding, logits, targets = (None if part is None else part.gather(padded) for part in teacher)
    return Batch(
        inputs=inputs.gather(padded, fitting=fitting or whole) if hasattr(inputs, "lengths") else inputs.gather(padded),  # type: ignore[call-arg]
        labels=dataset.labels(padded),
        label_mask=dataset.label_mask(padded),
        embedding=embedding,
        where=(np.arange(len(whole)) < len(ids))[rows],
        teacher_logits=logits,
        targets=targets,
    )


class TrainLoader:
    """Draws training batches: labelled rows first, then unlabelled ones, each from a stream of permutations without a dropped remainder.

    Args:
      dataset: labels, read by id.
      inputs: of the student, read by id.
      teacher: what a method needs of the teacher, read by id.
      batch_size: labelled rows a batch.
      unlabelled_ratio: unlabelled rows for each labelled one.
      mixup_alpha: of Beta(alpha, alpha); 0 for no mixup. The partner of a labelled row is uniform over the labelled rows, that of an
        unlabelled one over the unlabelled rows; the weight is max(w, 1 - w).
      seed: of all draws.
      section: of the config that the sizes come from; for messages.
      together: steps whose batches are given at once, rows of tokens in all of them as long as the longest.
      length_pool: batches that are drawn together and divided by the length of their rows (`inputs.lengths(ids)`), so that little is padding; 1 for none.
      own_rows: f(rows of a batch) -> those that this process reads; None for all.

    Raises:
      ConfigError: a batch is larger than the data set, or rows without lengths are to be pooled by length.
    """

    def __init__(
        self,
        dataset: Dataset,
        inputs: Gatherable,
        teacher: TeacherSide,
        *,
        batch_size: int,
        unlabelled_ratio: int,
        mixup_alpha: float,
        seed: int,
        section: str = "training",
        length_pool: int = 1,
        together: int = 1,
        own_rows: Callable[[int], slice] | None = None,
    ):
        if length_pool > 1 and not hasattr(inputs, "lengths"):
            raise ConfigError(f"config.{section}.length_pool is {length_pool}, but only tokens have a length: set it to 1.")
        train = dataset.splits["train"]
        labelled = np.any(dataset.label_mask(train), axis=1)
        self._pools = {
            "labelled": [train[row] for row in np.flatnonzero(labelled)],
            "unlabelled": [train[row] for row in np.flatnonzero(~labelled)],
        }
        self._sizes = {"labelled": batch_size, "unlabelled": batch_size * unlabelled_ratio if self._pools["unlabelled"] else 0}
        for stream, size in self._sizes.items():
            if size > len(self._pools[stream]):
                field = "batch_size" if stream == "labelled" else "unlabelled_ratio"
                raise ConfigError(f"a batch draws {size} {stream} rows, but the training split has {len(self._pools[stream])}: lower config.{section}.{field}.")
        self._sources, self._alpha, self._seed = (dataset, inputs, teacher), mixup_alpha, seed
        self._place = {example: place for place, example in enumerate(train)}
        self._length_pool, self._together = length_pool, together
        self._own = own_rows(self.rows) if own_rows else ALL_ROWS

    @property
    def rows(self) -> int:
        """Rows a batch, labelled and unlabelled."""
        return sum(self._sizes.values())

    def ids(self, step: int) -> list[str]:
        """The ids of the batch of a step (from 0)."""
        return [example for stream, size in self._sizes.items() if size for example in self._draw(stream, size, step)]

    def _draw(self, stream: str, size: int, step: int) -> list[str]:
        """The rows of one stream in the batch of a step: those of a pool of batches, shortest first, in batches of random order."""
        pool, first = self._pools[stream], step - step % self._length_pool
        indices = stream_indices(len(pool), first * size, self._length_pool * size, seed=self._seed, stream=stream)
        drawn = [pool[index] for index in indices]
        if self._length_pool == 1:
            return drawn
        order = np.argsort(self._sources[1].lengths(drawn), kind="stable")  # type: ignore[attr-defined]
        turn = _generator(self._seed, "turn", first).permutation(self._length_pool)[step - first]
        return [drawn[place] for place in order[turn * size : (turn + 1) * size]]

    def _gather(self, ids: list[str], fitting: list[str] | None) -> Batch:
        own = np.fromiter(map(self._place.__getitem__, ids[self._own]), np.int32)
        return gather_batch(*self._sources, ids, rows=self._own, fitting=fitting)._replace(index=own)

    def batch(self, step: int, *, fitting: list[str] | None = None) -> TrainBatch:
        """The batch of a step (from 0), or what this process reads of it; rows of tokens are as long as the longest of `fitting`, or else of the batch."""
        rows = self._gather(self.ids(step), fitting)
        if not self._alpha:
            return TrainBatch(rows, None, None)
        generator = _generator(self._seed, "partner", step)
        partners = [pool[i] for stream, size in self._sizes.items() if size for pool in [self._pools[stream]] for i in generator.integers(len(pool), size=size)]
        weight = _generator(self._seed, "mixup", step).beta(self._alpha, self._alpha, self.rows).astype(np.float32)
        return TrainBatch(rows, self._gather(partners, fitting), np.maximum(weight, 1 - weight)[self._own])

    def _batches_together(self, first: int) -> TrainBatch | tuple[TrainBatch, ...]:
        if self._together == 1:
            return self.batch(first)
        steps = range(first, first + self._together)
        fitting = [example for step in steps for example in self.ids(step)]
        return tuple(self.batch(step, fitting=fitting) for step in steps)

    def batches(self, start: int, stop: int, *, ahead: int = 1, place: Callable[[Any], Any] = lambda batch: batch) -> Generator[Any]:
        """The batches of steps `start .. stop - 1`, of which a thread reads and places up to `ahead` before they are asked for.

        With several steps together their batches are one tuple; `start` and `stop` are multiples of their number.
        """
        executor, waiting, firsts = ThreadPoolExecutor(max_workers=1), deque[Future](), deque(range(start, stop, self._together))
        try:
            while firsts or waiting:
                while firsts and len(waiting) <= ahead:
                    waiting.append(executor.submit(lambda first: place(self._batches_together(first)), firsts.popleft()))
                yield waiting.popleft().result()
        finally:
            executor.shutdown(cancel_futures=True)


def eval_batches(
    dataset: Dataset, inputs: Gatherable, teacher: TeacherSide, ids: list[str], batch_size: int, rows: slice = ALL_ROWS
) -> Iterator[tuple[int, Batch]]:
    """The rows of `ids` in order, in batches of one size: the last is padded, so that no example is dropped and nothing compiles twice.

    Yields:
      How many rows of the batch are examples; and the batch, or `rows` of it.
    """
    for start in range(0, len(ids), batch_size):
        of_batch = ids[start : start + batch_size]
        yield len(of_batch), gather_batch(dataset, inputs, teacher, of_batch, size=batch_size, rows=rows)
