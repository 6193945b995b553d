"""Modules of the HEAR interface as teachers: what they are given, what is made of their answers, and what is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxkd import teachers
from jaxkd.embeddings import embed_dataset
from jaxkd.errors import ArtefactError, ConfigError, DataError
from jaxkd.teachers.resampling import Clips, resampled

sys.path.insert(0, str(Path(__file__).parent))
import hear_modules

RATE, SAMPLES = 22_050, 44_100
IMPORTED_MEL = "import numpy as np\nfrom small_hear.mel import *\nfrom small_hear import mel\nfrom small_hear.mel import Model\n"
WITH_GRID = f"""{IMPORTED_MEL}

def get_timestamp_embeddings(audio, model):
    embeddings, timestamps = mel.get_timestamp_embeddings(audio, model)
    return embeddings, {{}}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes the package with further modules, imports of which are forgotten afterwards."""

    def write(**modules):
        monkeypatch.syspath_prepend(hear_modules.write(tmp_path / "site", **modules))

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in ("small_hear", "torch", "tensorflow")]:
        del sys.modules[name]


def build(module="mel", embedding="", archive=Path(), clips=None):
    return teachers.build(f"hear:small_hear.{module}", embedding=embedding, archive=archive, clips=clips or Clips(RATE, SAMPLES))


def some_clips(count=5, samples=SAMPLES, seed=0):
    generator = np.random.default_rng(seed)
    pitch = 2 * np.pi * generator.uniform(100, 2000, (count, 1)) * np.arange(samples) / RATE
    return np.round(8000 * np.sin(pitch) + 500 * generator.standard_normal((count, samples))).astype(np.int16)


class Dataset:
    sample_rate = RATE
    fingerprint = "five clips"

    def __init__(self, audio):
        self.audio = audio
        self.splits = {"train": ["a", "b", "c"], "test": ["d", "e"]}

    def gather(self, ids):
        return self.audio[["abcde".index(name) for name in ids]]


def test_a_module_passes_through_the_embed_stage(package, tmp_path):
    package()
    dataset, teacher = Dataset(some_clips()), build(embedding="timestamp")
    assert (teacher.dim, teacher.hop_seconds, teacher.sample_rate, teacher.parameters, teacher.macs_of(dataset.audio)) == (24, 0.25, RATE, None, None)
    store = embed_dataset(teacher, dataset, tmp_path / "store", dtype="float32", batch_size=2)
    from small_hear import mel

    expected, timestamps = mel.get_timestamp_embeddings(dataset.audio.astype(np.float32) / 32768, mel.load_model())
    assert store.frames == timestamps.shape[1] == 9
    np.testing.assert_allclose(store.gather(list("abcde")), expected, rtol=1e-5, atol=1e-5)
    assert embed_dataset(build(embedding="timestamp"), dataset, tmp_path / "store", dtype="float32").identity == store.identity
    scenes = embed_dataset(build(), dataset, tmp_path / "scenes", dtype="float32")
    assert (scenes.frames, scenes.dim, scenes.identity["hop_seconds"]) == (1, 48, 0.0)
    np.testing.assert_allclose(scenes.gather(["d"])[0, 0, :24], expected[3].mean(axis=0), rtol=1e-4, atol=1e-4)


def test_other_weights_or_another_module_are_another_store(package, tmp_path):
    package()
    np.save(tmp_path / "weights.npy", np.full(24, 2, np.float32))
    dataset, own, given = Dataset(some_clips()), build(), build(archive=tmp_path / "weights.npy")
    embed_dataset(own, dataset, tmp_path / "store")
    with pytest.raises(ArtefactError, match="weight_hash is"):
        embed_dataset(given, dataset, tmp_path / "store")
    np.testing.assert_allclose(given.embed(dataset.audio), 2 * own.embed(dataset.audio), rtol=1e-4)
    del sys.modules["small_hear.mel"]
    package(mel=hear_modules.MEL.replace("1e-4", "1e-3"))
    changed = build()
    assert changed.weight_hash != own.weight_hash
    assert changed.preprocessing["module"] != own.preprocessing["module"]
    with pytest.raises(ConfigError, match="no such file or folder of weights"):
        build(archive=tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("load", "gain"),
    [
        ("load_model(model_file_path: str):\n    return Model(model_file_path)", 1),
        ("load_model(model_file_path, device=None):\n    return Model(model_file_path)", 1),
        ("load_model(*args, **kwargs):\n    return Model(*args or [''])", 1),
        ("load_model(model_path='WEIGHTS'):\n    return Model(model_path)", 3),
    ],
)
def test_without_an_archive_a_module_loads_its_own_weights(package, tmp_path, load, gain):
    """By the default of `load_model`; the published wrappers of OpenL3 and YAMNet have none, and take any string."""
    np.save(tmp_path / "weights.npy", np.full(24, 3, np.float32))
    package(own=f"{IMPORTED_MEL}\n\ndef {load}\n".replace("WEIGHTS", str(tmp_path / "weights.npy")))
    clips = some_clips(2)
    np.testing.assert_allclose(build("own").embed(clips), gain * build("mel").embed(clips), rtol=1e-5)


def test_weights_that_a_module_cannot_load_are_refused_with_what_to_set(package, tmp_path):
    """The published wrapper of PANNs has no weights of its own."""
    package(reads=f"{IMPORTED_MEL}\n\ndef load_model(model_file_path, device=None):\n    np.load(model_file_path)\n    return Model(model_file_path)\n")
    own = r"the module of teacher 'hear:small_hear\.reads' could not load weights of its own \(FileNotFoundError: .*set --config\.teacher\.archive to a file of"
    with pytest.raises(ConfigError, match=own):
        build("reads")
    (tmp_path / "weights.npy").write_bytes(b"no array")
    with pytest.raises(ConfigError, match=r"could not load the weights config\.teacher\.archive=.*weights\.npy \(\w+: .*to weights that it takes"):
        build("reads", archive=tmp_path / "weights.npy")


def test_a_module_that_takes_no_notice_of_the_archive_is_known_by_its_own_weights(package, tmp_path):
    """As the published wrapper of PaSST does."""
    np.save(tmp_path / "weights.npy", np.full(24, 2, np.float32))
    package(deaf=f"{IMPORTED_MEL}\n\ndef load_model(model_path=''):\n    return mel.Model('')\n")
    deaf = build("deaf", archive=tmp_path / "weights.npy")
    heard = build("mel", archive=tmp_path / "weights.npy")
    assert deaf.weight_hash != heard.weight_hash
    assert deaf.weight_hash != build("deaf").weight_hash
    assert build("mel", archive=tmp_path / "weights.npy").weight_hash == heard.weight_hash


def test_clips_of_another_rate_are_resampled(package):
    package()
    clips = some_clips(2, samples=32_000)
    teacher = build(clips=Clips(16_000, 32_000))
    assert teacher.sample_rate == 16_000
    assert teacher.preprocessing["resampled_from"] == 16_000
    by_hand = np.round(resampled(clips, 16_000, RATE) * 32768).astype(np.int16)
    np.testing.assert_allclose(teacher.embed(clips)[:, 0, :12], build(clips=Clips(RATE, by_hand.shape[1])).embed(by_hand)[:, 0, :12], atol=0.01)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("timestamps ** 2 / 2000", r"not uniform \(500\.0 ms off a grid of 250\.0 ms\): take its scenes"),
        ("timestamps[:, ::-1]", "not uniform"),
        ("timestamps / 1000", "reach from 0 to 2 in clips of 2000 ms: HEAR asks for milliseconds"),
        ("timestamps + 20 * np.arange(len(audio))[:, None]", "differs among clips"),
        (
            "timestamps[:, :-1]",
            r"timestamps \(2, 8\) of 2 clips; HEAR asks for \(2, 8, 24\), that is clips, frames, timestamp_embedding_size: .*embedding=scene",
        ),
        ("timestamps[0]", r"timestamps \(9,\) of 2 clips; HEAR asks for"),
    ],
)
def test_timestamps_that_are_no_grid_are_refused(package, grid, message):
    package(bad=WITH_GRID.format(grid))
    with pytest.raises(DataError, match=message):
        build("bad", "timestamp")


def test_a_grid_that_differs_in_a_later_batch_is_refused(package):
    package(bad=WITH_GRID.format("timestamps + 5 * (len(audio) == 3)"))
    teacher = build("bad", "timestamp")
    teacher.embed(some_clips(2))
    with pytest.raises(DataError, match="differs among clips"):
        teacher.embed(some_clips(3))


def test_shapes_that_the_interface_does_not_promise_are_refused(package):
    package(bad=f"{IMPORTED_MEL}\n\ndef get_scene_embeddings(audio, model):\n    return mel.get_timestamp_embeddings(audio, model)[0]\n")
    with pytest.raises(
        DataError, match=r"\(2, 9, 24\) of 2 clips; HEAR asks for \(2, 48\), that is clips, scene_embedding_size: correct the module, or set .*=timestamp"
    ):
        build("bad")


def test_a_module_without_the_functions_or_that_cannot_be_imported_is_refused(package):
    package(empty="def load_model(path=''):\n    return None\n")
    with pytest.raises(
        ConfigError, match="has no get_scene_embeddings, get_timestamp_embeddings, but the HEAR interface asks for load_model, get_scene_embeddings"
    ):
        build("empty")
    package(broken="import no_such_framework\n", mismatched="raise OSError('libc10_cuda.so: cannot open shared object file')\n")
    with pytest.raises(ConfigError, match=r"could not be imported \(ModuleNotFoundError: No module named 'no_such_framework'\): install what it lacks"):
        build("broken")
    with pytest.raises(ConfigError, match=r"could not be imported \(OSError: libc10_cuda.so.*in versions that fit"):
        build("mismatched")


TORCH = '''
"""As much of torch as a HEAR module on the processor touches, around numpy; what is checked is that it is called as torch wants it."""
import contextlib
import numpy as np

state = {"gradients": True}

class Tensor:
    def __init__(self, values, device, tracked): self.values, self.device, self.tracked = values, device, tracked
    def detach(self): return Tensor(self.values, self.device, False)
    def cpu(self): return Tensor(self.values, "cpu", self.tracked)
    def numpy(self):
        assert self.device == "cpu" and not self.tracked, "call detach().cpu() first"
        return self.values

def tensor(values, device=None): return Tensor(np.array(values), device or "cpu", False)

@contextlib.contextmanager
def no_grad():
    state["gradients"] = False
    yield
    state["gradients"] = True
'''
TORCH_NN = "class Module:\n    training = True\n    def eval(self):\n        self.training = False\n"
ON_TORCH = """
import torch, torch.nn
from small_hear import mel

