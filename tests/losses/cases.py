"""Every loss with inputs, and what it must be equal to."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances

from jaxkd import losses
from tests.dcor_oracle import dcor
from tests.losses import formulas

B, T, P, Q, K = 12, 2, 5, 7, 4


class Case(NamedTuple):
    loss: Callable[..., jax.Array]
    student: np.ndarray
    teacher: np.ndarray
    oracle: Callable[[np.ndarray, np.ndarray], float]


def digits(rows: int, width: int, offset: int = 0) -> np.ndarray:
    """Rows of the digits data, centred and scaled, folded to `width` columns."""
    data = load_digits().data[offset : offset + rows]
    folded = data.reshape(rows, -1)[:, : 64 // width * width].reshape(rows, -1, width).mean(axis=1)
    return ((folded - folded.mean()) / folded.std()).astype(np.float32)


def frames(width: int) -> np.ndarray:
    return np.stack([digits(B, width, offset) for offset in (0, 40)], axis=1)


def matching(width: int) -> np.ndarray:
    return 0.5 * frames(width) + 0.5 * np.roll(frames(width), 1, axis=0)


def per_frame(statistic: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda x, y: float(np.mean([statistic(x[:, t], y[:, t]) for t in range(x.shape[1])]))


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


LOGITS = 2 * digits(B, K)
TEACHER_LOGITS = np.roll(LOGITS, 1, axis=0)
VECTORS = frames(P)[:, 0]
TEACHER_VECTORS = matching(P)[:, 0]
RAW_VARIANCE = np.linspace(-2, 3, P)
BANK_ROWS, NEGATIVES = 15, 6


def dkd(logits, teacher_logits, **kwargs):
    """Classes that hang on the rows, so that they follow them: the teacher's last choice."""
    return losses.dkd(logits, teacher_logits, jnp.argmin(teacher_logits, axis=1), **kwargs)


def vid(prediction, embedding, **kwargs):
    return losses.vid(prediction, embedding, RAW_VARIANCE.astype(prediction.dtype), **kwargs)


def crd_in_batch(student, teacher, **kwargs):
    return losses.crd_in_batch(student, teacher, classes=teacher[:, 0] > 0, **kwargs)


def with_index(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.arange(len(x), dtype=x.dtype)[:, None]], axis=1)


def negatives_of(index):
    return (index[:, None] + 2 + np.arange(NEGATIVES)) % BANK_ROWS


MEMORY = losses.init_memory(jax.random.key(0), BANK_ROWS, P)._replace(student_z=np.float32(60), teacher_z=np.float32(4000))


def crd(student, teacher_with_index, **kwargs):
    teacher, index = teacher_with_index[:, :-1], teacher_with_index[:, -1]
    index = jnp.clip(jnp.nan_to_num(index), 0, BANK_ROWS - 1).astype(jnp.int32)
    return losses.crd_loss(student, teacher, MEMORY, index, negatives_of(index), **kwargs)[0]


def memory_contrast(x: np.ndarray, y: np.ndarray) -> float:
    index = y[:, -1].astype(int)
    rows = index, negatives_of(index)
    student_bank, teacher_bank = np.asarray(MEMORY.student, np.float64), np.asarray(MEMORY.teacher, np.float64)
    return formulas.memory_contrast(x, teacher_bank, *rows, 60) + formulas.memory_contrast(y[:, :-1], student_bank, *rows, 4000)


def info_nce_by_class(x: np.ndarray, y: np.ndarray) -> float:
    return formulas.info_nce(x, y, np.eye(B, dtype=bool) | np.not_equal.outer(y[:, 0] > 0, y[:, 0] > 0))


