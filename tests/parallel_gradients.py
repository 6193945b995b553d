"""Writes loss terms, gradients, batch statistics and memory of one step of each method on some of the devices of its job; test_parallel.py runs it."""

import dataclasses
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxkd import hosts, methods, pipeline
from jaxkd.files import default_cache_dir
from jaxkd.parallel import Devices, to_host
from jaxkd.training.experiment import Assembly, assemble
from jaxkd.training.step import train_step
from tests.losses_as_methods import LOSSES
from tests.small import load_config, small_config, text_config

HALF = "bfloat16:"
CORRECTED = "bias_corrected_"


def _config(name: str, wrapper: str) -> Any:
    """The experiment `[bfloat16:][DATA:]METHOD[+[bias_corrected_]DISTANCE]`, where METHOD may be one of LOSSES."""
    half, name = name.startswith(HALF), name.removeprefix(HALF)
    data, _, named = name.rpartition(":")
    method, _, distance = named.partition("+")
    if method in (*LOSSES, "of_global_batch"):
        method = f"tests.losses_as_methods:{method}"
    method = methods.SUBCLASS_TEACHER if method == "subclass_teacher" else method
    if data in ("image", "digits"):
        source = {"image": "digits_bin", "digits": "digits"}[data]
        config = load_config("image", f"data={source},method={method},runlocal")
    else:
        config = text_config(method=method) if data in ("text", "dropout") else small_config(method=method)
    if data == "dropout":
        config.student.name = "tests.small:dropping_student"
    if data in ("frames", "augmented", "own"):
        config.student.name = "tests.framed:student"
        config.teacher.update({"name": "tests.mel_teacher:build", "embedding": ""})
        config.distance.update({"features_expand": 1, "embedding_expand": 1})
    if data in ("frames", "own"):
        config.training.mixup_alpha = 0.0
    elif data == "augmented":
        config.frontend.update({"fmin_jitter": 20, "fmax_jitter": 2000})
        config.training.update({"frequency_mask": 12, "time_mask": 20})
    else:
        config.training.time_mask = 20
    config.student.compute_dtype = "bfloat16" if half else "float32"
    config.parallel.update({"mode": "jit", "parameters": "sharded"} if wrapper == "sharded" else {"mode": wrapper})
    config.crd.negatives = 16
    config.distance.name = distance.removeprefix(CORRECTED) or "distance_correlation"
    config.distance.bias_corrected = distance.startswith(CORRECTED)
    config.distance.group_size = 0 if data == "own" else 16
    config.distance.rows = "own" if data == "own" and wrapper == "pmap" else "gathered"
    config.evaluation.batch_size = 32
    return config


def _first(devices: Devices, each: int) -> Devices:
    """The first `each` devices of every process."""
    mesh = devices.mesh
    first = mesh.devices.reshape(jax.process_count(), -1)[:, :each].ravel()
    return dataclasses.replace(devices, mesh=Mesh(first, mesh.axis_names, axis_types=mesh.axis_types))


def _kept(tree: Any) -> np.ndarray:
    """Share of the bytes of a placed pytree that lies on one device."""
    leaves = jax.tree.leaves(tree)
    return np.array(sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves) / sum(leaf.nbytes for leaf in leaves))


def _by_path(what: str, tree: Any) -> dict[str, np.ndarray]:
    return {f"{what}{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _drawn(assembly: Assembly) -> dict[str, np.ndarray]:
    """The parameters that a training starts from, drawn on all devices."""
    state = assembly.state
    return {"kept": _kept((state.params, state.optimiser_state))} | _by_path("params", to_host(state.params))


def _step(assembly: Assembly, each: int) -> dict[str, np.ndarray]:
    """What one step gives on the first `each` devices of every process."""
    # the momentum of an optimiser without decay is the gradient itself
    keep_gradient, devices = optax.trace(decay=0.0), _first(assembly.devices, each)
    start = to_host(assembly.state)
    # away from the start, where half of the convolutions are zero
    moved = jax.tree.map(lambda x: x + 0.02 * np.random.default_rng(x.size).standard_normal(x.shape, np.float32), start.params)
    params, optimiser_state = devices.place_parameters((moved, jax.tree.map(np.zeros_like, keep_gradient.init(moved))))
    state = devices.replicate(start._replace(params=(), optimiser_state=()))._replace(params=params, optimiser_state=optimiser_state)
    experiment = assembly.experiment._replace(optimiser=keep_gradient).on(devices)
    kept = _kept((params, optimiser_state))
    step = devices.compile(functools.partial(train_step, experiment), updates=state)
    state, terms = step(state, devices.shard(assembly.loader.batch(1)))
    state = to_host(state)
    parts = (("terms", terms), ("gradient", state.optimiser_state.trace), ("statistics", state.batch_stats), ("memory", state.memory))
    return {"kept": kept, "devices": np.array(devices.mesh.size)} | {name: x for what, tree in parts for name, x in _by_path(what, tree).items()}


def main() -> None:
    out, cells = Path(sys.argv[1]), json.loads(sys.argv[2])
    if "JAXKD_TEST_JOB" in os.environ:
        address, processes, process = os.environ["JAXKD_TEST_JOB"].split(",")
        hosts.join(hosts.Job(address, int(processes), int(process), 60, 30))
    arrays = {}
    for name, numbers in cells.items():
        prepared = pipeline.precompute(_config(name, "jit"), default_cache_dir())
        for wrapper, of_each in numbers.items():
            assembly = assemble(_config(name, wrapper), prepared)
            parts = {"drawn": _drawn(assembly)} | {each: _step(assembly, each) for each in of_each}
            arrays |= {f"{name}/{wrapper}/{part}/{what}": x for part, values in parts.items() for what, x in values.items()}
    if hosts.index() == 0:
        np.savez(out, **arrays)
    hosts.wait_for_all()


if __name__ == "__main__":
    main()
