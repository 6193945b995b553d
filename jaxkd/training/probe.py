"""The teacher's own linear probe: multi-label logistic regression on its clip embedding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize

from jaxkd.metrics import multilabel_metrics
from jaxkd.training.inference import sigmoid

INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Probe(NamedTuple):
    """A fitted probe.

    Attributes:
      mean, std: of the training embeddings, float32 [D].
      kernel: float32 [D, K].
      bias: float32 [K].
      inverse_penalty: C of scikit-learn's LogisticRegression, chosen on the validation split.
    """

    mean: np.ndarray
    std: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    inverse_penalty: float

    def scores(self, embedding: np.ndarray) -> np.ndarray:
        """Clip embeddings [n, D] -> scores in (0, 1), float32 [n, K]."""
        return sigmoid((embedding - self.mean) / self.std @ self.kernel + self.bias)


def fit_logistic_regression(embedding: np.ndarray, labels: np.ndarray, label_mask: np.ndarray, inverse_penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """K independent logistic regressions, by L-BFGS.

    Minimises sum of masked cross-entropies + |kernel|^2 / (2 * inverse_penalty), the bias unpenalised, as scikit-learn does.

    Args:
      embedding: standardised, float32 [n, D].
      labels: 0 or 1, float32 [n, K].
      label_mask: bool [n, K].
      inverse_penalty: C.

    Returns:
      kernel float32 [D, K], bias float32 [K].
    """
    dim, count = embedding.shape[1], labels.shape[1]
    x, y, mask = jnp.asarray(embedding, jnp.float32), jnp.asarray(labels, jnp.float32), jnp.asarray(label_mask, jnp.float32)

    @jax.jit
    def objective(flat: jax.Array) -> tuple[jax.Array, jax.Array]:
        def value(flat: jax.Array) -> jax.Array:
            kernel, bias = flat[: dim * count].reshape(dim, count), flat[dim * count :]
            logits = jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST) + bias
            return jnp.sum(mask * optax.sigmoid_binary_cross_entropy(logits, y)) + jnp.sum(kernel**2) / (2 * inverse_penalty)

        return jax.value_and_grad(value)(flat)

    def on_host(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(flat.astype(np.float32))
        return float(value), np.asarray(gradient, np.float64)

    solution = minimize(on_host, np.zeros(dim * count + count), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x.astype(np.float32)
    return solution[: dim * count].reshape(dim, count), solution[dim * count :]


def fit_probe(train: tuple[np.ndarray, np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Probe:
    """Fits the probe for each penalty of INVERSE_PENALTIES and keeps the one of the highest validation mAP.

    Args:
      train: clip embeddings [n, D], labels [n, K], label mask [n, K]; rows without a label are left out.
      valid: the same for the validation split.
    """
    known = train[2].any(axis=1)
    embedding = train[0][known].astype(np.float32)
    mean, std = embedding.mean(axis=0), embedding.std(axis=0)
    std = np.where(std > 0, std, np.float32(1))
    best, best_map = None, -1.0
    for inverse_penalty in INVERSE_PENALTIES:
        kernel, bias = fit_logistic_regression((embedding - mean) / std, train[1][known], train[2][known], inverse_penalty)
        probe = Probe(mean, std, kernel, bias, inverse_penalty)
        score = multilabel_metrics(valid[1], probe.scores(valid[0].astype(np.float32)), valid[2])["map"]
        if score > best_map:
            best, best_map = probe, score
    assert best is not None
    return best
