"""What a student has in common with the embedding that guided it, and what the transformation made of that embedding."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd.compression import label_share, singular_values
from jaxkd.data.loader import eval_batches
from jaxkd.hosts import shared_folder
from jaxkd.losses import distance_correlation_sqr
from jaxkd.metrics import multiclass_metrics, multilabel_metrics
from jaxkd.parallel import to_host
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.experiment import Assembly, probabilities
from jaxkd.training.prepared import Prepared
from jaxkd.training.state import TrainState
from jaxkd.types import Batch

SPLIT = "valid"
MOST_ROWS = 1000


def best_state(assembly: Assembly, workdir: Path) -> TrainState | None:
    """The best checkpoint of a run, whose student was kept, with parameters and statistics in host memory, if its method takes the embedding.

    The processes of a job read it together.

    Raises:
      ArtefactError: it is missing or damaged.
    """
    if "embedding" not in assembly.experiment.method.needs:
        return None
    with contextlib.closing(Checkpoints(shared_folder(workdir) / "checkpoints", assembly.state)) as checkpoints:
        state = checkpoints.restore_best()
    return state._replace(params=to_host(state.params), batch_stats=to_host(state.batch_stats))


def diagnose(assembly: Assembly, prepared: Prepared, state: TrainState | None, batch_size: int) -> dict[str, Any]:
    """The diagnostics of a trained run whose method takes the embedding, by its `best_state`; empty for the others.

    They are on the means over time of at most MOST_ROWS rows of the validation split, drawn once for all runs.

    Returns:
      "split", "rows", "distance_correlation": {"raw": of the student's features and the embedding, "compact": of them and the compact embedding}; with a
      compact embedding also "label_share" and "chance_share" (see `jaxkd.compression.label_share`), "head": {"map" or "accuracy"} of the head that
      trained it, and "singular_values" of each matrix of the transformation, descending.
    """
    if state is None:
        return {}
    ids = prepared.dataset.splits[SPLIT]
    rows = np.sort(np.random.default_rng(0).permutation(len(ids))[:MOST_ROWS])
    ids = [ids[row] for row in rows]
    features, raw, *of_teacher = _means_over_time(assembly, prepared, state, ids, batch_size)
    found: dict[str, Any] = {"split": SPLIT, "rows": len(rows), "distance_correlation": {"raw": _correlation(features, raw)}}
    if not of_teacher:
        return found
    compact, head_logits = of_teacher
    found["distance_correlation"]["compact"] = _correlation(features, compact)
    trained = state.params["auxiliary"]
    share, chance = label_share(compact, trained["head"]["kernel"], key=jax.random.key(0))
    of_layers = {}
    for module in sorted(name for name in trained if name.startswith("transformation")):
        prefix = module.removeprefix("transformation").lstrip("_")
        for layer, values in singular_values({"params": trained[module]}).items():
            of_layers[f"teacher {prefix}, {layer}" if prefix else layer] = np.asarray(values).tolist()
    return found | {
        "label_share": float(share),
        "chance_share": float(chance),
        "head": _head_score(prepared.dataset, ids, head_logits),
        "singular_values": of_layers,
    }


def _head_score(dataset: Any, ids: list[str], logits: np.ndarray) -> dict[str, float]:
    """What the head on the compact embedding reaches itself: mean average precision of many labels, accuracy of classes."""
    labels, mask, scores = dataset.labels(ids), dataset.label_mask(ids), probabilities(logits, dataset.task)
    if dataset.task == "multiclass":
        return {"accuracy": multiclass_metrics(labels, scores, mask)["accuracy"]}
    return {"map": multilabel_metrics(labels, scores, mask)["map"]}


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(distance_correlation_sqr(x, y, bias_corrected=True))


def _means_over_time(assembly: Assembly, prepared: Prepared, state: TrainState, ids: list[str], batch_size: int) -> list[np.ndarray]:
    """The student's features [n, C] and the normalised embedding [n, D]; with a compact embedding also this, [n, C'], and the logits of its head [n, K]."""
    experiment, method = assembly.experiment, assembly.experiment.method
    student = experiment.student_alone()

    @jax.jit
    def means(params: dict[str, Any], batch_stats: Any, batch: Batch) -> list[jax.Array]:
        embedding = jnp.asarray(experiment.normalisation(batch.embedding))
        batch = batch._replace(inputs=experiment.transform(None, batch.inputs), embedding=embedding)
        outputs = student.apply({"params": params["student"], "batch_stats": batch_stats}, batch.inputs, train=False)
        found = [outputs.features.mean(axis=1), embedding.mean(axis=1)]
        if method.compact is None or method.auxiliary is None or method.head_logits is None:
            return found
        auxiliary = method.auxiliary.apply({"params": params["auxiliary"]}, outputs, batch)
        return [*found, method.compact(auxiliary).mean(axis=1), method.head_logits(auxiliary)]

    parts = []
    for examples, batch in eval_batches(prepared.dataset, prepared.inputs.source, assembly.teacher, ids, batch_size):
        parts.append([np.asarray(mean)[:examples] for mean in means(state.params, state.batch_stats, batch)])
    return [np.concatenate(of_side) for of_side in zip(*parts, strict=True)]
