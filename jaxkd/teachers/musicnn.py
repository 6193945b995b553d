"""The four music taggers of the musicnn package (arXiv 1909.06654) as teachers, from the released checkpoints.

Differs from the release's Python code in two points. There, 10000 x + 1 and its logarithm are computed in float16, which overflows for a mel power above
6.5 and makes all outputs NaN; here the mel power is rounded to float16 and the rest is float32. And there, MSD_vgg gets the poolings of MTT_vgg, which are
not those that it was trained with; here it gets its own (see `jaxkd.models.musicnn`).
"""

import ast
import functools
import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import frontend
from jaxkd.errors import ArtefactError, DataError
from jaxkd.models import musicnn as networks
from jaxkd.models.frozen import computed_in, with_kernels
from jaxkd.models.macs import count_macs
from jaxkd.teachers.tf_checkpoint import read_checkpoint

SETTINGS = frontend.MUSICNN
MAX_CLIPS = 16
PREPROCESSING = {
    "kind": SETTINGS.kind,
    "sample_rate": SETTINGS.sample_rate,
    "n_fft": SETTINGS.n_fft,
    "window": SETTINGS.window,
    "hop": SETTINGS.hop,
    "bands": SETTINGS.bands,
    "fmin": SETTINGS.fmin,
    "fmax": SETTINGS.fmax,
    "padding": "reflect",
    "rounding": "float16",
    "compression": "log10(10000 x + 1)",
    "patch_frames": networks.PATCH_FRAMES,
    "patch_hop": networks.PATCH_FRAMES,
}
TAG_CONSTANTS = {"MTT": "MTT_LABELS", "MSD": "MSD_LABELS"}
NETWORKS = {
    "MTT_musicnn": networks.musicnn,
    "MSD_musicnn": networks.musicnn,
    "MTT_vgg": functools.partial(networks.vgg, pools=networks.MTT_VGG_POOLS),
    "MSD_vgg": functools.partial(networks.vgg, pools=networks.MSD_VGG_POOLS),
}
VARIABLES = {"kernel": "kernel", "bias": "bias", "gamma": "gamma", "beta": "beta", "mean": "moving_mean", "variance": "moving_variance"}

# Block of our parameters -> (TensorFlow layer with kernel and bias or "", TensorFlow batch normalisation or "").
MUSICNN_BLOCKS = {
    "input_norm": ("", "batch_normalization"),
    "timbral_38": ("conv2d", "batch_normalization_1"),
    "timbral_67": ("conv2d_1", "batch_normalization_2"),
    "temporal_128": ("conv2d_2", "batch_normalization_3"),
    "temporal_64": ("conv2d_3", "batch_normalization_4"),
    "temporal_32": ("conv2d_4", "batch_normalization_5"),
    "middle_1": ("conv2d_5", "batch_normalization_6"),
    "middle_2": ("conv2d_6", "batch_normalization_7"),
    "middle_3": ("conv2d_7", "batch_normalization_8"),
    "pool_norm": ("", "batch_normalization_9"),
    "penultimate": ("dense", "batch_normalization_10"),
    "output": ("dense_1", ""),
}
VGG_BLOCKS = {
    "input_norm": ("", "batch_normalization"),
    **{f"conv_{i}": (f"{i}CNN", f"batch_normalization_{i}") for i in range(1, 6)},
    "output": ("dense", ""),
}