CASES = {
    "distance_correlation": Case(losses.distance_correlation_loss, frames(P), frames(Q), per_frame(lambda x, y: 1 - dcor.distance_correlation_sqr(x, y))),
    "distance_correlation_corrected": Case(
        functools.partial(losses.distance_correlation_loss, bias_corrected=True),
        frames(P),
        frames(Q),
        per_frame(lambda x, y: 1 - dcor.u_distance_correlation_sqr(x, y)),
    ),
    "cosine_distance_difference": Case(
        losses.cosine_distance_difference,
        frames(P),
        frames(Q),
        per_frame(lambda x, y: float(np.mean(np.abs(cosine_similarity(x) - cosine_similarity(y))))),
    ),
    "cosine_distance_difference_squared": Case(
        functools.partial(losses.cosine_distance_difference, difference="squared"),
        frames(P),
        frames(Q),
        per_frame(lambda x, y: float(np.mean((cosine_similarity(x) - cosine_similarity(y)) ** 2))),
    ),
    "cosine_distance_correlation": Case(
        losses.cosine_distance_correlation_loss,
        frames(P),
        frames(Q),
        per_frame(lambda x, y: formulas.uncorrelated(dcor.double_centered(x @ x.T), dcor.double_centered(y @ y.T), dcor.mean_product)),
    ),
    "cosine_distance_correlation_corrected": Case(
        functools.partial(losses.cosine_distance_correlation_loss, bias_corrected=True),
        frames(P),
        frames(Q),
        per_frame(lambda x, y: formulas.uncorrelated(*(dcor.u_centered(formulas.hollow(side @ side.T)) for side in (x, y)), dcor.u_product)),
    ),
    "fitnet": Case(losses.fitnet, frames(P), matching(P), lambda x, y: float(np.mean(np.linalg.norm(x - y, axis=-1) ** 2) / P)),
    "l2": Case(losses.l2, frames(P), matching(P), lambda x, y: float(np.mean(np.linalg.norm(x - y, axis=-1) ** 2) / P)),
    "cosine": Case(losses.cosine, frames(P), matching(P), lambda x, y: float(np.mean(paired_cosine_distances(flat(x), flat(y))))),
    "vid": Case(vid, frames(P), matching(P), functools.partial(formulas.gaussian_information, raw_variance=RAW_VARIANCE)),
    "rkd": Case(losses.rkd, frames(P), frames(Q), per_frame(formulas.relational)),
    "pkt": Case(losses.pkt, frames(P), frames(Q), per_frame(formulas.neighbour_divergence)),
    "similarity_preserving": Case(losses.similarity_preserving, frames(P), frames(Q), per_frame(formulas.similarity_difference)),
    "cka": Case(losses.cka, frames(P), frames(Q), per_frame(formulas.kernel_misalignment)),
    "crd_in_batch": Case(crd_in_batch, VECTORS, TEACHER_VECTORS, info_nce_by_class),
    "crd": Case(crd, VECTORS, with_index(TEACHER_VECTORS), memory_contrast),
    "masked_bernoulli_cross_entropy": Case(
        losses.masked_bernoulli_cross_entropy,
        LOGITS,
        (TEACHER_LOGITS > 0).astype(np.float32),
        lambda x, y: float(np.mean([log_loss(y[:, k], expit(x[:, k]), labels=[0, 1]) for k in range(K)])),
    ),
    "bernoulli_kd": Case(losses.bernoulli_kd, LOGITS, TEACHER_LOGITS, formulas.bernoulli_divergence),
    "softmax_cross_entropy": Case(losses.softmax_cross_entropy, LOGITS, np.eye(K, dtype=np.float32)[np.argmax(TEACHER_LOGITS, axis=1)], formulas.cross_entropy),
    "kd": Case(losses.kd, LOGITS, TEACHER_LOGITS, functools.partial(formulas.softmax_divergence, temperature=4)),
    "dkd": Case(dkd, LOGITS, TEACHER_LOGITS, lambda x, y: formulas.decoupled_divergence(x, y, np.argmin(y, axis=1), alpha=1, beta=8, temperature=4)),
    "dist": Case(losses.dist, LOGITS, TEACHER_LOGITS, formulas.correlation_loss),
    "standardised_kd": Case(losses.standardised_kd, LOGITS, TEACHER_LOGITS, formulas.standardised_divergence),
    "logit_mse": Case(losses.logit_mse, LOGITS, TEACHER_LOGITS, formulas.centred_squared_error),
    "subclass_auxiliary": Case(
        lambda logits, _, **kwargs: losses.subclass_auxiliary(logits, temperature=0.5, **kwargs),
        LOGITS,
        TEACHER_LOGITS,
        lambda x, _: formulas.spread(x, temperature=0.5),
    ),
}
