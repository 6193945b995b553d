import jax
import numpy as np

from jaxkd.losses.distances import PANELS, gram


def test_many_products_are_made_below_the_diagonal_and_mirrored():
    """An uneven number of rows; equal rows in different panels have equal products."""
    points = np.random.default_rng(0).standard_normal((515, 3)).astype(np.float32)
    points[514] = points[3]
    program = jax.jit(gram).lower(points).compile()
    assert program.as_text().count(" dot(") == (PANELS if jax.default_backend() == "cpu" else 1)
    products = np.asarray(program(points))
    np.testing.assert_allclose(products, points.astype(np.float64) @ points.T.astype(np.float64), atol=1e-5)
    assert products[3, 3] == products[514, 514] == products[3, 514] == products[514, 3]
