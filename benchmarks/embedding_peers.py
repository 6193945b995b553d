"""The reference implementations of `benchmarks.embedding`, in the environment of benchmarks/requirements-peers.txt.

`tensorflow` (with librosa) runs the released graphs of the musicnn family, `aisfx` that package (Essentia, torch), `transformers` (torch) MiniLM, `wordllama`
that package.

    PYTHON benchmarks/embedding_peers.py tensorflow|aisfx|transformers|wordllama FOLDER

Answers each line on standard input, the name of a teacher, with one JSON line: {"wall_s": seconds}. The embedding is kept at FOLDER/PEER-TEACHER.npy.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PATCH, BANDS, BATCH = 187, 96, 32
OUTPUTS = {"musicnn": ("model/Max", "model/moments/Squeeze"), "vgg": ("model/Flatten/flatten/Reshape",)}


def tensorflow(folder: Path, name: str) -> Callable[[], np.ndarray]:
    """A released graph: librosa's mel power, rounded to float16 as the package does; the default embedding, of musicnn both pools interleaved."""
    import librosa
    import tensorflow as tf

    v1, weights = tf.compat.v1, folder / "musicnn" / "musicnn" / name
    meta = v1.MetaGraphDef()
    meta.ParseFromString((weights / ".meta").read_bytes())
    for node in meta.graph_def.node:
        node.attr.pop("_output_shapes", None)
    outputs = OUTPUTS[name.partition("_")[2]]
    wanted = [*outputs, meta.saver_def.restore_op_name, "model/Placeholder", "model/Placeholder_1", "model/Placeholder_2"]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(v1.graph_util.extract_sub_graph(meta.graph_def, wanted), name="")
        session = v1.Session(graph=graph)
        session.run(meta.saver_def.restore_op_name, {meta.saver_def.filename_tensor_name: f"{weights}/"})
        placeholders = [operation.outputs[0] for operation in graph.get_operations() if operation.type == "Placeholder"]
    (inputs,) = [tensor for tensor in placeholders if tensor.dtype == tf.float32 and tensor.shape.rank == 3]
    (training,) = [tensor for tensor in placeholders if tensor.dtype == tf.bool]
    clips = np.load(folder / f"{name}.npy")

    def patches(clip: np.ndarray) -> np.ndarray:
        audio = clip.astype(np.float32) / 32768
        power = librosa.feature.melspectrogram(y=audio, sr=16_000, n_fft=512, hop_length=256, n_mels=BANDS, pad_mode="reflect").T.astype(np.float16)
        whole = power[: len(power) // PATCH * PATCH].astype(np.float32)
        return np.log10(10_000 * whole + 1).reshape(-1, PATCH, BANDS)

    def embed() -> np.ndarray:
        log_mel = np.concatenate([patches(clip) for clip in clips])
        pooled = []
        for start in range(0, len(log_mel), BATCH):
            values = session.run([f"{output}:0" for output in outputs], {inputs: log_mel[start : start + BATCH], training: False})
            pooled.append(np.stack([value.reshape(len(value), -1) for value in values], axis=-1).reshape(len(values[0]), -1))
        return np.concatenate(pooled).reshape(len(clips), -1)

    return embed


def aisfx(folder: Path, name: str) -> Callable[[], np.ndarray]:
    """The package from its wheel, clip by clip as its `main` has it, from files that are written before."""
    import soundfile
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    sys.path.insert(0, str(folder / "aisfx"))
    from aisfx import inference
    from aisfx.spectrogram.spectrogram_essentia import compute_spectrogram

    # the package's own loader, which the torch of its time let read the numpy numbers in this file
    weights, heads = torch.load(inference.get_path_modelWeights(), map_location="cpu", weights_only=False)
    model, rate = inference.load_bestModel(weights, heads, "cpu"), inference.SAMPLE_RATE
    files = []
    for number, clip in enumerate(np.load(folder / f"{name}.npy")):
        files.append(str(folder / f"{number}.wav"))
        soundfile.write(files[-1], clip, int(rate))
    sizes = {"block_size": inference.SPEC_BLOCK_LENGTH, "hop_size": inference.SPEC_HOP_LENGTH, "n_mels": inference.MEL_BINS}
    spectrogram = functools.partial(compute_spectrogram, sr=rate, f_min=inference.F_MIN, f_max=inference.F_MAX, **sizes)

    def embed() -> np.ndarray:
        normalised = (inference.spectrogram_normalize(spectrogram(file)) for file in files)
        return np.stack([inference.model_get_embedding(one, 0.5, True, model, "cpu").numpy().ravel() for one in normalised])

    return embed


def wordllama(folder: Path, name: str) -> Callable[[], np.ndarray]:
    """The package with its own table and tokenizer."""
    import wordllama as package

    model = package.WordLlama.load(cache_dir=Path(str(package.__file__)).parent, disable_download=True)
    sentences = json.loads((folder / f"{name}.json").read_text())
    return lambda: model.embed(sentences)


def transformers(folder: Path, name: str) -> Callable[[], np.ndarray]:
    """MiniLM as sentence-transformers runs it: sorted by length, batches of 32 padded to their longest, mean over tokens, scaled to length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(os.cpu_count() or 1)
    files = next((folder / name).rglob("tokenizer.json")).parent
    tokenizer, model = AutoTokenizer.from_pretrained(files), AutoModel.from_pretrained(files).eval()
    sentences = json.loads((folder / f"{name}.json").read_text())

    @torch.no_grad()
    def embed() -> np.ndarray:
        embedding, order = np.empty((len(sentences), 384), np.float32), np.argsort([-len(sentence) for sentence in sentences], kind="stable")
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = tokenizer([sentences[place] for place in places], padding=True, truncation=True, max_length=256, return_tensors="pt")
            kept = batch["attention_mask"][..., None].float()
            mean = (model(**batch).last_hidden_state * kept).sum(dim=1) / kept.sum(dim=1)
            embedding[places] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return embedding

    return embed


def main() -> None:
    """Answers on standard output."""
    peer, folder = sys.argv[1], Path(sys.argv[2])
    make = functools.cache({"tensorflow": tensorflow, "aisfx": aisfx, "transformers": transformers, "wordllama": wordllama}[peer])
    for line in sys.stdin:
        embed = make(folder, line.strip())
        started = time.perf_counter()
        embedding = embed()
        seconds = time.perf_counter() - started
        np.save(folder / f"{peer}-{line.strip()}.npy", embedding)
        print(json.dumps({"wall_s": seconds}), flush=True)


if __name__ == "__main__":
    main()
