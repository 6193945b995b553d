"""What one training step sends between devices, read off the compiled program: bytes as a function of devices, batch and sizes.

The claims, on more than one device and for every method that sees more than one row: what is reduced over them is the gradients of the parameters, once, and
sums (batch statistics, means, scalars), whatever the batch; what is gathered is the vectors that the method compares, once, and a few numbers a row; what is
scattered is the gradients of these, once; with parameters in parts these are gathered once besides; nothing grows faster than the batch, or than the widths.

Command: python -m benchmarks.collectives   (devices emulated on a CPU, tiny sizes; 2 cores: a quarter of an hour, most of it compilation)
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.configs import named_config
from benchmarks.growth import growth_plot
from benchmarks.record import Figure, add_out, keep
from jaxkd import pipeline
from jaxkd.collectives import Collective, collectives
from jaxkd.files import default_cache_dir
from jaxkd.methods import SUBCLASS_TEACHER
from jaxkd.results.document import Plot, Table
from jaxkd.training.experiment import Assembly, assemble

BOTH = ("features", "embedding")
DEVICES = (1, 2, 4, 8)


class Case(NamedTuple):
    """An experiment whose step is measured.

    Attributes:
      config: file of configs/ and its argument.
      vectors: what the method compares between rows, names of `sizes`.
      fields: of the config, that are set besides.
      devices: the numbers of them on which it is measured.
    """

    config: str
    vectors: tuple[str, ...] = BOTH
    fields: Mapping[str, Any] = MappingProxyType({})
    devices: Sequence[int] = (4,)


def _text(method: str, vectors: tuple[str, ...] = BOTH, *, data: str = "newsgroups_bin", **fields: Any) -> Case:
    return Case(f"text.py:data={data},method={method},runlocal", vectors, {name.replace("__", "."): value for name, value in fields.items()})


def _distance(name: str, **fields: Any) -> Case:
    return _text("east", distance__name=name, **fields)


def _loss(name: str) -> Case:
    """Of a loss of `jaxkd.losses` that no method of the package takes, on a projection of the features to the width of the embedding."""
    return _text(f"tests.losses_as_methods:{name}", ("auxiliary", "embedding"))


EXPERIMENTS = {
    "text lelp": _text("lelp", ())._replace(devices=DEVICES),
    "text east": _text("east")._replace(devices=DEVICES),
    "text rkd": _text("rkd", rkd__group_size=0)._replace(devices=DEVICES),
    "audio east": Case("audio.py:method=east,runlocal", devices=DEVICES),
    "audio compressed": Case("audio.py:method=compressed,runlocal", ("features", "auxiliary"), devices=DEVICES),
    "corrected": _text("east", distance__bias_corrected=True),
    "groups of 16": _text("east", distance__group_size=16),
    "cosine distance correlation": _distance("cosine_distance_correlation"),
    "its corrected form": _distance("cosine_distance_correlation", distance__bias_corrected=True),
    "cosine distance difference": _distance("cosine_distance_difference"),
    "rkd, groups of 32": _text("rkd"),
    "pkt": _loss("pkt"),
    "cka": _loss("cka"),
    "similarity preserving": _loss("similarity_preserving"),
    "crd": _text("crd", ("auxiliary",), crd__negatives=16),
    "crd, another width": _text("crd", ("auxiliary",), crd__negatives=16, crd__width=48),
    "crd in the batch": _text("crd", ("auxiliary",), crd__form="in_batch"),
    "dist": _text("dist", ()),
    "dist, 20 classes": _text("dist", (), data="newsgroups"),
    "subclass teacher": _text(SUBCLASS_TEACHER, ("logits",)),
    "subclass teacher, 20 classes x 3": _text(SUBCLASS_TEACHER, ("logits",), data="newsgroups", lelp__subclasses=3),
    "lelp, 20 classes x 3": _text("lelp", (), data="newsgroups", lelp__subclasses=3),
    "east, 64 features": _text("east", student__name="bag_of_embeddings"),
    "rkd, 64 features": _text("rkd", student__name="bag_of_embeddings", rkd__group_size=0),
}
MODES = {"jit": ("jit", "replicated"), "pmap": ("pmap", "replicated"), "sharded": ("jit", "sharded")}
"""Wrapper, and where parameters lie between steps."""
BATCHES = (1, 2)
ROW_BYTES, CLASS_BYTES, CONSTANT_BYTES = 64, 80, 1024
"""Of numbers of each row and frame (norms, row sums, masks), of each output (sums over rows, by DIST) and of the whole batch (terms, counts) that may cross
beside parameters and vectors."""


def sizes(assembly: Assembly, batch: Any) -> dict[str, int]:
    """Bytes of parameters and batch statistics, and of what the global batch has of features, logits, embeddings and outputs of the auxiliary module."""
    experiment, state = assembly.experiment, assembly.state

    def forward(rows: Any) -> Any:
        rows = rows._replace(inputs=experiment.transform(None, rows.inputs), embedding=experiment.normalisation(rows.embedding))
        variables = {"params": state.params["student"], "batch_stats": state.batch_stats}
        outputs = experiment.student_alone().apply(variables, rows.inputs, train=False)
        module = experiment.method.auxiliary
        return outputs, rows.embedding, None if module is None else module.apply({"params": state.params["auxiliary"]}, outputs, rows)

    def total(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    outputs, embedding, auxiliary = jax.eval_shape(forward, batch.rows)
    return {
        "rows": outputs.features.shape[0],
        "frames": max(outputs.features.shape[1], 1 if embedding is None else embedding.shape[1]),
        "parameters": total(state.params),
        "statistics": total(state.batch_stats),
        "features": total(outputs.features),
        "logits": total(outputs.logits),
        "embedding": total(embedding),
        "auxiliary": total(auxiliary),
    }


def traffic(found: Sequence[Collective]) -> dict[str, Any]:
    """Bytes by kind: what is reduced and scattered (of each device), what is gathered (all devices together), what each device sends in rings."""
    brought = {"reduced": "all-reduce", "scattered": "reduce-scatter", "gathered": "all-gather"}
    by_kind = {name: sum(one.result_bytes if kind == "all-gather" else one.bytes for one in found if one.kind == kind) for name, kind in brought.items()}
    other = sum(one.bytes for one in found if one.kind not in brought.values())
    return {**by_kind, "other": other, "sent": round(sum(one.sent_bytes for one in found)), "count": len(found)}


def measure(names: Sequence[str], modes: Sequence[str], batches: Sequence[int]) -> list[dict[str, Any]]:
    """The traffic of each experiment on the devices of this process, with the batch of its config and multiples of it."""
    rows = []
    for name in names:
        case = EXPERIMENTS[name]
        config = named_config(case.config)
        config.update_from_flattened_dict(case.fields)
        config.evaluation.batch_size = config.training.batch_size  # it must split over the devices too, and has no part in a step
        prepared = pipeline.precompute(config, default_cache_dir())
        for mode in modes:
            config.parallel.mode, config.parallel.parameters = MODES[mode]
            assembly = assemble(config, prepared)
            batch = assembly.loader.batch(0)
            for times in batches:
                larger = jax.tree.map(lambda part, times=times: np.concatenate([part] * times), batch)
                program = assembly.train.lower(assembly.state, assembly.devices.shard(larger)).compile().as_text()
                own = sizes(assembly, larger)
                compared = {"vectors": sum(own[part] for part in case.vectors), "trained": sum(own[part] for part in case.vectors if part != "embedding")}
                where = {"experiment": name, "mode": mode, "devices": jax.device_count(), "batch": times}
                rows.append({**where, **own, **compared, **traffic(collectives(program))})
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
        sums = 2 * row["statistics"] + CLASS_BYTES * row["logits"] // (4 * row["rows"]) + CONSTANT_BYTES
        parts = row["parameters"] if row["mode"] == "sharded" else 0
        claims = {
            "parameters are reduced once": row["parameters"] <= row["reduced"] <= row["parameters"] + sums,
            "parameters in parts are gathered once, vectors once": row["gathered"] <= parts + row["vectors"] + a_row,
            "gradients of vectors are scattered once": row["scattered"] <= row["trained"] + a_row,
            "what is reduced does not grow with the batch": row["reduced"] == base["reduced"],
            "what is gathered grows like the batch": row["gathered"] <= times * base["gathered"],
            "nothing else is sent": row["other"] == 0,
        }
        where = f"{row['experiment']}, {row['mode']} on {row['devices']} devices, {row['rows']} rows"
        found += [f"{where}: not so that {claim}" for claim, holds in claims.items() if not holds]
    return found


def growth(rows: Sequence[dict[str, Any]]) -> list[Plot]:
    """Bytes that each device sends over the devices, more than one, with the batch of the config; nothing of fewer than two numbers of devices."""
    panels: dict[str, dict[str, tuple[list[int], list[int]]]] = {}
    for row in rows:
        if row["devices"] > 1 and row["batch"] == BATCHES[0] and len(EXPERIMENTS[row["experiment"]].devices) > 1:
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
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS), choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--devices", nargs="+", type=int, help="numbers of them, for all experiments")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    add_out(parser)
    settings = parser.parse_args()
    if settings.here:
        print(json.dumps(measure(settings.experiments, settings.modes, BATCHES)))
        return
    rows = []
    for count in settings.devices or DEVICES:
        if names := [name for name in settings.experiments if settings.devices or count in EXPERIMENTS[name].devices]:
            rows += on_devices(count, ["--experiments", *names, "--modes", *settings.modes])
    rows.sort(key=lambda row: (settings.experiments.index(row["experiment"]), row["mode"], row["devices"], row["batch"]))
    columns = ("devices", "rows", "parameters", "reduced", "vectors", "gathered", "trained", "scattered", "other", "sent", "count")
    failed = broken(rows)
    for sentence in failed:
        print(sentence)
    figures = [Figure("rows that break a claim", len(failed), at_most=0)]
    lines = [[row["experiment"], row["mode"], *(f"{row[name]:,}" for name in columns)] for row in rows]
    title = "Bytes; vectors: those that the method compares, of the global batch, trained: without the embedding; sent: by each device, in rings"
    table = Table(title, ["experiment", "mode", *columns], lines, label_columns=2)
    sys.exit(keep("collectives", __doc__ or "", figures, {"rows": rows, "broken": failed}, settings.out, blocks=[table, *growth(rows)]))


if __name__ == "__main__":
    main()
