"""One training step of EAsT (arXiv 2306.17424) against the same step in torch: CP-ResNet of 5.5 M parameters, 16 clips of 10 s, PaSST-sized embeddings.

Both sides do the front end of rows and mixup partners with jitter and SpecAugment, the student forward and backward, distance correlation on 62 frames,
clipping and Adam with coupled decay; the parts are timed apart too. The sides take turns within each repeat, in processes of their own, and the ratio is
that of a repeat: jaxkd / torch; a short part is the mean of several calls. `--threads 1` keeps both to one processor; the ratio of processor seconds then
tells the same on a machine with other load.
The claims: at most 1.3 times the time of torch for the step, and no more than torch for what is ours: front end, distance, optimiser and loader. The student
and its convolutions, which are XLA's, are timed to tell where the rest goes. The table goes to benchmarks/results/east_step.json and .md.

Command: python -m benchmarks.east_step --peer-python=PYTHON   (the Python of an environment with torch; 2 cores: 6 minutes, 10 GB of memory)
"""

import argparse
import functools
import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.pairs import by_turns, compared, parser, sides, timed, use_threads
from jaxkd import methods, students
from jaxkd.config import default_config
from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.loader import TrainLoader
from jaxkd.data.transforms import audio_transform, mixup
from jaxkd.embeddings import EmbeddingStore
from jaxkd.frontend import EAST_OPENMIC
from jaxkd.losses import EAST_EPS, align_time, distance_correlation_loss
from jaxkd.memory import keep_freed
from jaxkd.methods.method import Context
from jaxkd.models.convolution import convolve
from jaxkd.parallel import Devices, row_keys
from jaxkd.recipes import east_openmic
from jaxkd.training.optimiser import make_optimiser
from jaxkd.training.state import initial_state
from jaxkd.training.step import Experiment, Normalisation, train_step
from jaxkd.types import TeacherSide
from jaxkd.xla_flags import convolve_on_all_cores

ASKED = {"step": 1.3, "front_end": 1.0, "distance": 1.0, "optimiser": 1.0, "loader": 1.0}
"""The ratio that a part may have at most; the other parts are information."""
BATCH, SAMPLES, LABELS, FRAMES, DIM, CLIPS = 16, 320_000, 20, 11, 768, 128
PARTS = ("front_end", "student", "distance", "optimiser", "loader", "conv_3x3", "conv_1x1", "step")
CALLS = {"front_end": 5, "distance": 20, "optimiser": 20, "loader": 20}
"""Calls of a part in a row that are timed as one in each repeat; 1 of the others."""
CONVOLUTIONS = {"conv_3x3": (125, 16, 128, 3), "conv_1x1": (62, 8, 512, 1)}
"""Frames, bands, channels and kernel of one convolution, forward and backward, as stages 1 and 3 have them."""


def write_clips(folder: Path) -> TrainLoader:
    """Noise in place of clips and embeddings, in jaxkd's forms and as one .npy each; the loader of the first."""
    rng = np.random.default_rng(0)
    ids = [f"clip{number}" for number in range(CLIPS)]
    audio = rng.integers(-9000, 9000, (CLIPS, SAMPLES)).astype(np.int16)
    embedding = rng.standard_normal((CLIPS, FRAMES, DIM)).astype(np.float32)
    labels, mask = rng.integers(0, 2, (CLIPS, LABELS)).astype(np.float32), rng.uniform(size=(CLIPS, LABELS)) < 0.1
    mask[:, 0] = True
    split = Split(ids, audio, labels * mask, mask)
    dataset = write_dataset(
        folder / "dataset",
        name="noise",
        fingerprint="0",
        modality="audio",
        task="multilabel",
        classes=[str(label) for label in range(LABELS)],
        splits={"train": split},
        notes={},
        licence="none",
        sample_rate=32_000,
    )
    writer = EmbeddingStore.create(folder / "store", identity={"teacher": "noise"}, dim=DIM, dtype="float32", shard_rows=CLIPS)
    writer.append(ids, embedding)
    store = writer.finish()
    for number in range(CLIPS):
        np.save(folder / f"audio{number}.npy", audio[number])
        np.save(folder / f"embedding{number}.npy", embedding[number])
    return TrainLoader(dataset, dataset, TeacherSide(embedding=store), batch_size=BATCH, unlabelled_ratio=0, mixup_alpha=0.3, seed=0)


