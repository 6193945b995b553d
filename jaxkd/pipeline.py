"""The story of the program: check, precompute, train, evaluate, report; and compare, which tells it for several methods and seeds.

Nothing heavy is imported before the configuration is known to be good.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxkd import config as configs
from jaxkd import data, members, methods, students, teachers
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.files import as_json, read_json, write_json
from jaxkd.hosts import all_true, index, own_folder
from jaxkd.plugins import check_name
from jaxkd.together import stopping_together
from jaxkd.training.interrupt import MeetingGuard
from jaxkd.validation import validate
from jaxkd.workdir import claim, claim_inputs, start_jax, timed

if TYPE_CHECKING:
    from jaxkd.training.prepared import Prepared


def check(config: Any) -> None:
    """Checks a config, every name in it too, without importing JAX.

    Raises:
      ConfigError: names the field, its value and the fix.
    """
    validate(config)
    check_name("data source", config.data.source, data.SOURCES)
    archive = " and, for the embeddings, --config.teacher.archive=FOLDER_OR_FILE" if teachers.lacks_archive(config.teacher) else ""
    data.check_folders(config, also=archive)
    data.check_fields(config)
    data.check_labelled(config.data)
    modality = data.modality_of(config.data)
    for method in dict.fromkeys((config.method, *_compared_methods(config))):
        methods.check(method)
        _check_task(method, config.data, modality)
    _check_method(config)
    students.check(config.student.name, modality=modality, features=config.student.features, bands=config.frontend.bands)
    if modality == "audio":
        for name in _networks(config):
            students.check_clips(name, config.frontend, sample_rate=config.data.sample_rate, clip_seconds=config.data.clip_seconds)
    if config.student.features:
        teachers.check_features(config.student.features, modality=modality)
    if config.teacher.classifier == "finetuned" and config.teacher.name in students.STUDENTS:
        students.check(config.teacher.name, modality=modality, field="teacher.name")
    teachers.check_config(config, modality=modality, networks=students.fitting(modality))
    _check_stages(config)
    _check_transformation(config)
    _check_attention(config, modality)
    if config.data.source == "rendered_instruments":
        from jaxkd.data.rendered_config import check_config

        check_config(config.data)
    if config.other.source:
        _check_other(config, modality)
    for part in ("training", "teacher_training"):
        if modality == "text" and config[part].mixup_alpha:
            raise ConfigError(f"config.{part}.mixup_alpha is {config[part].mixup_alpha}, but tokens cannot be mixed: set it to 0.")


def _compared_methods(config: Any) -> list[str]:
    """The methods of the rows of a comparison, and what else its settings name."""
    rows, own = members.rows(config), members.variants(config)
    for name in own:
        if name in (*methods.METHODS, *methods.REFERENCES):
            raise ConfigError(f"config.compare.variants names {name!r}, which is a method: take another name, or give it settings by compare.settings.")
    return [*rows.values(), *(entry.split()[0] for entry in config.compare.settings if entry.split()[0] not in own)]


def _check_task(method: str, settings: Any, modality: str | None) -> None:
    if modality == "audio" and settings.source != "tfds" and method in methods.ONE_CLASS:
        fitting = ", ".join(name for name in (*methods.METHODS, *methods.REFERENCES) if name not in methods.ONE_CLASS)
        raise ConfigError(f"method {method!r} is for one class an example, but {settings.source} has many labels a clip: choose one of {fitting}.")
    if method == "oracle" and not data.may_have_fine_classes(settings):
        merged = ", or set config.data.binary=True, which merges its classes to two" if settings.source in data.READ_BY["binary"] else ""
        raise ConfigError(f"method 'oracle' takes the fine labels of the data, but {settings.source} has none: leave it out{merged}.")


def _check_other(config: Any, modality: str | None) -> None:
    from jaxkd.data.other import check_classes, other_config

    settings, sample_rate = config.other, config.data.sample_rate
    check_name("data source of config.other", settings.source, data.SOURCES)
    for source, of in ((config.data.source, modality), (settings.source, data.modality_of(other_config(config)))):
        if of not in ("audio", None):
            raise ConfigError(f"config.other.source is {settings.source!r}: another data set is for many labels a clip, but {source} is {of}: set it to ''.")
    teachers.check_other_archives(config)
    if settings.clip_seconds:
        for name in (config.student.features, *(choice.name for choice in teachers.choices(config.teacher))):
            teachers.check_audio(name, sample_rate=sample_rate, clip_seconds=settings.clip_seconds, field="other.clip_seconds")
        for name in _networks(config):
            students.check_clips(name, config.frontend, sample_rate=sample_rate, clip_seconds=settings.clip_seconds, field="other.clip_seconds")
    if settings.source == "rendered_instruments":
        from jaxkd.data.rendered_config import check_config

        check_config(other_config(config), part="other")
    check_classes(config)


def _networks(config: Any) -> list[str]:
    """The networks of the students' table that a config trains."""
    scratch = config.teacher.classifier == "finetuned" and config.teacher.name not in teachers.FINETUNED
    return [config.student.name, *([config.teacher.name] if scratch else [])]