def _read_archive(archive: Path, members: list[str]) -> list[bytes]:
    try:
        with zipfile.ZipFile(archive) as wheel:
            return [wheel.read(member) for member in members]
    except FileNotFoundError:
        raise ArtefactError(f"the archive of the musicnn teacher, {archive}, is missing.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ArtefactError(f"{archive} is truncated, altered or not the wheel musicnn 0.1.0 ({error}): remove it and fetch it again.") from error


def _tags(configuration: bytes, constant: str) -> tuple[str, ...]:
    """The list of tag names that the package assigns to `constant`, read as a literal."""
    for statement in ast.parse(configuration).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == constant:
            return tuple(ast.literal_eval(statement.value))
    raise ArtefactError(f"the musicnn archive has no {constant}: it is not the wheel musicnn 0.1.0.")


def load_params(name: str, archive: Path) -> dict[str, dict[str, np.ndarray]]:
    """The weights of one network, named as `jaxkd.models.musicnn` wants them; float32.

    Raises:
      ArtefactError: the archive is missing, truncated, altered, or lacks a variable.
    """
    index, data = _read_archive(archive, [f"musicnn/{name}/.index", f"musicnn/{name}/.data-00000-of-00001"])
    tensors = read_checkpoint(index, data, name=name)
    params: dict[str, dict[str, np.ndarray]] = {}
    for block, (layer, norm) in (VGG_BLOCKS if name.endswith("vgg") else MUSICNN_BLOCKS).items():
        wanted = {ours: f"{layer if ours in ('kernel', 'bias') else norm}/{theirs}" for ours, theirs in VARIABLES.items()}
        try:
            params[block] = {ours: tensors[variable] for ours, variable in wanted.items() if not variable.startswith("/")}
        except KeyError as error:
            raise ArtefactError(f"checkpoint {name} in {archive} has no variable {error}: it is not the wheel musicnn 0.1.0.") from error
    return params


def weight_hash(params: dict[str, dict[str, np.ndarray]]) -> str:
    """Hex sha256 of the weights, by block and variable."""
    digest = hashlib.sha256()
    for block in sorted(params):
        for variable in sorted(params[block]):
            values = params[block][variable]
            digest.update(f"{block}/{variable}{values.shape}".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def count_patches(samples: int) -> int:
    """Number of whole patches T in a clip of `samples` samples at 16 kHz.

    Raises:
      DataError: the clip is shorter than one patch.
    """
    shortest = (networks.PATCH_FRAMES - 1) * SETTINGS.hop
    if samples < shortest:
        raise DataError(
            f"a clip of {samples / SETTINGS.sample_rate:.3f} s is shorter than one patch of the musicnn teachers: "
            f"they need at least {shortest / SETTINGS.sample_rate:.3f} s ({shortest} samples at {SETTINGS.sample_rate} Hz)."
        )
    return SETTINGS.frames(samples) // networks.PATCH_FRAMES


def audio_patches(audio: Any) -> jax.Array:
    """Consecutive log-mel patches of clips: int16 [B, samples] at 16 kHz -> float32 [B, T, 187, 96]; frames behind the last whole patch are left out.

    Raises:
      DataError: the clips are shorter than one patch.
    """
    count = count_patches(audio.shape[1])
    power = frontend.mel_power(frontend.pcm_to_float(audio), SETTINGS).astype(jnp.float16)
    log_mel = frontend.slaney_log(power)[:, : count * networks.PATCH_FRAMES]
    return log_mel.reshape(audio.shape[0], count, networks.PATCH_FRAMES, SETTINGS.bands)


class MusicnnTeacher:
    """One network with the choice of one embedding; see `jaxkd.teachers.Teacher`. A frame T is one patch of 187 spectrogram frames (2.992 s).

    `max_mean_pool` interleaves the two pools per channel (max, mean, max, ...), as the network's own dense layer sees them.
    """

    sample_rate = SETTINGS.sample_rate
    hop_seconds = networks.PATCH_FRAMES * SETTINGS.hop / SETTINGS.sample_rate

    def __init__(self, name: str, embedding: str, params: dict[str, dict[str, np.ndarray]], tags: tuple[str, ...], *, compute_dtype: str = "float32") -> None:
        self.name = name
        self.embedding = embedding
        self.tags = tags
        self.preprocessing = PREPROCESSING | computed_in(compute_dtype)
        self.weight_hash = weight_hash(params)
        self.parameters = sum(values.size for block in params.values() for variable, values in block.items() if variable not in ("mean", "variance"))
        self._params = with_kernels(params, compute_dtype)
        self._network = NETWORKS[name]
        self._forward = jax.jit(self._outputs, static_argnums=2)
        one_patch = jax.ShapeDtypeStruct((1, networks.PATCH_FRAMES, SETTINGS.bands), jnp.float32)
        self._macs_per_patch = count_macs(self._network, params, one_patch)
        outputs = jax.eval_shape(self._network, params, one_patch)
        self.dim = jax.eval_shape(lambda outputs: networks.pick_embedding(outputs, embedding), outputs).shape[-1]

    def _outputs(self, params: networks.Params, audio: jax.Array, embedding: str) -> jax.Array:
        patches = audio_patches(audio)
        picked = networks.pick_embedding(self._network(params, patches.reshape(-1, *patches.shape[2:])), embedding)
        return picked.reshape(*patches.shape[:2], -1)

    def _run(self, audio: np.ndarray, embedding: str) -> np.ndarray:
        """Runs in groups of at most 16 clips, padded to a power of two, so that few shapes are ever compiled."""
        count_patches(audio.shape[1])
        results = []
        for start in range(0, len(audio), MAX_CLIPS):
            group = audio[start : start + MAX_CLIPS]
            size = 1 << (len(group) - 1).bit_length()
            padded = np.pad(group, ((0, size - len(group)), (0, 0)))
            results.append(np.asarray(self._forward(self._params, padded, embedding))[: len(group)])
        return np.concatenate(results)

    def frames(self, samples: int) -> int:
        """Number of patches T; raises DataError for a clip shorter than one patch."""
        return count_patches(samples)

    def macs_of(self, audio: np.ndarray) -> int:
        """Multiply-accumulates of the network for one clip of int16 [B, samples]."""
        return self.macs_per_example(audio.shape[1])

    def macs_per_example(self, samples: int) -> int:
        """Multiply-accumulates of the network (front end not counted) for a clip; raises DataError for a clip shorter than one patch."""
        return self._macs_per_patch * count_patches(samples)

    def embed(self, audio: np.ndarray) -> np.ndarray:
        """int16 [B, samples] at 16 kHz -> float32 [B, T, D]; raises DataError for clips shorter than one patch."""
        return self._run(audio, self.embedding)

    def logits(self, audio: np.ndarray) -> np.ndarray:
        """int16 [B, samples] at 16 kHz -> logits of the 50 `tags`, float32 [B, T, 50]; raises DataError for clips shorter than one patch."""
        return self._run(audio, "logits")


def build(name: str, *, embedding: str, archive: Path, compute_dtype: str = "float32") -> MusicnnTeacher:
    """Loads one of MTT_musicnn, MSD_musicnn, MTT_vgg, MSD_vgg from the wheel musicnn 0.1.0 (read as a zip, never installed).

    With `compute_dtype` "bfloat16" the operands of its products are rounded to it, their sums and all else are float32.

    Raises:
      ArtefactError: the archive is missing, truncated, altered or another package.
    """
    (configuration,) = _read_archive(archive, ["musicnn/configuration.py"])
    tags = _tags(configuration, TAG_CONSTANTS[name.partition("_")[0]])
    return MusicnnTeacher(name, embedding, load_params(name, archive), tags, compute_dtype=compute_dtype)
