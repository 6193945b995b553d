"""Losses: pure functions of arrays, one a method. Means are over the global batch; pass `axis_name` inside pmap."""

from jaxkd.losses.alignment import align_time
from jaxkd.losses.contrastive import (
    ClassGroups,
    CRDMemory,
    class_groups,
    crd_in_batch,
    crd_loss,
    init_memory,
    sample_negatives,
)
from jaxkd.losses.distillation import (
    degeneracy,
    dist,
    dkd,
    kd,
    logit_mse,
    softmax_cross_entropy,
    standardised_kd,
    target_classes,
)
from jaxkd.losses.features import cosine, fitnet, l2
from jaxkd.losses.logits import bernoulli_kd, masked_bernoulli_cross_entropy
from jaxkd.losses.reduce import masked_mean
from jaxkd.losses.relational import cka, pkt, rkd, similarity_preserving
from jaxkd.losses.relations import (
    EAST_EPS,
    cosine_distance_correlation_loss,
    cosine_distance_difference,
    distance_correlation_loss,
    distance_correlation_sqr,
)
from jaxkd.losses.subclass import subclass_auxiliary
from jaxkd.losses.variational import initial_raw_variance, vid

__all__ = [
    "EAST_EPS",
    "CRDMemory",
    "ClassGroups",
    "align_time",
    "bernoulli_kd",
    "cka",
    "class_groups",
    "cosine",
    "cosine_distance_correlation_loss",
    "cosine_distance_difference",
    "crd_in_batch",
    "crd_loss",
    "degeneracy",
    "dist",
    "distance_correlation_loss",
    "distance_correlation_sqr",
    "dkd",
    "fitnet",
    "init_memory",
    "initial_raw_variance",
    "kd",
    "l2",
    "logit_mse",
    "masked_bernoulli_cross_entropy",
    "masked_mean",
    "pkt",
    "rkd",
    "sample_negatives",
    "similarity_preserving",
    "softmax_cross_entropy",
    "standardised_kd",
    "subclass_auxiliary",
    "target_classes",
    "vid",
]
