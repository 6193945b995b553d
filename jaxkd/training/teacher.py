"""A teacher with a classifier of its own, trained on the labelled rows: a head on frozen embeddings, or a whole network."""

import copy
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd import config as configs
from jaxkd import methods
from jaxkd.data.packing import by_length
from jaxkd.data.views import Views
from jaxkd.embeddings.blocks import id_blocks
from jaxkd.errors import ArtefactError
from jaxkd.files import read_json, sha256_file, sha256_json
from jaxkd.hosts import all_true, index, own_folder, wait_for_file
from jaxkd.models.macs import count_macs
from jaxkd.together import exclusive_to_job, failing_together
from jaxkd.training.artefact import load_student, save_student
from jaxkd.training.cost import measured, training_cost
from jaxkd.training.inputs import Features
from jaxkd.training.prepared import Classifier, Prepared, unaugmented
from jaxkd.training.probe_solver import Fit, fit_on_embedding, probe_recipe
from jaxkd.training.student import train_student

FORMAT_VERSION = 3


def classifier_config(config: Any) -> Any:
    """The experiment that trains the teacher's classifier: labels only, `config.teacher_training`, one seed whatever the student's."""
    own = copy.deepcopy(config)
    subclasses = config.method == "subclass_distillation"
    own.name, own.seed = f"{config.teacher.name}-{config.teacher.classifier}{'-subclasses' if subclasses else ''}", 0
    own.method = methods.SUBCLASS_TEACHER if subclasses else "baseline"
    own.student.name = {"linear": "linear", "mlp": "mlp", "probe": "linear"}.get(config.teacher.classifier, config.teacher.name)
    own.training = copy.deepcopy(config.teacher_training)
    return own


def classifier_identity(config: Any, prepared: Prepared, pretrained_hash: str) -> dict[str, Any]:
    """What the classifier of a teacher depends on, as JSON values; `format` is that of the folder it is kept in."""
    own = classifier_config(config).to_dict()
    kept = {name: own[name] for name in ("method", "teacher", "seed")}
    kept["teacher"] = {name: value for name, value in kept["teacher"].items() if name not in ("archive", "normalisation")}
    if config.teacher.classifier == "probe":
        kept["probe"] = probe_recipe(config)
    else:
        kept["teacher_training"] = own["teacher_training"]
    if config.method == "subclass_distillation":
        kept |= {"subclasses": config.lelp.subclasses, "subclass_distillation": own["subclass_distillation"]}
    return {
        "format": FORMAT_VERSION,
        **kept,
        "data_fingerprint": prepared.dataset.fingerprint,
        "inputs": prepared.inputs.settings,
        "pretrained": pretrained_hash,
    }


