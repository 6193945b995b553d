"""A data set of which only a share of the labelled training examples keeps its labels; the others become unlabelled."""

import copy

import numpy as np

from jaxkd.data.dataset import Dataset
from jaxkd.errors import ConfigError
from jaxkd.files import sha256_json

STREAM = 6


def fewer_labels(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The data set with labels on a share of its labelled training examples only.

    They are drawn by one permutation a seed, so that the examples of a smaller share are among those of a larger one. The other splits, the ids and what a
    teacher embeds stay the same.

    Args:
      dataset: multi-label.
      share: of the labelled training examples, above 0 and at most 1.
      seed: of the permutation.

    Raises:
      ConfigError: a multi-class data set, which has `data.labelled` for that.
    """
    if share == 1.0:
        return dataset
    if dataset.task != "multilabel":
        raise ConfigError(f"config.data.label_share is {share}, but {dataset.name} is {dataset.task} data: set it to 1.0, and choose labels by data.labelled.")
    train = dataset.splits["train"]
    labels, mask = dataset.labels(train), dataset.label_mask(train)
    labelled = np.flatnonzero(mask.any(axis=1))
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, STREAM]))).permutation(labelled)
    dropped = order[round(share * len(labelled)) :]
    labels[dropped], mask[dropped] = 0.0, False
    fewer = copy.copy(dataset)
    fewer.fingerprint = sha256_json({"data": dataset.fingerprint, "label_share": share, "seed": seed})
    fewer._arrays = dataset._arrays | {"train.labels": labels, "train.label_mask": mask}
    return fewer
