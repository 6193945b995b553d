"""Released data sets through the whole program: OpenMIC-2018 from a miniature folder of its layout, and audio with one class a clip through TFDS."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxkd.results.artefact import load_predictor
from tests.data.released import rendered, write_openmic
from tests.mel_teacher import MelTeacher

ROOT = Path(__file__).parent.parent
SHORT = (
    "--config.data.sample_rate=16000 --config.data.clip_seconds=3.0 --config.frontend.fmax=8000.0 --config.frontend.fmax_jitter=0 "
    "--config.training.steps=4 --config.training.warmup_steps=1 --config.training.eval_every_steps=2 --config.training.batch_size=8 "
    "--config.training.unlabelled_ratio=0 --config.distance.group_size=8 --config.evaluation.batch_size=32 --config.evaluation.bootstrap_resamples=20"
).split()


def run(config: str, folder: Path, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-W", "error", "-W", "ignore:the load_module() method:DeprecationWarning", "-m", "jaxkd.main", f"--config={config}"]
    command += [f"--workdir={folder / 'run'}", f"--cache_dir={folder / 'cache'}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def openmic(folder: Path, dataset) -> tuple[list[str], list[str]]:
    """A miniature OpenMIC-2018 with embeddings of its clips: the keys of the clips, and the arguments that name the two folders."""
    released, stored = folder / "openmic-2018", folder / "embeddings"
    keys = write_openmic(released, dataset)
    stored.mkdir()
    for key, embedding in zip(keys, MelTeacher().embed(rendered(dataset, len(keys))[0]), strict=True):
        np.save(stored / f"{key}.npy", embedding)
    return keys, [f"--config.data.folder={released}", f"--config.teacher.archive={stored}"]


@pytest.mark.slow
def test_openmic_from_its_released_folder_to_the_report(tiny_dataset, tmp_path):
    keys, folders = openmic(tmp_path, tiny_dataset)
    out = run("configs/openmic.py:teacher=passt,student=cp_resnet_tiny,method=compressed", tmp_path, *folders, *SHORT)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["clips"] == {"valid": 7, "test": 12} and len(report["classes"]) == 20
    assert {"map", "f1_macro"} <= report["results"]["test"].keys() == report["teacher"]["probe"]["test"].keys()
    assert "train 25, valid 7, test 12: not the usual split" in out
    with np.load(tmp_path / "run" / "predictions" / "test.npz") as kept:
        assert kept["ids"].tolist() == keys[32:] and 0.1 < kept["label_mask"].mean() < 0.9
        scores = kept["scores"]
    (dataset,) = (tmp_path / "cache" / "datasets").iterdir()
    np.testing.assert_allclose(load_predictor(tmp_path / "run" / "student")(np.load(dataset / "test.inputs.npy")), scores, atol=1e-5)


@pytest.mark.slow
def test_kd_on_openmic_is_taught_by_the_probe_of_the_reference_row(tiny_dataset, tmp_path):
    _, folders = openmic(tmp_path, tiny_dataset)
    rows = ("--mode=compare", "--config.compare.methods=('probe', 'kd')", "--config.compare.seeds=(1223,)")
    run("configs/openmic.py:teacher=passt,student=cp_resnet_tiny,method=kd", tmp_path, *folders, *SHORT, *rows)
    runs = tmp_path / "run" / "runs"
    report = json.loads((runs / "kd-seed1223" / "report.json").read_text())
    teacher = report["teacher"]
    assert (teacher["name"], teacher["reference"]) == ("precomputed (probe)", "teacher")
    assert teacher["training"]["trained_parameters"] == (MelTeacher.dim + 1) * 20 and teacher["training"]["seconds"] > 0
    assert 0 <= report["results"]["test"]["agreement"] <= 1
    for split in ("valid", "test"):
        own, reference = runs / "kd-seed1223" / "predictions" / f"teacher_{split}.npz", runs / "probe-seed1223" / "predictions" / f"{split}.npz"
        with np.load(own) as kept, np.load(reference) as probe:
            assert kept["ids"].tolist() == probe["ids"].tolist()
            np.testing.assert_allclose(kept["scores"], probe["scores"], atol=1e-5)


class OwnFamilies(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Rendered clips with the family of one of their instruments, as the audio sets of TFDS have it."""

    VERSION = tfds.core.Version("1.0.0")
    families = (("piano", "harpsichord", "organ", "synth"), ("guitar", "bass", "violin", "cello", "harp"), ())

    def __init__(self, clips, instruments, **options):
        self.clips = clips
        self.labels = [next(place for place, family in enumerate(self.families) if names & set(family) or not family) for names in instruments]
        super().__init__(file_format="array_record", **options)

    def _info(self):
        label = tfds.features.ClassLabel(names=["keys", "strings", "others"])
        features = tfds.features.FeaturesDict({"audio": tfds.features.Tensor(shape=(None,), dtype=np.int64), "instrument": {"family": label}})
        return tfds.core.DatasetInfo(builder=self, features=features, metadata=tfds.core.MetadataDict(sample_rate=16_000))

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for row, (clip, label) in enumerate(zip(self.clips, self.labels, strict=True)):
            yield row, {"audio": clip.astype(np.int64), "instrument": {"family": label}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classifier", "teacher", "methods"),
    [
        ("linear", "tests.mel_teacher:build", ("probe", "compressed", "kd")),
        ("finetuned", "cp_resnet_tiny", ("teacher", "kd")),
    ],
)
def test_audio_with_one_class_a_clip_takes_every_method(classifier, teacher, methods, tiny_dataset, tmp_path):
    OwnFamilies(*rendered(tiny_dataset, 56), data_dir=tmp_path / "tfds").download_and_prepare()
    sizes = {"labelled": 0, "unlabelled": 0, "valid": 12, "test": 14, "unseen": 0}
    arguments = [
        *("--config.data.source=tfds", "--config.data.tfds_name=own_families", f"--config.data.tfds_data_dir={tmp_path / 'tfds'}"),
        *("--config.data.text_column=audio", "--config.data.label_column=instrument/family", "--config.training.mixup_alpha=0.0"),
        *(f"--config.data.{field}={value}" for field, value in sizes.items()),
        *SHORT,
        *(f"--config.teacher.name={teacher}", "--config.teacher.embedding=", f"--config.teacher.classifier={classifier}", "--config.lelp.subclasses=2"),
        *("--config.teacher_training.steps=20", "--config.teacher_training.warmup_steps=2", "--config.teacher_training.batch_size=16"),
        *("--mode=compare", f"--config.compare.methods={methods!r}", "--config.compare.seeds=(0,)"),
    ]
    run("configs/audio.py:student=cp_resnet_tiny", tmp_path, *arguments)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["task"], report["modality"], report["classes"]) == ("multiclass", "audio", ["keys", "strings", "others"])
    assert {row["method"] for row in report["rows"] if row["metric"] == "accuracy"} == set(methods)
    predictions = tmp_path / "run" / "runs" / "kd-seed0" / "predictions"
    with np.load(predictions / "test.npz") as kept:
        np.testing.assert_allclose(kept["scores"].sum(axis=1), 1.0, atol=1e-5)
        np.testing.assert_array_equal(kept["labels"].sum(axis=1), 1)
    if classifier == "finetuned":  # its stored embeddings and last layer give what the whole network gives
        (dataset,) = (tmp_path / "cache" / "datasets").iterdir()
        (network,) = (tmp_path / "cache" / "classifiers").iterdir()
        with np.load(predictions / "teacher_test.npz") as kept:
            np.testing.assert_allclose(load_predictor(network / "student")(np.load(dataset / "test.inputs.npy")), kept["scores"], atol=1e-4)
