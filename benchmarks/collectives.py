"""What one training step sends between devices, read off the compiled program: bytes as a function of devices, batch and sizes.

The claims, on more than one device: what is reduced over them is the gradients of the parameters, once, and sums (batch statistics, means, scalars, a
few numbers a row); what is gathered is the embedding once, the features once (under jit once more for the backward pass, where pmap scatters their
gradients instead) and a few numbers a row; with parameters in parts these are gathered once besides; nothing grows faster than the batch. RKD compares angles:
where XLA splits its triplets (jit), matrices of its groups cross too, at most three each way, of 4 bytes a pair of rows (docs/scaling.md).

Command: python -m benchmarks.collectives   (devices emulated on a CPU, tiny sizes; 2 cores: ten minutes, most of it compilation)
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.configs import named_config
from benchmarks.growth import growth_plot
from benchmarks.record import Figure, add_out, keep
from jaxkd import pipeline
from jaxkd.collectives import Collective, collectives
from jaxkd.files import default_cache_dir
from jaxkd.results.document import Plot, Table
from jaxkd.training.experiment import Assembly, assemble

EXPERIMENTS = (
    *("text.py:method=lelp,runlocal", "text.py:method=east,runlocal", "text.py:method=rkd,runlocal"),
    *("audio.py:method=east,runlocal", "audio.py:method=compressed,runlocal"),
)
MODES = {"jit": ("jit", "replicated"), "pmap": ("pmap", "replicated"), "sharded": ("jit", "sharded")}
"""Wrapper, and where parameters lie between steps."""
BATCHES = (1, 2)
MATRICES = 3
"""Of the pairs of rows in the groups of RKD."""
ROW_BYTES, CONSTANT_BYTES = 64, 1024
"""Numbers of each row and frame (norms, row sums, masks) and of the whole batch (terms, counts) that may cross beside parameters and vectors."""


def sizes(assembly: Assembly, batch: Any) -> dict[str, int]:
    """Bytes of all that a step could send: parameters, batch statistics, features and embedding of the global batch; and its rows and frames."""
    experiment, state = assembly.experiment, assembly.state

    def forward(rows: Any) -> Any:
        inputs = experiment.transform(None, rows.inputs)
        student = experiment.student.clone(axis_name=None)
        return student.apply({"params": state.params["student"], "batch_stats": state.batch_stats}, inputs, train=False).features

    def total(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    features, embedding = jax.eval_shape(forward, batch.rows), batch.rows.embedding
    return {
        "rows": features.shape[0],
        "frames": max(features.shape[1], 1 if embedding is None else embedding.shape[1]),
        "parameters": total(state.params),
        "statistics": total(state.batch_stats),
        "features": 4 * features.size,
        "embedding": 0 if embedding is None else 4 * embedding.size,
    }


def traffic(found: Sequence[Collective]) -> dict[str, Any]:
    """Bytes by kind: what is reduced and scattered (of each device), what is gathered (all devices together), what each device sends in rings."""
    brought = {"reduced": "all-reduce", "scattered": "reduce-scatter", "gathered": "all-gather"}
    by_kind = {name: sum(one.result_bytes if kind == "all-gather" else one.bytes for one in found if one.kind == kind) for name, kind in brought.items()}
    other = sum(one.bytes for one in found if one.kind not in brought.values())
    return {**by_kind, "other": other, "sent": round(sum(one.sent_bytes for one in found)), "count": len(found)}


def measure(experiments: Sequence[str], modes: Sequence[str], batches: Sequence[int]) -> list[dict[str, Any]]:
    """The traffic of each experiment on the devices of this process, with the batch of its config and multiples of it."""
    rows = []
    for name in experiments:
        config = named_config(name)
        config.evaluation.batch_size = config.training.batch_size  # it must split over the devices too, and has no part in a step
        prepared = pipeline.precompute(config, default_cache_dir())
        for mode in modes:
            config.parallel.mode, config.parallel.parameters = MODES[mode]
            assembly = assemble(config, prepared)
            batch = assembly.loader.batch(0)
            for times in batches:
                larger = jax.tree.map(lambda part, times=times: np.concatenate([part] * times), batch)
                program = assembly.train.lower(assembly.state, assembly.devices.shard(larger)).compile().as_text()
                where = {"experiment": name, "mode": mode, "devices": jax.device_count(), "batch": times}
                own = sizes(assembly, larger)
                own["pairs"] = 4 * own["rows"] * (config.rkd.group_size or own["rows"]) if config.method == "rkd" and mode != "pmap" else 0
                rows.append({**where, **own, **traffic(collectives(program))})
    return rows


def broken(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows that break a claim, in words."""
    found = []
    smallest = {(row["experiment"], row["mode"], row["devices"]): row for row in reversed(rows)}
    for row in rows:
        if row["devices"] == 1:
            continue
        base = smallest[row["experiment"], row["mode"], row["devices"]]
        times = row["rows"] / base["rows"]
        a_row = ROW_BYTES * row["rows"] * row["frames"]
        sums = 2 * row["statistics"] + (2 * row["features"] + row["embedding"]) // row["rows"] + CONSTANT_BYTES
        parts = row["parameters"] if row["mode"] == "sharded" else 0
        vectors = (1 if row["mode"] == "pmap" else 2) * row["features"] + row["embedding"]
        claims = {
            "parameters are reduced once": row["parameters"] <= row["reduced"] <= row["parameters"] + MATRICES * row["pairs"] + sums + a_row,
            "parameters in parts are gathered once, vectors once": row["gathered"] <= parts + MATRICES * row["pairs"] + vectors + a_row,
            "gradients of features are scattered once": row["scattered"] <= row["features"],
            "what is reduced grows by numbers of rows only": row["reduced"] <= base["reduced"] + MATRICES * (row["pairs"] - base["pairs"]) + a_row,
            "what is gathered grows like the batch": row["gathered"] <= times * base["gathered"] + CONSTANT_BYTES,
            "nothing else is sent": row["other"] <= a_row,
        }
        found += [
            f"{row['experiment']} {row['mode']} on {row['devices']} devices, {row['rows']} rows: not so that {c}" for c, holds in claims.items() if not holds
        ]
    return found