def parts(loader: TrainLoader) -> dict[str, Callable[[], Any]]:
    """What is timed on jaxkd's side, compiled."""
    config = default_config()
    config.method = "east"
    east_openmic(config, teacher="passt", train_clips=CLIPS)
    method = methods.build("east", config, Context("multilabel", LABELS, np.full(CLIPS, -1, np.int32)))
    student, optimiser = students.build("cp_resnet", num_outputs=LABELS), make_optimiser(config.training, method)
    transform = audio_transform(EAST_OPENMIC, fmin_jitter=20, fmax_jitter=2000, frequency_mask=48, time_mask=192)
    experiment = Experiment(student, method, optimiser, transform, Normalisation(np.float32(0), np.float32(1)), "or", 0)
    devices = Devices.all()
    batch = loader.batch(0)
    on_device = devices.shard(batch)

    @jax.jit
    def front_end(batch: Any) -> Any:
        keys = [row_keys(jax.random.key(place), BATCH, None) for place in range(2)]
        rows, partners = (part._replace(inputs=transform(own, part.inputs)) for own, part in zip(keys, (batch.rows, batch.partners), strict=True))
        return mixup(rows, partners, batch.mixup_weight, mask="or")

    rows = front_end(on_device)
    example = jax.tree.map(lambda x: x[:1], rows)
    holder = {"state": initial_state(jax.random.key(0), student, method, optimiser, example, devices)}

    @jax.jit
    def student_gradient(params: Any, statistics: Any, rows: Any) -> Any:
        def loss(params: Any) -> Any:
            outputs, after = student.apply({"params": params["student"], "batch_stats": statistics}, rows.inputs, train=True, mutable=["batch_stats"])
            assert method.auxiliary is not None
            auxiliary = method.auxiliary.apply({"params": {}}, outputs, rows)
            return method.losses(outputs, auxiliary, rows, None)["loss"], after

        return jax.grad(loss, has_aux=True)(params)

    params, statistics = jax.tree.map(jnp.copy, (holder["state"].params, holder["state"].batch_stats))
    features, embedding = jax.random.normal(jax.random.key(1), (BATCH, 62, 512)), on_device.rows.embedding

    @jax.jit
    def distance_gradient(features: Any, embedding: Any) -> Any:
        return jax.value_and_grad(lambda x: distance_correlation_loss(*align_time(x, embedding, embedding_expand=6), group_size=BATCH, eps=EAST_EPS))(features)

    updated = {"params": jax.tree.map(jnp.copy, params), "state": jax.tree.map(jnp.copy, holder["state"].optimiser_state)}

    @functools.partial(jax.jit, donate_argnums=1)
    def update(gradients: Any, before: Any) -> Any:
        updates, state = optimiser.update(gradients, before["state"], before["params"])
        return {"params": optax.apply_updates(before["params"], updates), "state": state}

    def optimise() -> Any:
        updated.update(update(params, updated))
        return updated

    whole = devices.compile(lambda state, batch, axis_name: train_step(experiment, state, batch, axis_name=axis_name), updates=holder["state"])

    def step() -> Any:
        holder["state"], terms = whole(holder["state"], devices.shard(batch))
        return terms

    convolutions = {name: convolution(*sizes) for name, sizes in CONVOLUTIONS.items()}
    return {
        **convolutions,
        "front_end": lambda: front_end(on_device),
        "student": lambda: student_gradient(params, statistics, rows),
        "distance": lambda: distance_gradient(features, embedding),
        "optimiser": optimise,
        "loader": lambda: loader.batch(1),
        "step": step,
    }


def convolution(frames: int, bands: int, channels: int, size: int) -> Callable[[], Any]:
    """Value and both gradients of one convolution."""
    inputs = jax.random.normal(jax.random.key(0), (BATCH, frames, bands, channels))
    kernel = jax.random.normal(jax.random.key(1), (size, size, channels, channels))

    @jax.jit
    def value_and_gradients(inputs: Any, kernel: Any) -> Any:
        value, vjp = jax.vjp(lambda x, k: convolve(x, k, 1, size // 2), inputs, kernel)
        return value, vjp(inputs)

    return lambda: value_and_gradients(inputs, kernel)


def serve(folder: Path) -> None:
    """Answers as the torch side does: a part and its number of calls in, one JSON line out."""
    keep_freed()
    convolve_on_all_cores()
    calls = parts(write_clips(folder))
    for line in sys.stdin:
        part, count = line.split()
        answer = {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024} if part == "peak" else timed(calls[part], int(count))
        print(json.dumps(answer), flush=True)


def kept(settings: argparse.Namespace, parts: dict[str, Any], peaks: dict[str, float]) -> int:
    """Keeps the figures; returns the exit status."""
    from benchmarks.record import Figure, keep, peer_versions  # these draw plots too: not loaded in the process whose memory is measured
    from jaxkd.results import numbers
    from jaxkd.results.document import Table

    judged_by = "cpu_s" if settings.threads == 1 else "wall_s"
    figures = []
    for part, values in parts.items():
        ratio = [values[judged_by][name] for name in ("ratio", "low", "high")]
        figures.append(Figure(f"{part}: jaxkd / torch", ratio[0], "", *ratio[1:], at_most=ASKED.get(part)))
    figures.append(Figure("peak memory: jaxkd / torch", peaks["jaxkd"] / peaks["torch"]))
    tables = []
    for kind, title in (("wall_s", "Seconds of the clock"), ("cpu_s", "Seconds of the processors")):
        rows = [[part, *(numbers.amount(values[kind][name]) for name in ("jaxkd", "torch", "ratio", "low", "high"))] for part, values in parts.items()]
        tables.append(Table(title, ["part", "jaxkd s", "torch s", "ratio", "lowest", "highest"], rows))
    details = {"repeats": settings.repeats, "threads": settings.threads, "judged_by": judged_by, "parts": parts, "peak_mb": peaks}
    versions = peer_versions(settings.peer_python, "torch")
    return keep("east_step", __doc__ or "", figures, details, settings.out, blocks=tables, versions=versions)


def main() -> None:
    """Measures, and keeps the figures."""
    options = parser(__doc__, packages="torch", repeats=5, threads=True)
    options.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the table")
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    settings = options.parse_args()
    if settings.serve:
        serve(settings.serve)
        return
    use_threads(settings.threads)
    with tempfile.TemporaryDirectory(prefix="jaxkd-east-") as folder:
        ours = [sys.executable, "-m", "benchmarks.east_step", "--peer-python=-", f"--serve={folder}"]
        theirs = [settings.peer_python, "benchmarks/east_step_torch.py", folder, str(CLIPS), str(settings.threads)]
        with sides({"jaxkd": ours, "torch": theirs}) as ask:
            seconds = by_turns(ask, settings.parts, settings.repeats, CALLS)
            peaks = {name: of_side("peak 1")["mb"] for name, of_side in ask.items()}
    parts = {part: {kind: compared(seconds[part], kind) for kind in ("wall_s", "cpu_s")} for part in settings.parts}
    sys.exit(kept(settings, parts, peaks))


if __name__ == "__main__":
    main()
