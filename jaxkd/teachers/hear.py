"""Any module that keeps the HEAR 2021 interface as a teacher: "hear:PACKAGE.MODULE", such as the published wrappers of PaSST, PANNs, OpenL3 and VGGish.

The module has `load_model(path)`, `get_scene_embeddings(audio, model)` and `get_timestamp_embeddings(audio, model)`; audio is float32 [clips, samples] in
[-1, 1]; the model has `sample_rate`, `scene_embedding_size` and `timestamp_embedding_size`; timestamps are in milliseconds.

Which tensors a module takes is told by the class of its model: the interface asks for a `torch.nn.Module` or a `tf.Module` (Keras models are such). A
model of neither gets and returns numpy arrays. No framework is imported here: the module has imported its own.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pickle
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.errors import ConfigError, DataError, unknown_name
from jaxkd.files import sha256_file, sha256_json
from jaxkd.teachers.resampling import Clips, resampled

PREFIX = "hear:"
EMBEDDINGS = ("scene", "timestamp")
FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
FRAMEWORKS = {"torch": "torch", "tensorflow": "tensorflow", "keras": "tensorflow"}
GRID_TOLERANCE_MS = 0.5
LOADING_ERRORS = (AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError)
"""What the code of others is known to raise where there are no weights, others than it takes, or libraries that do not fit each other."""


def check(name: str, embedding: str) -> str:
    """Checks, without importing the module, that it is installed, and the name of the embedding; returns that, "scene" for "".

    Raises:
      ConfigError: no such module, or an unknown embedding.
    """
    module = name.removeprefix(PREFIX)
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"teacher {name!r} names no module: write {PREFIX}PACKAGE.MODULE, for example {PREFIX}hear21passt.base.")
    # below the package itself by the path alone: importlib.util.find_spec would import the package
    spec = importlib.util.find_spec(parts[0])
    for part in parts[1:]:
        if spec is not None:
            # under its dotted name a namespace package would look for its parent among the imported modules
            spec = PathFinder.find_spec(part, list(spec.submodule_search_locations or []))
    if spec is None:
        raise ConfigError(f"the module {module} of teacher {name!r} is not installed: install its package into this environment, or correct the name.")
    if embedding and embedding not in EMBEDDINGS:
        raise unknown_name(f"embedding of teacher {name}", embedding, EMBEDDINGS)
    return embedding or EMBEDDINGS[0]


def _framework(model: Any) -> str:
    roots = (base.__module__.partition(".")[0] for base in type(model).__mro__)
    return next((FRAMEWORKS[root] for root in roots if root in FRAMEWORKS), "numpy")


def _module(name: str) -> Any:
    path = name.removeprefix(PREFIX)
    try:
        module = importlib.import_module(path)
    except LOADING_ERRORS as error:
        raise ConfigError(
            f"the module of teacher {name!r} could not be imported ({type(error).__name__}: {error}): install what it lacks, in versions that fit, into this "
            "environment."
        ) from error
    missing = [function for function in FUNCTIONS if not callable(getattr(module, function, None))]
    if missing:
        raise ConfigError(
            f"the module {path} of teacher {name!r} has no {', '.join(missing)}, but the HEAR interface asks for {', '.join(FUNCTIONS)}: name the module "
            "of its package that has them, or add them."
        )
    return module


def _load(name: str, module: Any, archive: Path) -> Any:
    """The model of a module; without an archive that of the default path of its `load_model`, or of "", the interface's string, where it has none."""
    path, parameters = "" if archive == Path() else str(archive), inspect.signature(module.load_model).parameters.values()
    required = any(parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty for parameter in parameters)
    try:
        return module.load_model(path) if path or required else module.load_model()
    except LOADING_ERRORS as error:
        what = f"the weights config.teacher.archive={path}" if path else "weights of its own"
        raise ConfigError(
            f"the module of teacher {name!r} could not load {what} ({type(error).__name__}: {error}): "
            f"set --config.teacher.archive to {'weights that it takes' if path else 'a file of its weights'}, or install what it lacks."
        ) from error