def growth(rows: Sequence[dict[str, Any]]) -> list[Plot]:
    """Bytes that each device sends over the devices, more than one, with the batch of the config; nothing of fewer than two numbers of devices."""
    panels: dict[str, dict[str, tuple[list[int], list[int]]]] = {}
    for row in rows:
        if row["devices"] > 1 and row["batch"] == BATCHES[0]:
            devices, sent = panels.setdefault(f"devices, {row['mode']}", {}).setdefault(row["experiment"], ([], []))
            devices.append(row["devices"])
            sent.append(row["sent"])
    if len({row["devices"] for row in rows if row["devices"] > 1}) < 2:
        return []
    return [growth_plot("What a device sends, by the number of devices", "collectives", panels, dict.fromkeys(panels, "bytes sent by each device"))]


def on_devices(count: int, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """`measure` in a process of its own that sees `count` devices; little is optimised below the level of the collectives."""
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": quick}
    command = [sys.executable, "-m", "benchmarks.collectives", "--here", *arguments]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS), help="files of configs/ and their arguments")
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    add_out(parser)
    settings = parser.parse_args()
    if settings.here:
        print(json.dumps(measure(settings.experiments, settings.modes, BATCHES)))
        return
    arguments = ["--experiments", *settings.experiments, "--modes", *settings.modes]
    rows = [row for count in settings.devices for row in on_devices(count, arguments)]
    rows.sort(key=lambda row: (settings.experiments.index(row["experiment"]), row["mode"], row["devices"], row["batch"]))
    columns = ("devices", "rows", "parameters", "reduced", "features", "embedding", "pairs", "gathered", "scattered", "other", "sent", "count")
    failed = broken(rows)
    for sentence in failed:
        print(sentence)
    figures = [Figure("rows that break a claim", len(failed), at_most=0)]
    lines = [[row["experiment"], row["mode"], *(f"{row[name]:,}" for name in columns)] for row in rows]
    title = "Bytes; features, embedding and gathered: of the global batch; sent: by each device, in rings"
    table = Table(title, ["experiment", "mode", *columns], lines, label_columns=2)
    sys.exit(keep("collectives", __doc__ or "", figures, {"rows": rows, "broken": failed}, settings.out, blocks=[table, *growth(rows)]))


if __name__ == "__main__":
    main()
