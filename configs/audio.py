"""Instrument recognition on rendered scores: an audio tagger's embeddings distilled into a 0.67 M parameter student.

    python -m jaxkd.main --config=configs/audio.py
    python -m jaxkd.main --config=configs/audio.py:method=east
    python -m jaxkd.main --config=configs/audio.py:method=lelp
    python -m jaxkd.main --config=configs/audio.py --mode=compare
    python -m jaxkd.main --config=configs/audio.py:classifier=linear --mode=compare
    python -m jaxkd.main --config=configs/audio.py:grid=compression --mode=compare --workdir=runs/audio_grid
    python -m jaxkd.main --config=configs/audio.py:classifier=finetuned --mode=compare

Two CPU cores: 5 to 8 minutes from an empty cache, half an hour for the comparison. Expected mAP (mean of five seeds, test / unseen bank): compressed 0.785 /
0.532 (with compressed.transformation=mlp 0.798 / 0.536), east 0.730 / 0.500, baseline 0.727 / 0.469, the teacher's probe 0.760 / 0.525.

Methods that take the logits of the teacher (kd, lelp and its controls, ...) need a classifier: linear or mlp, trained on the labelled clips on the time
mean of the frozen embedding, or probe, the linear probe of the reference row. With one, all run without mixup, which the targets of LELP cannot follow.

Its east is not EAsT as published: distances are between means over time, in one group of the whole batch with its unlabelled rows, with scale-free constants,
and training is by AdamW with a cosine.

With finetuned the tagger itself is trained on the labelled clips, then embeds them: its own classifier is the reference row `teacher`, and the students
are taught by it; in the comparison probe and compressed_frozen keep to the frozen one, so that it shows what either costs and gives. Its head starts from a
probe of the frozen embedding (arXiv 2202.10054): from a drawn one it ends far below that probe.

String arguments: method, teacher, classifier (none, linear, mlp, probe or finetuned), student (cp_resnet_small by default, cp_resnet_tiny with runlocal),
runlocal (tiny sizes, for a trial of half a minute), and grid, the rows of a comparison: compression (what the teacher's embedding must go through before it
teaches, and how that is trained), ablation (the same with each teacher), transformations (every kind of it but attention, since these teachers give one
frame for 3 s), training (every way to train it), teachers (raw against compressed for each teacher), labels (fewer of them). Grids share the runs of one
workdir; a run takes 2 to 11 minutes on one core.
"""

import ml_collections

from jaxkd.config import default_config, parse_arg
from jaxkd.errors import unknown_name
from jaxkd.methods import NEED_CLASSIFIER, PSEUDO_CLASS
from jaxkd.teachers import ON_FROZEN

WITH_CLASSIFIER = "teacher baseline kd east east_kd compressed embedding_distillation lelp random_directions permuted uniform outputs_only".split()
OTHER_TEACHERS = ("MSD_musicnn", "MTT_vgg", "MSD_vgg", "aisfx")
LABEL_SHARES = (0.25, 0.5, 0.75)
METHODS = ("probe", "baseline", "east", "compressed")
TAUGHT = ("probe", "east", "compressed")
"""Of METHODS, those that a teacher has a part in."""
KINDS = ("random", "pca", "mlp", "linear_norm")
TRAININGS = {
    "joint_gradient": "compressed.stop_gradient=False",
    "staged": "compressed.training=staged",
    "zero_bias": "compressed.head_bias=zero",
}
COMPRESSED = {**TRAININGS, **{kind: f"compressed.transformation={kind}" for kind in KINDS}}


SETTINGS = ("compressed_pca compressed.weight=0.8",)
"""What `benchmarks.audio_grid --tune` chose for rows of the grids on the validation split, where it is not what the config has."""


def embedding_of(teacher: str) -> str:
    """The embedding that is taken of a teacher; "" for its own default."""
    return "max_mean_pool" if teacher.endswith("musicnn") else ""


def _transformed(*names: str) -> tuple[str, ...]:
    return tuple(f"compressed_{name} = compressed {COMPRESSED[name]}" for name in names)


