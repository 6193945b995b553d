"""Losses: pure functions of arrays, one a method. Means are over the global batch; pass `axis_name` inside pmap."""

from jaxkd.losses.alignment import align_time
from jaxkd.losses.features import cosine, fitnet, l2
from jaxkd.losses.logits import bernoulli_kd, masked_bernoulli_cross_entropy
from jaxkd.losses.reduce import masked_mean
from jaxkd.losses.relations import EAST_EPS, cosine_distance_difference, distance_correlation_loss, distance_correlation_sqr

__all__ = [
    "EAST_EPS",
    "align_time",
    "bernoulli_kd",
    "cosine",
    "cosine_distance_difference",
    "distance_correlation_loss",
    "distance_correlation_sqr",
    "fitnet",
    "l2",
    "masked_bernoulli_cross_entropy",
    "masked_mean",
]