_distributions = functools.cache(importlib.metadata.packages_distributions)


def _version(module: Any) -> str:
    """Version of the distributions that the module's package belongs to, and checksum of the module's own file."""
    package = module.__name__.partition(".")[0]
    installed = sorted(set(_distributions().get(package, [])))
    versions = [f"{distribution} {importlib.metadata.version(distribution)}" for distribution in installed]
    return ", ".join([*versions, f"file {sha256_file(module.__file__)}"])


def check_weights(path: Path) -> None:
    """Raises ConfigError unless there is a file or folder of weights."""
    if not path.exists():
        raise ConfigError(f"config.teacher.archive is {path}, but there is no such file or folder of weights: name one, or '' for the module's own.")


def _hash_of_files(path: Path) -> str:
    check_weights(path)
    if path.is_file():
        return sha256_file(path)
    return sha256_json([[file.relative_to(path).as_posix(), sha256_file(file)] for file in sorted(path.rglob("*")) if file.is_file()])


def probe_signal(clips: Clips) -> np.ndarray:
    """A sweep with noise that is the same for all times: int16 [2, samples], its second row half as loud and reversed."""
    generator = np.random.Generator(np.random.Philox(2021))
    time = np.linspace(0, 1, clips.samples)
    sweep = 0.3 * np.sin(2 * np.pi * clips.samples * (0.002 * time + 0.05 * time**2)) + 0.05 * generator.standard_normal(clips.samples)
    return np.round(np.stack([sweep, sweep[::-1] / 2]) * 32767).astype(np.int16)