def _check_method(config: Any) -> None:
    if config.teacher.classifier == "none" and config.method in methods.NEED_CLASSIFIER:
        raise ConfigError(
            f"method {config.method!r} takes the logits of the teacher's own classifier, but config.teacher.classifier is 'none': "
            "set it to linear, mlp, probe or finetuned."
        )
    methods.check_distance(config)
    methods.require_rows(config, config.training.batch_size * (1 + config.training.unlabelled_ratio))
    if config.training.mixup_alpha and config.method in methods.PSEUDO_CLASS:
        raise ConfigError(f"config.training.mixup_alpha is {config.training.mixup_alpha}, but the targets of {config.method!r} cannot be mixed: set it to 0.")
    if config.method in methods.SUBSPACES:
        _check_room(config)


def _check_room(config: Any) -> None:
    """Refuses more directions than the teacher's embedding has, as far as it can be told before the classes are read."""
    settings, kind = config.lelp, config.teacher.classifier
    dims = () if kind == "finetuned" else (config.teacher.hidden,) if kind == "mlp" else teachers.dims(config.teacher)
    if not dims:
        return
    asked, read = settings.subclasses - settings.simplex, 0 if settings.null_space == "off" else 1
    if config.data.source == "rendered_instruments":
        read *= len(config.data.classes)
    room = dims[0] - read
    if asked > room:
        field = f"config.teacher.hidden is {dims[0]}" if kind == "mlp" else f"the embedding of {config.teacher.name} has {dims[0]} dimensions"
        less = f", of which the classifier reads at least {read}" if read else ""
        raise ConfigError(
            f"config.lelp.subclasses is {settings.subclasses}: {asked} directions are asked for, but {field}{less}: "
            f"set it to at most {room + settings.simplex}{' or raise teacher.hidden' if kind == 'mlp' else ''}."
        )


def _check_stages(config: Any) -> None:
    """Refuses a distance that does not fit the student's stages or the embedding's width, as far as they are known here."""
    channels = students.STAGE_CHANNELS.get(config.student.name)
    if config.method not in methods.DISTANCES or channels is None:
        return
    dims = () if config.teacher.classifier == "finetuned" else teachers.dims(config.teacher)
    if config.method == "compressed":
        dims = (config.compressed.features or channels[-1],)
    elif dims and config.teacher.combine == "concatenate":
        dims = (sum(dims),)
    methods.require_stages(config, channels, dims)