def _with_teacher(teacher: str, *rows: str) -> tuple[str, ...]:
    """Rows, methods or variants, with another teacher: "compressed_pca" becomes "compressed_pca_aisfx"."""
    parts = [row.split(" = ") if " = " in row else (row, row) for row in rows]
    return tuple(f"{name}_{teacher} = {settings} teacher.name={teacher} teacher.embedding={embedding_of(teacher)}" for name, settings in parts)


ABLATION = _transformed("mlp", "random", "pca", "joint_gradient", "staged")
"""What embedding compression is varied in: its transformation, which gradients it gets, and when it is trained."""


GRIDS = {
    "compression": {"methods": METHODS, "variants": ABLATION, "seeds": (0, 1, 2, 3, 4)},
    "ablation": {
        "methods": METHODS,
        "variants": ABLATION + tuple(row for teacher in OTHER_TEACHERS for row in _with_teacher(teacher, *TAUGHT, *ABLATION)),
        "seeds": (0, 1, 2),
    },
    "transformations": {"methods": METHODS, "variants": _transformed(*KINDS), "seeds": (0, 1, 2)},
    "training": {"methods": METHODS, "variants": _transformed(*TRAININGS), "seeds": (0, 1, 2)},
    "teachers": {
        "methods": METHODS,
        "variants": tuple(row for teacher in OTHER_TEACHERS for row in _with_teacher(teacher, *TAUGHT)),
        "seeds": (0, 1, 2),
    },
    "labels": {
        "methods": ("baseline", "east", "compressed"),
        "variants": tuple(f"{method}_{share * 100:.0f} = {method} data.label_share={share}" for share in LABEL_SHARES for method in METHODS[1:]),
        "seeds": (0, 1, 2),
    },
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The experiment; `arg` as in the examples above."""
    values = parse_arg(arg, method="compressed", teacher="MTT_musicnn", classifier="", student="", grid="", runlocal=False)
    classifier = values.classifier or ("linear" if values.method in NEED_CLASSIFIER else "none")
    config = default_config()
    config.name = "audio"
    config.method = values.method
    config.teacher.update({"name": values.teacher, "embedding": embedding_of(values.teacher), "classifier": classifier})
    config.student.name = values.student or ("cp_resnet_tiny" if values.runlocal else "cp_resnet_small")
    config.teacher_training.update({"steps": 600, "batch_size": 64, "learning_rate": 1e-3, "eval_every_steps": 50})
    config.compressed.head_bias = "log_odds"  # labels are rare, and the training is short
    config.lelp.solver = "svd"  # few rows: faster than covariances of 1506 dimensions
    if classifier in ON_FROZEN or values.method in PSEUDO_CLASS:
        config.training.mixup_alpha = 0.0
    if classifier in ON_FROZEN:
        config.compare.methods = tuple(WITH_CLASSIFIER)
    if classifier == "finetuned":
        config.teacher_training.update({"steps": 200, "batch_size": 16, "learning_rate": 1e-4, "warmup_steps": 20})
        config.evaluation.batch_size = 16  # a batch of 64 clips takes 2 GB in the tagger
        config.compare.methods = ("teacher", "probe", "baseline", "kd", "east", "east_kd", "compressed")
        config.compare.settings = ("probe teacher.classifier=none",)
        config.compare.variants = ("compressed_frozen = compressed teacher.classifier=none",)
    if values.grid:
        if values.grid not in GRIDS:
            raise unknown_name("grid", values.grid, GRIDS)
        config.compare.update({"name": values.grid, **GRIDS[values.grid]})
        rows = [variant.partition(" ")[0] for variant in config.compare.variants]
        config.compare.settings = tuple(setting for setting in SETTINGS if setting.partition(" ")[0] in rows)
    if values.runlocal:
        config.name = "audio-runlocal"
        config.data.update({"labelled": 32, "unlabelled": 48, "valid": 32, "test": 32, "unseen": 32})
        config.training.update({"steps": 30, "batch_size": 8, "eval_every_steps": 10, "log_every_steps": 5, "warmup_steps": 3})
        tuned = {"steps": 10, "batch_size": 8} if classifier == "finetuned" else {"steps": 40, "batch_size": 16}
        config.teacher_training.update({**tuned, "eval_every_steps": 10, "log_every_steps": 5, "warmup_steps": 3})
        config.evaluation.batch_size = min(32, config.evaluation.batch_size)
        config.compare.seeds = (0, 1)
    return config