class ClassifierTeacher:
    """A trained classifier as a teacher: its embedding is the input of its last layer. Attributes as in `jaxkd.teachers.Teacher`, and `training`, what it cost.

    Args:
      folder: the artefact of the classifier.
      network: its module.
      prepared: its inputs.
      name: of the teacher.
      identity: what the classifier was made from.
    """

    embedding = "penultimate"
    sample_rate = None
    hop_seconds = 0.0

    def __init__(self, folder: Path, network: Any, prepared: Prepared, name: str, identity: dict[str, Any]):
        self.variables = jax.device_put(load_student(folder)[0])
        self.training = training_cost(folder.parent)
        self.name, self.weight_hash, self.preprocessing = name, sha256_file(folder / "parameters.npz"), identity
        head = self.variables["params"]["head"]
        self.classifier = Classifier(np.asarray(head["kernel"]), np.asarray(head["bias"]), self.weight_hash)
        self.dim = self.classifier.kernel.shape[0]
        self.parameters = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.variables["params"]))
        self._max_tokens = prepared.inputs.settings["tokeniser"]["max_tokens"] if prepared.inputs.settings["kind"] == "tokens" else None
        apply, transform = network.apply, prepared.inputs.transform
        keeps_frames = prepared.inputs.settings["kind"] == "patches"

        def forward(variables: Any, rows: Any) -> jax.Array:
            """The frames of a released tagger; of other networks their mean, which the last layer takes."""
            features = apply(variables, transform(None, rows), train=False).features
            return features if keeps_frames else features.mean(axis=1, keepdims=True)

        self._forward = forward
        self._compiled = jax.jit(self._forward)

    def embed(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the inputs -> float32 [B, T, D]; tokens are batched by length."""
        if self._max_tokens is None:
            return np.asarray(self._compiled(self.variables, rows), np.float32)
        embedding = np.empty((len(rows), 1, self.dim), np.float32)
        for places, tokens in by_length([row[row > 0] for row in rows], max_tokens=self._max_tokens):
            embedding[places] = np.asarray(self._compiled(self.variables, tokens))[: len(places)]
        return embedding

    def macs_of(self, rows: np.ndarray) -> int:
        """Multiply-accumulates of the network for the first of these rows."""
        return count_macs(self._forward, self.variables, jax.ShapeDtypeStruct((1, *rows.shape[1:]), rows.dtype))


class ClassifierExamples:
    """The inputs of a classifier as the embed stage reads them."""

    sample_rate = None

    def __init__(self, prepared: Prepared):
        embedded = prepared.dataset.embedded if isinstance(prepared.dataset, Views) else prepared.dataset
        self.fingerprint = sha256_json([embedded.fingerprint, prepared.inputs.settings])
        self.splits, self.inputs = embedded.splits, prepared.inputs
        self.gather = prepared.inputs.source.gather
        self.notes = prepared.inputs.notes


def train_classifier(config: Any, prepared: Prepared, cache_dir: Path, *, network: Any = None, pretrained: Any = None, pretrained_hash: str = "") -> Path:
    """Trains the classifier that a config names, or finds it in the cache: `cache_dir/classifiers/NAME-FINGERPRINT`.

    Args:
      config: of the experiment.
      prepared: data and inputs of the classifier.
      cache_dir: shared by runs.
      network: the module, or None for the network of the table.
      pretrained: parameters that training starts from, or None.
      pretrained_hash: identifies them.

    Returns:
      The folder of the artefact.
    """
    own = classifier_config(config)
    workdir = _workdir(own.name, classifier_identity(config, prepared, pretrained_hash), cache_dir)
    with exclusive_to_job(cache_dir, workdir.name, "training the teacher"):
        if not all_true((workdir / "student").exists()):
            own_folder(workdir).mkdir(parents=True, exist_ok=True)
            train_student(own, own_folder(workdir), prepared, network=network, pretrained=pretrained, section="teacher_training")
    wait_for_file(workdir / "student" / "config.json")
    return workdir / "student"


def _workdir(name: str, identity: dict[str, Any], cache_dir: Path) -> Path:
    return Path(cache_dir) / "classifiers" / f"{name}-{sha256_json(identity)[:12]}"


def train_probe(config: Any, prepared: Prepared, cache_dir: Path, *, least_std: float = 0.0) -> Path:
    """Fits the linear probe of the reference row as a teacher's classifier, or finds it in the cache, where `train_classifier` keeps the others.

    With `config.evaluation.probe_solver` "sgd" it is what EAsT takes the teacher's logits from (arXiv 2306.17424, "Teacher_LR"). Process 0 of a job fits it.

    Args:
      config: of the experiment.
      prepared: data, and `Features` of the frozen embedding as it is: the probe's own normalisation becomes part of kernel and bias.
      cache_dir: shared by runs.
      least_std: as in `fit_probe`, for "lbfgs".

    Returns:
      The folder of the artefact, a linear network.

    Raises:
      ArtefactError: the one in the cache was made from something else; names the differing fields.
      DataError: no class has both sides on the validation split.
    """
    source = prepared.inputs.source
    assert isinstance(source, Features)
    own, identity = classifier_config(config), classifier_identity(config, prepared, "")
    if least_std:
        identity["probe"] |= {"least_std": least_std}
    workdir = _workdir(own.name, identity, cache_dir)
    folder = workdir / "student"
    with exclusive_to_job(cache_dir, workdir.name, "training the teacher"):
        if not all_true(folder.exists()):
            fit = fit_on_embedding(config, source.store, unaugmented(prepared.dataset, "train"))
            if least_std:
                fit = functools.partial(fit, least_std=least_std)
            with failing_together():
                if index() == 0:
                    _fit_probe(own, identity, prepared, fit, workdir)
    wait_for_file(folder / "config.json")
    differing = configs.differing_fields(configs.flatten(identity), configs.flatten(read_json(folder / "config.json").get("made_from", {})))
    if differing:
        raise ArtefactError(
            f"the probe in {workdir} was made from something else than its name says: remove that folder and run again, and it is made anew:\n  "
            + "\n  ".join(differing)
        )
    return folder


def _fit_probe(own: Any, identity: dict[str, Any], prepared: Prepared, fit: Fit, workdir: Path) -> None:
    dataset, gather = prepared.dataset, prepared.inputs.source.gather
    workdir.mkdir(parents=True, exist_ok=True)
    dim = len(prepared.inputs.settings["mean"])
    with measured(workdir, (dim + 1) * len(dataset.classes)):
        rows = []
        for split in ("train", "valid"):
            ids = unaugmented(dataset, split)
            rows.append((np.concatenate([gather(block) for block in id_blocks(ids)]), dataset.labels(ids), dataset.label_mask(ids)))
        kernel, bias = fit(*rows, task=dataset.task).folded()
    save_student(
        workdir / "student",
        {"params": {"head": {"kernel": kernel, "bias": bias}}},
        {
            "name": own.student.name,
            "options": {},
            "task": dataset.task,
            "classes": list(dataset.classes),
            "outputs_per_label": 1,
            "inputs": prepared.inputs.settings,
            "fingerprint": configs.fingerprint(own),
            "teacher": None,
            "made_from": identity,
        },
    )