class HearTeacher:
    """A module of the HEAR interface with the choice of one embedding; see `jaxkd.teachers.Teacher`. A scene has one frame.

    Args:
      name: "hear:PACKAGE.MODULE".
      embedding: "scene" or "timestamp".
      archive: weights for `load_model`, a file or a folder; `Path()` for the module's own.
      clips: what it is to embed. Clips of another rate than the model's are resampled.

    Raises:
      ConfigError: the module cannot be imported, lacks a function or cannot load its weights; no such weights.
      DataError: shapes or timestamps are not what the interface promises.
    """

    tags: tuple[str, ...] = ()

    def __init__(self, name: str, embedding: str, archive: Path, clips: Clips) -> None:
        self.name, self.embedding, self.sample_rate = name, embedding, clips.sample_rate
        self._module = _module(name)
        weights = _hash_of_files(archive) if archive != Path() else ""
        self._model = _load(name, self._module, archive)
        self._framework = _framework(self._model)
        if self._framework == "torch":
            self._model.eval()
        self.native_rate = int(self._model.sample_rate)
        self.dim = int(getattr(self._model, f"{embedding}_embedding_size"))
        self.parameters = self._count_parameters()
        self._grid: np.ndarray | None = None
        probe, timestamps = self._run(probe_signal(clips))
        self._grid = None if timestamps is None else self._uniform(timestamps, 1000 * clips.samples / clips.sample_rate)
        self.hop_seconds = 0.0 if self._grid is None or len(self._grid) == 1 else float(self._grid[-1] - self._grid[0]) / (len(self._grid) - 1) / 1000
        self.preprocessing: dict[str, Any] = {"kind": "hear", "module": _version(self._module), **clips.preprocessing(self.native_rate)}
        # by what they make of a signal too: some modules take no notice of the path, and keep to weights of their own
        self.weight_hash = sha256_json([weights, hashlib.sha256(np.ascontiguousarray(probe).tobytes()).hexdigest()])

    def _count_parameters(self) -> int | None:
        if self._framework == "torch":
            return sum(parameter.numel() for parameter in self._model.parameters())
        return sum(int(np.prod(variable.shape)) for variable in self._model.trainable_variables) if self._framework == "tensorflow" else None

    def _tensor(self, audio: np.ndarray) -> Any:
        if self._framework == "torch":
            parameter = next(self._model.parameters(), None)
            return sys.modules["torch"].tensor(audio, device=None if parameter is None else parameter.device)
        return sys.modules["tensorflow"].convert_to_tensor(audio) if self._framework == "tensorflow" else audio

    def _array(self, tensor: Any) -> np.ndarray:
        if isinstance(tensor, np.ndarray):
            return np.asarray(tensor, np.float32)
        return np.asarray(tensor.detach().cpu().numpy() if self._framework == "torch" else tensor.numpy(), np.float32)

    def _run(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """int16 [B, samples] -> embeddings float32 [B, T, D], and timestamps float32 [B, T] or None for scenes."""
        tensor = self._tensor(resampled(audio, self.sample_rate, self.native_rate))
        with sys.modules["torch"].no_grad() if self._framework == "torch" else contextlib.nullcontext():
            if self.embedding == "scene":
                values, timestamps = self._array(self._module.get_scene_embeddings(tensor, self._model)), None
                wanted: tuple[int, ...] = (len(audio), self.dim)
            else:
                values, timestamps = map(self._array, self._module.get_timestamp_embeddings(tensor, self._model))
                wanted = (len(audio), timestamps.shape[-1] if timestamps.ndim else 0, self.dim)
        if values.shape != wanted or (timestamps is not None and timestamps.shape != wanted[:2]):
            of_time = "" if timestamps is None else f" and timestamps {timestamps.shape}"
            frames, other = ("", "timestamp") if timestamps is None else ("frames, ", "scene")
            raise DataError(
                f"the teacher {self.name} gives {self.embedding} embeddings {values.shape}{of_time} of {len(audio)} clips; HEAR asks for {wanted}, that is "
                f"clips, {frames}{self.embedding}_embedding_size: correct the module, or set --config.teacher.embedding={other}."
            )
        return values if timestamps is not None else values[:, None], timestamps

    def _uniform(self, timestamps: np.ndarray, clip_ms: float) -> np.ndarray:
        """The time grid float64 [T] that all rows of [B, T] milliseconds share, if it is uniform and covers clips of `clip_ms`."""
        grid, count = timestamps[0].astype(np.float64), timestamps.shape[1]
        self._require_grid(timestamps, grid)
        if count > 1:
            hop = (grid[-1] - grid[0]) / (count - 1)
            furthest = np.abs(grid - (grid[0] + hop * np.arange(count))).max()
            if hop <= 0 or furthest > GRID_TOLERANCE_MS + 0.01 * hop:
                raise DataError(f"the timestamps of teacher {self.name} are not uniform ({furthest:.1f} ms off a grid of {hop:.1f} ms): take its scenes.")
            if hop * (count - 1) > 1.5 * clip_ms or hop * count < 0.5 * clip_ms:
                raise DataError(
                    f"the timestamps of teacher {self.name} reach from {grid[0]:g} to {grid[-1]:g} in clips of {clip_ms:.0f} ms: HEAR asks for milliseconds. "
                    "Take its scene embeddings, or correct the module."
                )
        return grid

    def _require_grid(self, timestamps: np.ndarray, grid: np.ndarray) -> None:
        if timestamps.shape[1] != len(grid) or not np.all(np.abs(timestamps - grid) <= GRID_TOLERANCE_MS):
            raise DataError(f"the time grid of teacher {self.name} differs among clips of one length: take its scene embeddings, or correct the module.")

    def macs_of(self, audio: np.ndarray) -> None:
        """None: the multiply-accumulates of another framework's network are not counted."""

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """int16 [B, samples] -> float32 [B, T, D]; T = 1 for scenes.

        Raises:
          DataError: shapes that the interface does not promise, or another time grid than that of the other clips.
        """
        values, timestamps = self._run(audio)
        if timestamps is not None and self._grid is not None:
            self._require_grid(timestamps, self._grid)
        return values


def build(name: str, *, embedding: str, archive: Path, clips: Clips) -> HearTeacher:
    """Imports the module and loads its model; see `HearTeacher`."""
    return HearTeacher(name, embedding, archive, clips)
