"""The losses in float64 from scipy, scikit-learn and the formulas of their papers: one frame, arrays in, a number out."""

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.special import expit, huber, logsumexp, rel_entr, softmax
from scipy.stats import norm, pearsonr, zscore
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.metrics.pairwise import cosine_similarity, linear_kernel
from sklearn.preprocessing import KernelCenterer, normalize


def bernoulli_divergence(x: np.ndarray, y: np.ndarray) -> float:
    p, q = expit(x / 2), expit(y / 2)
    return float(4 * np.mean(rel_entr(q, p) + rel_entr(1 - q, 1 - p)))


def softmax_divergence(x: np.ndarray, y: np.ndarray, temperature: float) -> float:
    rows = rel_entr(softmax(y / temperature, axis=1), softmax(x / temperature, axis=1)).sum(axis=1)
    return float(temperature**2 * np.mean(rows))


def decoupled_divergence(x: np.ndarray, y: np.ndarray, classes: np.ndarray, alpha: float, beta: float, temperature: float) -> float:
    rows = []
    for p, q, target in zip(softmax(x / temperature, axis=1), softmax(y / temperature, axis=1), classes, strict=True):
        binary = [np.array([probabilities[target], 1 - probabilities[target]]) for probabilities in (q, p)]
        others = [np.delete(probabilities, target) / np.delete(probabilities, target).sum() for probabilities in (q, p)]
        rows.append(alpha * rel_entr(*binary).sum() + beta * rel_entr(*others).sum())
    return float(temperature**2 * np.mean(rows))


def correlation_loss(x: np.ndarray, y: np.ndarray, temperature: float = 1.0) -> float:
    p, q = softmax(x / temperature, axis=1), softmax(y / temperature, axis=1)
    terms = [np.mean([pearsonr(a, b).statistic for a, b in zip(*sides, strict=True)]) for sides in ((p, q), (p.T, q.T))]
    return float(temperature**2 * (2 - sum(terms)))


def standardised_divergence(x: np.ndarray, y: np.ndarray) -> float:
    return softmax_divergence(zscore(x, axis=1, ddof=1), zscore(y, axis=1, ddof=1), temperature=2)


def cross_entropy(x: np.ndarray, y: np.ndarray) -> float:
    return float(log_loss(y, softmax(x, axis=1)))


def centred_squared_error(x: np.ndarray, y: np.ndarray) -> float:
    return float(mean_squared_error(x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)))


def gaussian_information(x: np.ndarray, y: np.ndarray, raw_variance: np.ndarray) -> float:
    variance = np.log1p(np.exp(raw_variance)) + 1e-5
    return float(-np.mean(norm.logpdf(y, loc=x, scale=np.sqrt(variance))) - np.log(2 * np.pi) / 2)


def angles(x: np.ndarray) -> np.ndarray:
    return np.stack([cosine_similarity(x - anchor) for anchor in x])


def hollow(matrix: np.ndarray) -> np.ndarray:
    """With a diagonal of zeros, as U-centring takes it."""
    return matrix - np.diag(np.diag(matrix))


def uncorrelated(a: np.ndarray, b: np.ndarray, product: Callable[[np.ndarray, np.ndarray], float]) -> float:
    return float(1 - product(a, b) / np.sqrt(product(a, a) * product(b, b)))


def relational(x: np.ndarray, y: np.ndarray) -> float:
    distances = [squareform(pdist(side) / pdist(side).mean()) for side in (x, y)]
    return float(25 * np.mean(huber(1, distances[0] - distances[1])) + 50 * np.mean(huber(1, angles(x) - angles(y))))


def neighbour_divergence(x: np.ndarray, y: np.ndarray) -> float:
    student, teacher = ((cosine_similarity(side) + 1) / 2 for side in (x, y))
    student, teacher = student / student.sum(axis=1, keepdims=True), teacher / teacher.sum(axis=1, keepdims=True)
    return float(np.mean(teacher * np.log((teacher + 1e-7) / (student + 1e-7))))


def similarity_difference(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(normalize(linear_kernel(x)) - normalize(linear_kernel(y))) ** 2 / len(x) ** 2)


def kernel_misalignment(x: np.ndarray, y: np.ndarray) -> float:
    """In its kernel form, from Gram matrices of rows."""
    student, teacher = (KernelCenterer().fit_transform(linear_kernel(side)) for side in (x, y))
    return float(1 - np.sum(student * teacher) / (np.linalg.norm(student) * np.linalg.norm(teacher)))


def info_nce(x: np.ndarray, y: np.ndarray, allowed: np.ndarray) -> float:
    scores = cosine_similarity(x, y) / 0.07
    one_way = [-np.diag(s) + logsumexp(np.where(allowed, s, -np.inf), axis=1) for s in (scores, scores.T)]
    return float(np.mean(one_way))


def memory_contrast(anchors: np.ndarray, bank: np.ndarray, index: np.ndarray, negatives: np.ndarray, z: float | None = None) -> float:
    """Anchors of one side against the bank of the other, row by row as CRD writes it; Z of these rows where none is given."""
    similarity = np.exp(normalize(anchors) @ bank.T / 0.07)
    positive, negative = similarity[np.arange(len(index)), index], np.take_along_axis(similarity, negatives, axis=1)
    if z is None:
        z = len(bank) * np.mean(np.concatenate([positive[:, None], negative], axis=1))
    noise = negatives.shape[1] / len(bank)
    hits, misses = positive / z / (positive / z + noise), noise / (negative / z + noise)
    return float(np.mean(-np.log(hits) - np.log(misses).sum(axis=1)))


def spread(x: np.ndarray, temperature: float) -> float:
    e = zscore(x, axis=1) / np.sqrt(temperature * x.shape[1])
    return float(np.mean(logsumexp(e @ e.T, axis=1)) - 1 / temperature - np.log(len(x)))
