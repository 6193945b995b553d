"""A text encoder that is fine-tuned: from the archive's weights, through steps that are resumed exactly, to logits and the students that learn from it."""

import jax
import numpy as np
import pytest

from jaxkd import pipeline
from jaxkd.data.dataset import Split, write_dataset
from jaxkd.data.tokens import pad_tokens
from jaxkd.errors import ConfigError
from jaxkd.files import read_json
from jaxkd.models.bert import SentenceClassifier
from jaxkd.teachers.huggingface import TextTokenizer, convert, parse_config
from jaxkd.training import preparation, student
from jaxkd.training.artefact import load_student
from jaxkd.training.state import with_pretrained
from tests.small import load_config
from tests.teachers.test_huggingface import layout, stored_config, stored_tensors, tokenizer_bytes, write_folder

STEPS, LEARNING_RATE = 6, 1e-3


def _texts(folder):
    """Texts of 2 to 9 words of the archive's tokenizer; the class is that of the first word."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 16), ("valid", 8), ("test", 8)):
        words = [rng.integers(0, 96, rng.integers(2, 10)) for _ in range(count)]
        labels = np.eye(2, dtype=np.float32)[[row[0] % 2 for row in words]]
        ids = [f"{split}{number}" for number in range(count)]
        splits[split] = Split(ids, [" ".join(f"w{word}" for word in row) for row in words], labels, np.ones((count, 2), bool))
    kind = {"name": "words", "fingerprint": "words", "modality": "text", "task": "multiclass", "classes": ("even", "odd"), "notes": {}, "licence": "none"}
    return write_dataset(folder, splits=splits, **kind)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The comparison of fine-tuning, on a few texts with a tiny BERT as the teacher."""
    dataset = _texts(tmp_path / "data")
    monkeypatch.setattr(preparation, "load_dataset", lambda *_: dataset)
    config = load_config("text", "teacher=minilm,classifier=finetuned,method=kd,runlocal")
    config.teacher.archive = str(write_folder(tmp_path, layout()))
    config.teacher.max_tokens = 16
    config.training.update({"steps": 2, "batch_size": 4, "unlabelled_ratio": 0, "warmup_steps": 0})
    config.teacher_training.update({"steps": STEPS, "eval_every_steps": 2, "batch_size": 4, "learning_rate": LEARNING_RATE, "warmup_steps": 0})
    config.evaluation.update({"batch_size": 8, "bootstrap_resamples": 20})
    config.compare.seeds = (0,)
    return config


@pytest.fixture
def prepare(config, tmp_path, monkeypatch):
    """f(cache name, step to crash at) -> what the program prepares; `started` and `validated` tell of the training of the teacher."""
    train, validate = student.train, student.validate
    run: dict = {"started": [], "validated": [], "crash": 0}

    def train_from(step_function, validate, state, *others, **named):
        run["started"].append(jax.tree.map(np.array, state.params["student"]))
        train(step_function, validate, state, *others, **named)

    def validate_or_crash(assembly, state, *others):
        run["validated"].append(int(state.step))
        if state.step == run["crash"]:
            raise InterruptedError
        return validate(assembly, state, *others)

    monkeypatch.setattr(student, "train", train_from)
    monkeypatch.setattr(student, "validate", validate_or_crash)

    def prepared(cache, crash=0):
        run["crash"] = crash
        return preparation.prepare(config, tmp_path / cache)

    prepared.run = run
    return prepared


def _kept(folder):
    (path,) = folder.glob("classifiers/*/student")
    return load_student(path)[0]


@pytest.mark.slow
def test_fine_tuning_starts_from_the_archive_goes_on_exactly_and_its_logits_are_stored(prepare, tmp_path):
    prepared = prepare("whole")
    (started,) = prepare.run["started"]
    sizes = parse_config(stored_config())
    archived = {name: part for name, part in convert(stored_tensors(), sizes).items() if name != "pooler"}
    jax.tree.map(np.testing.assert_array_equal, started["encoder"], archived)
    variables = _kept(tmp_path / "whole")
    moved = jax.tree.map(lambda after, before: float(np.abs(after - before).max()), variables["params"]["encoder"], archived)
    assert all(0 < distance < 2 * STEPS * LEARNING_RATE for distance in jax.tree.leaves(moved)), moved

    ids = prepared.dataset.splits["test"]
    tokens = pad_tokens(TextTokenizer(tokenizer_bytes(), vocabulary=100).encode(list(prepared.dataset.gather(ids)), 16), 16)
    logits = SentenceClassifier(sizes, 2).apply(variables, tokens, train=False).logits
    hidden, head = prepared.store.gather(ids)[:, 0], variables["params"]["head"]
    np.testing.assert_allclose(hidden @ head["kernel"] + head["bias"], logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(prepared.teacher_logits().gather(ids), logits, rtol=1e-5, atol=1e-6)

    with pytest.raises(InterruptedError):
        prepare("killed", crash=4)
    prepare("killed")
    assert prepare.run["validated"] == [2, 4, 6, 2, 4, 4, 6]
    jax.tree.map(np.testing.assert_array_equal, _kept(tmp_path / "killed"), variables)


@pytest.mark.slow
def test_the_fine_tuned_encoder_stands_with_its_cost_beside_students_of_it_and_of_the_frozen_one(config, tmp_path):
    config.compare.methods = ("teacher", "east")  # the variant is compressed, from the frozen encoder
    report = pipeline.compare(config, tmp_path / "compare", tmp_path / "cache")
    kinds = {row["method"]: row["kind"] for row in report["rows"]}
    assert kinds == {"teacher": "reference", "east": "student", "compressed_frozen": "student"}
    (network,) = (tmp_path / "cache" / "classifiers").iterdir()
    costs = {row["method"]: row["teacher"] for row in report["cost"]}
    assert costs["teacher"] == costs["east"] and costs["compressed_frozen"] is None
    assert costs["teacher"]["seconds"] > 0 and costs["teacher"]["peak_memory_bytes"] > 0
    assert costs["teacher"]["trained_parameters"] == sum(value.size for value in jax.tree.leaves(load_student(network / "student")[0]["params"]))
    stores = {name: read_json(tmp_path / "compare" / "runs" / f"{name}-seed0" / "inputs.json") for name in kinds}
    assert stores["east"] == stores["teacher"] != stores["compressed_frozen"]


@pytest.mark.parametrize(
    ("pretrained", "message"),
    [
        ({"encoder": {"word": np.zeros((5, 3))}}, r"encoder/norm/scale is absent, but in the network it has the shape \(3,\)"),
        (
            {"encoder": {"word": np.zeros((5, 4)), "norm": {"scale": np.zeros(3)}}},
            r"encoder/word has the shape \(5, 4\), but in the network it has the shape \(5, 3\)",
        ),
        ({"pooler": {"bias": np.zeros(3)}}, r"pooler/bias has the shape \(3,\), but in the network it is absent: take weights and sizes of one model"),
    ],
)
def test_pretrained_parameters_that_do_not_fit(pretrained, message):
    with pytest.raises(ConfigError, match=message):
        with_pretrained({"encoder": {"word": np.zeros((5, 3)), "norm": {"scale": np.zeros(3)}}, "head": {"bias": np.zeros(2)}}, pretrained)
