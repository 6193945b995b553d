"""How a config fits a linear probe: by `config.evaluation.probe_solver`."""

import functools
from collections.abc import Callable
from typing import Any

from jaxkd.embeddings.joined import JoinedStore
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.training.experiment import fit_normalisation, normalisations
from jaxkd.training.probe import Probe, fit_probe
from jaxkd.training.sgd_probe import fit_sgd_probe

Fit = Callable[..., Probe]
"""f(train, valid, task=...) -> probe; as `fit_probe`."""


def probe_recipe(config: Any) -> dict[str, Any]:
    """The fields of a config that change a probe on the teacher's embedding, as JSON values."""
    settings = config.evaluation
    if settings.probe_solver == "lbfgs":
        return {"solver": "lbfgs"}
    return {"solver": "sgd", "learning_rate": settings.probe_learning_rate, "normalisations": normalisations(config)}


def fit_on_vectors(config: Any) -> Fit:
    """How probes are fitted on a student's features: by L-BFGS standardised, by stochastic gradient descent as they are."""
    settings = config.evaluation
    return fit_probe if settings.probe_solver == "lbfgs" else functools.partial(fit_sgd_probe, learning_rate=settings.probe_learning_rate)


def fit_on_embedding(config: Any, store: EmbeddingStore | JoinedStore, ids: list[str]) -> Fit:
    """How probes are fitted on the embeddings of a store: by L-BFGS standardised, by stochastic gradient descent in the normalisation of the config.

    The methods see that normalisation too; its statistics, where it has any, are those of `ids`. The processes of a job share the reading, and must all
    call it.
    """
    if config.evaluation.probe_solver == "lbfgs":
        return fit_probe
    mean, std = fit_normalisation(store, ids, normalisations(config))
    return functools.partial(fit_on_vectors(config), mean=mean, std=std)