class Weight:
    device = "accelerator"
    def numel(self): return 24

class Network(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 22_050, 48, 24
    def parameters(self): return iter([Weight()])

def load_model(model_file_path=""):
    return Network()

def get_scene_embeddings(audio, model):
    assert not model.training and not torch.state["gradients"]
    assert isinstance(audio, torch.Tensor) and audio.device == "accelerator"
    return torch.Tensor(mel.get_scene_embeddings(audio.values, mel.load_model()), audio.device, True)

def get_timestamp_embeddings(audio, model):
    embeddings, timestamps = mel.get_timestamp_embeddings(audio.values, mel.load_model())
    return torch.Tensor(embeddings, audio.device, True), torch.Tensor(timestamps, audio.device, False)
"""
# as the published wrapper of PANNs does
TO_NUMPY = ON_TORCH.replace(
    "torch.Tensor(mel.get_scene_embeddings(audio.values, mel.load_model()), audio.device, True)", "mel.get_scene_embeddings(audio.values, mel.load_model())"
)
TENSORFLOW = """
import numpy as np
class Tensor:
    def __init__(self, values): self.values = values
    def numpy(self): return self.values
def convert_to_tensor(values): return Tensor(values)
class Module: pass
"""
ON_TENSORFLOW = """
import numpy as np, tensorflow
from small_hear import mel

class Network(tensorflow.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 22_050, 48, 24
    trainable_variables = [np.zeros((4, 6)), np.zeros(6)]

def load_model(model_file_path=""):
    return Network()

def get_scene_embeddings(audio, model):
    return tensorflow.Tensor(mel.get_scene_embeddings(audio.numpy(), mel.load_model()))

def get_timestamp_embeddings(audio, model):
    return tuple(map(tensorflow.Tensor, mel.get_timestamp_embeddings(audio.numpy(), mel.load_model())))
"""


@pytest.mark.parametrize(("module", "parameters"), [("on_torch", 24), ("to_numpy", 24), ("on_tensorflow", 30)])
def test_tensors_are_those_of_the_class_of_the_model(package, tmp_path, module, parameters):
    package(on_torch=ON_TORCH, to_numpy=TO_NUMPY, on_tensorflow=ON_TENSORFLOW)
    site = tmp_path / "site"
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text(TORCH)
    (site / "torch" / "nn.py").write_text(TORCH_NN)
    (site / "tensorflow.py").write_text(TENSORFLOW)
    clips = some_clips(2)
    for embedding in ("scene", "timestamp"):
        teacher = build(module, embedding)
        assert teacher.parameters == parameters
        np.testing.assert_array_equal(teacher.embed(clips), build("mel", embedding).embed(clips))


def test_namespace_packages_are_looked_into_without_importing_them(tmp_path, monkeypatch):
    folder = tmp_path / "hear_outer" / "inner" / "deeper"
    folder.mkdir(parents=True)
    (folder / "mel.py").write_text(hear_modules.MEL)
    monkeypatch.syspath_prepend(tmp_path)
    assert teachers.check("hear:hear_outer.inner.deeper.mel", "timestamp") == "timestamp"
    for name in ("hear_outer.inner.deeper.mell", "hear_outer.iner.deeper.mel", "hear_outer.inner.deeper.mel.more"):
        with pytest.raises(ConfigError, match=rf"the module {name} of teacher .* is not installed"):
            teachers.check(f"hear:{name}")
    assert not any(name.startswith("hear_outer") for name in sys.modules)


def test_names_are_checked_without_importing_the_package(package, tmp_path):
    package()
    assert teachers.check("hear:small_hear.mel") == "scene"
    assert "small_hear" not in sys.modules
    for name, message in {
        "hear:small_hear.mell": "the module small_hear.mell of teacher 'hear:small_hear.mell' is not installed",
        "hear:small_hear.mel.deeper": "is not installed",
        "hear:no_such_package": "no_such_package of teacher .* is not installed",
        "hear:": "names no module: write hear:PACKAGE.MODULE",
        "hear:small_hear:mel": "names no module",
    }.items():
        with pytest.raises(ConfigError, match=message):
            teachers.check(name)
    with pytest.raises(ConfigError, match="Did you mean 'timestamp'"):
        teachers.check("hear:small_hear.mel", "timestamps")
    code = "import sys; from jaxkd import teachers; teachers.check('hear:small_hear.mel'); sys.exit(bool({'jax', 'scipy', 'small_hear'} & set(sys.modules)))"
    paths = f"{tmp_path / 'site'}:{Path(__file__).parents[2]}"
    assert subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": paths}).returncode == 0
