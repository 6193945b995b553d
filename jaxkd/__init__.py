"""jaxkd: distils teacher embeddings into small students, in JAX."""

__version__ = "0.1.0"