def _check_transformation(config: Any) -> None:
    if config.method != "compressed":
        return
    kind, dims = config.compressed.transformation, teachers.dims(config.teacher)
    if config.teacher.combine == "separate" and kind in ("random", "pca", "identity"):
        raise ConfigError(
            f"config.teacher.combine is 'separate', which trains a transformation for each teacher, but {kind!r} is not trained: set "
            "config.teacher.combine='concatenate', or another config.compressed.transformation."
        )
    dim, features = sum(dims), config.compressed.features
    if not dims or config.teacher.classifier == "finetuned":
        return
    if kind == "identity" and features != dim:
        raise ConfigError(
            f"config.compressed.transformation='identity' keeps the embedding's {dim} dimensions, but config.compressed.features is "
            f"{features}: set --config.compressed.features={dim}, or another transformation."
        )
    if kind == "pca" and features > dim:
        raise ConfigError(
            f"config.compressed.transformation='pca' has no more components than the embedding's {dim} dimensions, but config.compressed.features is "
            f"{features}: set --config.compressed.features={dim} or less, or another transformation."
        )


def _check_attention(config: Any, modality: str | None) -> None:
    if config.method != "compressed" or config.compressed.transformation != "attention":
        return
    if modality in ("text", "image"):
        raise ConfigError(f"config.compressed.transformation is 'attention', which weighs frames, but of {modality} there is one vector: take linear or mlp.")
    if modality == "audio" and teachers.single_frame(config.teacher, clip_seconds=config.data.clip_seconds):
        raise ConfigError(
            f"config.compressed.transformation is 'attention', which weighs frames, but the teacher {config.teacher.name} gives one frame for clips of "
            f"{config.data.clip_seconds} s: take linear or mlp, or a teacher of more frames."
        )


def default_workdir(config: Any, mode: str) -> Path:
    """`runs/NAME-FINGERPRINT`, or for a comparison `runs/NAME-compare-FINGERPRINT` without method and seed in the fingerprint."""
    if mode == "compare":
        return Path("runs") / f"{config.name}-compare-{configs.fingerprint(_compared(config))}"
    return Path("runs") / f"{config.name}-{configs.fingerprint(config)}"


def _compared(config: Any) -> dict[str, Any]:
    """What the members of a comparison share."""
    return {key: value for key, value in as_json(config).items() if key not in ("method", "seed")}


def precompute(config: Any, cache_dir: Path, mode: str = "run") -> "Prepared":
    """Prepares the data, embeds it once, and fits what the method needs; all is found again in the cache. One process at a time makes each part."""
    from jaxkd.training.preparation import prepare

    return prepare(config, Path(cache_dir), student=mode != "precompute")


def _require_evaluated(workdir: Path) -> None:
    if not (workdir / "evaluation.json").exists():
        raise ArtefactError(f"{workdir}/evaluation.json is missing: run with --mode=run (or train, then evaluate) first.")


def _require_trained(config: Any, workdir: Path) -> None:
    if config.method not in methods.REFERENCES and not all_true((workdir / "student").exists()):
        raise ArtefactError(f"{workdir}/student is missing, there is nothing to evaluate: train it first, by the same command with --mode=train.")


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
        "config": as_json(config),
        "fingerprint": configs.fingerprint(config),
        "environment": read_json(workdir / "environment.json"),
        "method": config.method,
        "seed": config.seed,
        "timings_s": read_json(workdir / "timings.json"),
        **read_json(workdir / "evaluation.json"),
    }
    written = write_report(workdir, summary)
    if show:
        print(screen_table(written), f"Report: {workdir / 'report.html'}, report.md, report.json", sep="\n")
    return written


def _report_once(config: Any, workdir: Path, *, show: bool = True) -> None:
    """`report` by process 0; returns in all of them once it is written."""
    with stopping_together():
        if index() == 0:
            report(config, workdir, show=show)


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
    own = own_folder(workdir)
    if mode == "evaluate":
        _require_trained(config, own)
    claim(own, as_json(config))
    if mode == "report":
        _report_once(config, workdir)
        return
    start_jax(own, cache_dir)
    with timed(own, "precompute"):
        prepared = precompute(config, cache_dir, mode)
    _run_stages(config, own, cache_dir, prepared, mode)
    if mode == "run":
        _report_once(config, workdir)


