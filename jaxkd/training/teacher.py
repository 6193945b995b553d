"""A teacher with a classifier of its own, trained on the labelled rows: a head on frozen embeddings, or a whole network."""

import copy
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxkd import methods
from jaxkd.data.tokens import pack
from jaxkd.data.views import Views
from jaxkd.files import sha256_file, sha256_json
from jaxkd.hosts import all_true, own_folder, wait_for_file
from jaxkd.models.macs import count_macs
from jaxkd.together import exclusive_to_job
from jaxkd.training.artefact import load_student
from jaxkd.training.cost import training_cost
from jaxkd.training.prepared import Classifier, Prepared
from jaxkd.training.student import train_student

FORMAT_VERSION = 2


def classifier_config(config: Any) -> Any:
    """The experiment that trains the teacher's classifier: labels only, `config.teacher_training`, one seed whatever the student's."""
    own = copy.deepcopy(config)
    subclasses = config.method == "subclass_distillation"
    own.name, own.seed = f"{config.teacher.name}-{config.teacher.classifier}{'-subclasses' if subclasses else ''}", 0
    own.method = methods.SUBCLASS_TEACHER if subclasses else "baseline"
    own.student.name = config.teacher.classifier if config.teacher.classifier in ("linear", "mlp") else config.teacher.name
    own.training = copy.deepcopy(config.teacher_training)
    return own


def classifier_identity(config: Any, prepared: Prepared, pretrained_hash: str) -> dict[str, Any]:
    """What the classifier of a teacher depends on, as JSON values; `format` is that of the folder it is kept in."""
    own = classifier_config(config).to_dict()
    kept = {name: own[name] for name in ("method", "teacher", "teacher_training", "seed")}
    kept["teacher"] = {name: value for name, value in kept["teacher"].items() if name not in ("archive", "normalisation")}
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
        self.variables, _ = load_student(folder)
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
        """Rows of the inputs -> float32 [B, T, D]; tokens are packed by length."""
        if self._max_tokens is None:
            return np.asarray(self._compiled(self.variables, rows), np.float32)
        embedding = np.empty((len(rows), 1, self.dim), np.float32)
        for places, tokens in pack([row[row > 0] for row in rows], max_tokens=self._max_tokens):
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
    digest = sha256_json(classifier_identity(config, prepared, pretrained_hash))[:12]
    workdir = Path(cache_dir) / "classifiers" / f"{own.name}-{digest}"
    with exclusive_to_job(cache_dir, workdir.name, "training the teacher"):
        if not all_true((workdir / "student").exists()):
            own_folder(workdir).mkdir(parents=True, exist_ok=True)
            train_student(own, own_folder(workdir), prepared, network=network, pretrained=pretrained, section="teacher_training")
    wait_for_file(workdir / "student" / "config.json")
    return workdir / "student"
