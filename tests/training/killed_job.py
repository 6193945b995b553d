"""One process of a job that is killed while it embeds, killed while it takes class moments, and then ends; test_killed_job.py runs it.

Arguments: folder, address of the job, number of its processes, place of this one, and where it waits to be killed: "embedding", "moments" or "nowhere".
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import ml_collections
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxkd import hosts, methods
from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.loader import TrainBatch
from jaxkd.embeddings import blocks
from jaxkd.embeddings.job import embed_in_job
from jaxkd.methods.method import Context
from jaxkd.models.bert import SentenceClassifier
from jaxkd.models.musicnn import PATCH_BANDS, PATCH_FRAMES
from jaxkd.models.tuned_tagger import TunedTagger
from jaxkd.parallel import Devices, to_host
from jaxkd.teachers.huggingface import convert, parse_config
from jaxkd.teachers.musicnn import NETWORKS
from jaxkd.training import moments_in_parts, subclasses
from jaxkd.training.inputs import StudentInputs
from jaxkd.training.prepared import Classifier, Prepared
from jaxkd.training.state import initial_state, stream_key
from jaxkd.training.step import Experiment, Normalisation, train_step
from jaxkd.types import Batch
from tests.embeddings.pca_teacher import PcaTeacher
from tests.models.test_musicnn import vgg_shapes
from tests.small import text_config
from tests.teachers.test_huggingface import stored_config, stored_tensors

SHARD_ROWS, BATCH, BLOCK_ROWS = 100, 50, 40
STOP_EMBEDDING, STOP_MOMENTS = 6, 20
"""Batches and blocks that a process begins before it waits to be killed: in its third shard of nine, and in the second part of 16 of its 22 or 23 blocks."""
SUBCLASSES = 4


def calls(function: Callable[..., Any], reached: Callable[[int], None]) -> Callable[..., Any]:
    """The function, which tells before each call how many there were with it."""
    count = 0

    def called(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        reached(count)
        return function(*arguments)

    return called


def embed(folder: Path, reached: Callable[[int], None]) -> Prepared:
    """All digits, even and odd, with eight principal components as their embedding and a classifier that was drawn."""
    digits: Any = load_digits()
    labels = np.eye(2, dtype=np.float32)[digits.target % 2]
    parts = {"train": slice(0, 1437), "test": slice(1437, None)}
    splits = {
        name: Split([f"{name}{row}" for row in range(len(labels[rows]))], digits.images[rows], labels[rows], np.ones_like(labels[rows], bool))
        for name, rows in parts.items()
    }
    kind = {"name": "digits", "fingerprint": "digits", "modality": "image", "task": "multiclass", "classes": ("even", "odd"), "licence": "none", "notes": {}}
    dataset = write_dataset(folder / f"data-{hosts.index()}-{time.time_ns()}", splits=splits, **kind)
    teacher: Any = PcaTeacher()
    components = teacher.embed
    teacher.sample_rate, teacher.embed = None, calls(lambda images: components(images.reshape(len(images), -1)), reached)
    store = embed_in_job(teacher, dataset, folder / "store", batch_size=BATCH, shard_rows=SHARD_ROWS)
    kernel = np.random.default_rng(0).standard_normal((teacher.dim, 2)).astype(np.float32)
    return Prepared(dataset, StudentInputs(dataset, SimpleNamespace(), {}, {}), store, Classifier(kernel, np.zeros(2, np.float32), "drawn"))


def targets(prepared: Prepared, cache: Path) -> np.ndarray:
    """The subclass probabilities of LELP, [n, 2, SUBCLASSES]."""
    config = text_config(method="lelp")
    config.lelp.update({"subclasses": SUBCLASSES, "solver": "covariance"})
    found = subclasses.subclass_targets(config, prepared, cache)
    assert found is not None
    return found.values


def tuned_encoder() -> tuple[Any, Any, np.ndarray]:
    """A tiny encoder with a head, its archived weights, and tokens."""
    sizes = parse_config(stored_config())
    archived = {name: part for name, part in convert(stored_tensors(), sizes).items() if name != "pooler"}
    return SentenceClassifier(sizes, 2), {"encoder": archived}, np.random.default_rng(0).integers(4, 100, (4, 6)).astype(np.int32)


def tuned_tagger() -> tuple[Any, Any, np.ndarray]:
    """A tagger of few filters with a head, which is drawn with the weights that it holds, and a patch of each clip."""
    draw = np.random.default_rng(0).uniform
    released = jax.tree_util.tree_map_with_path(
        lambda path, of: draw(0.5 if path[-1].key == "variance" else -0.5, 1, of.shape).astype(np.float32), vgg_shapes(4)
    )
    return TunedTagger(NETWORKS["MTT_vgg"], released, "pool5", 2), {}, draw(-1, 1, (4, 1, PATCH_FRAMES, PATCH_BANDS)).astype(np.float32)


def fine_tuned(student: Any, pretrained: Any, inputs: np.ndarray, parameters: str) -> dict[str, np.ndarray]:
    """A network as drawn around pretrained weights and after one step: by "replicated" or "sharded" parameters."""
    devices = Devices.all("jit", parameters)
    method = methods.build("baseline", ml_collections.FrozenConfigDict(text_config(method="baseline")), Context("multiclass", 2, np.zeros(4, np.int32)))
    rows = Batch(inputs, np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], np.ones((4, 2), bool), None, np.ones(4, bool))
    optimiser = optax.sgd(0.1)
    state = initial_state(stream_key(0, "initialisation"), student, method, optimiser, rows, devices, pretrained)
    drawn = to_host(state.params["student"])
    jax.tree.map(np.testing.assert_array_equal, {name: drawn[name] for name in pretrained}, pretrained)
    leaves = jax.tree.leaves(state.params)
    kept = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves)
    experiment = Experiment(student, method, optimiser, lambda _, x: x, Normalisation(np.float32(0), np.float32(1)), "and", 0, devices.gather_parameters)
    own = jax.tree.map(lambda x: x[devices.own_rows(4)], rows)
    after, _ = devices.compile(functools.partial(train_step, experiment), updates=state)(state, devices.shard(TrainBatch(own, None, None)))
    named = {"drawn": drawn, "after": to_host(after.params["student"])}
    return {"kept": np.array(kept)} | {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(named)}


def main() -> None:
    folder, process, where = Path(sys.argv[1]), int(sys.argv[4]), sys.argv[5]
    hosts.join(hosts.Job(sys.argv[2], int(sys.argv[3]), process, join_seconds=120, heartbeat_seconds=60))
    said = {"batches": 0, "blocks": 0}

    def reached(what: str, stop: int, count: int) -> None:
        said[what] = count
        if count == stop:
            (folder / f"stopped-{process}").touch()
            time.sleep(600)

    prepared = embed(folder, functools.partial(reached, "batches", STOP_EMBEDDING if where == "embedding" else 0))
    blocks.BLOCK_ROWS, moments_in_parts.PART_BYTES = BLOCK_ROWS, 0
    read = subclasses.mean_embeddings_at
    subclasses.mean_embeddings_at = calls(read, functools.partial(reached, "blocks", STOP_MOMENTS if where == "moments" else 0))
    resumed, resumed_blocks = targets(prepared, folder / "cache"), said["blocks"]
    whole = targets(prepared, folder / "cache-of-one-pass")
    if process == 0:
        np.savez(folder / "targets.npz", resumed=resumed, whole=whole)
    for name, network in {"encoder": tuned_encoder(), "tagger": tuned_tagger()}.items():
        for parameters in ("replicated", "sharded"):
            found = fine_tuned(*network, parameters)
            if process == 0:
                np.savez(folder / f"{name}-{parameters}.npz", **found)
    (folder / f"{process}.json").write_text(json.dumps({"batches": said["batches"], "blocks": resumed_blocks, "of_one_pass": said["blocks"] - resumed_blocks}))


if __name__ == "__main__":
    main()
