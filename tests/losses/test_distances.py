import jax
import numpy as np

from jaxkd.losses.distances import FEWEST_ROWS, PANELS, gram


def test_many_products_are_made_above_the_diagonal_and_mirrored():
    """An uneven number of rows; the distances of equal rows in different panels are below what counts as 0."""
    points = np.random.default_rng(0).standard_normal((FEWEST_ROWS + 3, 700)).astype(np.float32)
    copies = np.array([3, 300, 700, 1000, FEWEST_ROWS + 2])
    points[copies] = points[3]
    program = jax.jit(gram).lower(points).compile()
    assert program.as_text().count(" dot(") == (PANELS if jax.default_backend() == "cpu" else 1)
    products = np.asarray(program(points))
    np.testing.assert_allclose(products, points.astype(np.float64) @ points.T.astype(np.float64), atol=1e-3)
    np.testing.assert_array_equal(products, products.T)
    norms, own = np.diagonal(products), np.ix_(copies, copies)
    sums = (norms[:, None] + norms)[own]
    assert np.all(sums - 2 * products[own] <= 4 * np.finfo(np.float32).eps * sums)
