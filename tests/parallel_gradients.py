"""Writes drawn parameters, loss terms, gradients and batch statistics of one step of each method on all devices of its job; test_parallel.py runs it."""

import functools
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxkd import hosts, methods, pipeline
from jaxkd.files import default_cache_dir
from jaxkd.parallel import to_host
from jaxkd.training.experiment import assemble
from jaxkd.training.step import train_step
from tests.small import load_config, small_config, text_config

HALF = "bfloat16:"


def _config(name: str, mode: str) -> Any:
    """The experiment `[bfloat16:][DATA:]METHOD[+DISTANCE]`."""
    half, name = name.startswith(HALF), name.removeprefix(HALF)
    data, _, named = name.rpartition(":")
    method, _, distance = named.partition("+")
    method = methods.SUBCLASS_TEACHER if method == "subclass_teacher" else method
    if data == "image":
        config = load_config("image", f"data=digits_bin,method={method},runlocal")
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
    config.parallel.update({"mode": "jit", "parameters": "sharded"} if mode == "sharded" else {"mode": mode})
    config.crd.negatives = 16
    config.distance.name = distance or "distance_correlation"
    config.distance.group_size = 0 if data == "own" else 16
    config.distance.rows = "own" if data == "own" and mode == "pmap" else "gathered"
    config.evaluation.batch_size = 32
    return config


def main() -> None:
    mode, out = sys.argv[1:3]
    if "JAXKD_TEST_JOB" in os.environ:
        address, processes, process = os.environ["JAXKD_TEST_JOB"].split(",")
        hosts.join(hosts.Job(address, int(processes), int(process), 60, 30))
    arrays = {"devices": np.array(jax.device_count())}
    for name in sys.argv[3:]:
        config = _config(name, mode)
        assembly = assemble(config, pipeline.precompute(config, default_cache_dir()))
        # the momentum of an optimiser without decay is the gradient itself
        keep_gradient, devices = optax.trace(decay=0.0), assembly.devices
        # away from the start, where half of the convolutions are zero
        drawn = to_host(assembly.state.params)
        moved = jax.tree.map(lambda x: x + 0.02 * np.random.default_rng(x.size).standard_normal(x.shape, np.float32), drawn)
        params, optimiser_state = devices.place_parameters((moved, keep_gradient.init(moved)))
        state = assembly.state._replace(params=params, optimiser_state=optimiser_state)
        experiment = assembly.experiment._replace(
            optimiser=keep_gradient, transform=devices.by_rows(assembly.experiment.transform), gather=devices.gather_parameters
        )
        for placed, what in (((params, optimiser_state), "kept"), ((assembly.state.params, assembly.state.optimiser_state), "kept when drawn")):
            kept = sum(shard.data.nbytes for leaf in jax.tree.leaves(placed) for shard in leaf.addressable_shards[:1])
            arrays[f"{name}/{what}"] = np.array(kept / sum(leaf.nbytes for leaf in jax.tree.leaves(placed)))
        step = devices.compile(functools.partial(train_step, experiment), updates=state)
        state, terms = step(state, devices.shard(assembly.loader.batch(1)))
        state = to_host(state)
        arrays |= {f"{name}/drawn{jax.tree_util.keystr(path)}": leaf for path, leaf in jax.tree_util.tree_leaves_with_path(drawn)}
        arrays |= {f"{name}/terms/{key}": np.asarray(value) for key, value in terms.items()}
        arrays |= {
            f"{name}/gradient{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state.optimiser_state.trace)
        }
        arrays |= {f"{name}/statistics{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state.batch_stats)}
    if hosts.index() == 0:
        np.savez(Path(out), **arrays)
    hosts.wait_for_all()


if __name__ == "__main__":
    main()