def _run_stages(config: Any, workdir: Path, cache_dir: Path, prepared: "Prepared", mode: str) -> None:
    """Training and evaluation, where the mode names them and they are not done by every process of the job; `workdir` is this one's own."""
    assert prepared.store is not None
    frames = {} if prepared.frames is None else {"frames": {**prepared.frames.identity, "dtype": str(prepared.frames.dtype)}}
    other = {}
    if prepared.other is not None and prepared.other.store is not None:
        other = {"other": {**prepared.other.store.identity, "dtype": str(prepared.other.store.dtype)}}
    claim_inputs(workdir, {**prepared.store.identity, "dtype": str(prepared.store.dtype), **frames, **other})
    if mode in ("run", "train") and config.method not in methods.REFERENCES and not all_true((workdir / "student").exists()):
        from jaxkd.training.student import train_student

        with timed(workdir, "train"):
            train_student(config, workdir, prepared)
    if mode in ("run", "evaluate") and not all_true((workdir / "evaluation.json").exists()):
        with timed(workdir, "evaluate"), MeetingGuard() as guard:
            from jaxkd.results.evaluation import evaluate

            write_json(workdir / "evaluation.json", evaluate(config, workdir, cache_dir, prepared, guard))


def compare(config: Any, workdir: Path, cache_dir: Path) -> dict[str, Any]:
    """Runs every row of `config.compare` with every seed (a reference once), each in its own folder, and makes one table; finished runs are kept.

    The runs lie in `workdir/runs`, and tables of other rows on the same config share them; the table goes to `workdir`, or `workdir/NAME` if
    `config.compare.name` names it, where an earlier one of other rows is kept beside it. Of several processes the first makes and returns it.
    """
    from jaxkd.results.comparison import screen_table, write_comparison

    rows, seeds = members.rows(config), config.compare.seeds
    jobs = [(name, seed) for seed in seeds for name, method in rows.items() if method not in methods.REFERENCES or seed == seeds[0]]
    runs = [members.member(config, name, seed) for name, seed in jobs]
    for run_config in runs:
        check(run_config)
    folders = [workdir / "runs" / f"{name.replace(':', '-')}-seed{seed}" for name, seed in jobs]
    claim(own_folder(workdir), _compared(config))
    start_jax(own_folder(workdir), cache_dir)
    to_train = [run_config.method not in methods.REFERENCES and not _is_reported(folder) for run_config, folder in zip(runs, folders, strict=True)]
    print(f"{len(runs)} runs, {sum(map(_is_reported, folders))} of them finished already; {sum(to_train)} students to train", file=sys.stderr)
    seconds: list[float] = []
    for number, ((name, seed), run_config, folder) in enumerate(zip(jobs, runs, folders, strict=True)):
        print(f"[{number + 1}/{len(runs)}] {name}, seed {seed}: {folder}{_time_left(seconds, sum(to_train[number:]))}", file=sys.stderr)
        started = time.perf_counter()
        own = own_folder(folder)
        claim(own, as_json(run_config))
        start_jax(own, cache_dir)
        if not all_true(_is_reported(folder)):
            _run_stages(run_config, own, cache_dir, precompute(run_config, cache_dir), "run")
            _report_once(run_config, folder, show=False)
        if to_train[number]:
            seconds.append(time.perf_counter() - started)
    reference = next((name for name in ("kd", "baseline") if name in rows), next(iter(rows)))
    out_dir = workdir / config.compare.name
    written: dict[str, Any] = {}
    with stopping_together():
        if index() == 0:
            written = write_comparison(folders, out_dir, names=[name for name, _ in jobs], reference=reference, variants=members.variants(config))
            print(screen_table(written), f"Report: {out_dir / 'report.html'}, report.md, report.json; each run's own below {workdir / 'runs'}", sep="\n")
    return written


def _time_left(seconds: list[float], students: int) -> str:
    """How long the students that are left will take, going by the seconds of those before them."""
    return f"; about {max(1, round(statistics.mean(seconds) * students / 60))} min left" if seconds and students else ""


def _is_reported(folder: Path) -> bool:
    return (folder / "report.json").exists()
