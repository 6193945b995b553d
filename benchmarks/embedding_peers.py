"""The reference implementations of `benchmarks.embedding`: `tensorflow` (with librosa) runs the released graph of musicnn, `transformers` (torch) MiniLM.

    PYTHON benchmarks/embedding_peers.py tensorflow|transformers FOLDER

Answers each line on standard input, the name of a teacher, with one JSON line: {"wall_s": seconds}. The embedding is kept at FOLDER/PEER-TEACHER.npy.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PATCH, BANDS, BATCH = 187, 96, 32


def tensorflow(folder: Path) -> Callable[[], np.ndarray]:
    """MTT_musicnn in its released graph: librosa's mel power, rounded to float16 as the package does, both pools interleaved."""
    import librosa
    import tensorflow as tf

    v1, weights = tf.compat.v1, folder / "MTT_musicnn" / "musicnn" / "MTT_musicnn"
    meta = v1.MetaGraphDef()
    meta.ParseFromString((weights / ".meta").read_bytes())
    for node in meta.graph_def.node:
        node.attr.pop("_output_shapes", None)
    outputs = ["model/Max", "model/moments/Squeeze"]
    wanted = [*outputs, meta.saver_def.restore_op_name, "model/Placeholder", "model/Placeholder_1", "model/Placeholder_2"]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(v1.graph_util.extract_sub_graph(meta.graph_def, wanted), name="")
        session = v1.Session(graph=graph)
        session.run(meta.saver_def.restore_op_name, {meta.saver_def.filename_tensor_name: f"{weights}/"})
        placeholders = [operation.outputs[0] for operation in graph.get_operations() if operation.type == "Placeholder"]
    (inputs,) = [tensor for tensor in placeholders if tensor.dtype == tf.float32 and tensor.shape.rank == 3]
    (training,) = [tensor for tensor in placeholders if tensor.dtype == tf.bool]
    clips = np.load(folder / "MTT_musicnn.npy")

    def patches(clip: np.ndarray) -> np.ndarray:
        audio = clip.astype(np.float32) / 32768
        power = librosa.feature.melspectrogram(y=audio, sr=16_000, n_fft=512, hop_length=256, n_mels=BANDS, pad_mode="reflect").T.astype(np.float16)
        whole = power[: len(power) // PATCH * PATCH].astype(np.float32)
        return np.log10(10_000 * whole + 1).reshape(-1, PATCH, BANDS)

    def embed() -> np.ndarray:
        log_mel = np.concatenate([patches(clip) for clip in clips])
        pooled = []
        for start in range(0, len(log_mel), BATCH):
            largest, mean = session.run([f"{name}:0" for name in outputs], {inputs: log_mel[start : start + BATCH], training: False})
            pooled.append(np.stack([largest.reshape(len(largest), -1), mean.reshape(len(mean), -1)], axis=-1).reshape(len(mean), -1))
        return np.concatenate(pooled).reshape(len(clips), -1)

    return embed


def transformers(folder: Path) -> Callable[[], np.ndarray]:
    """MiniLM as sentence-transformers runs it: sorted by length, batches of 32 padded to their longest, mean over tokens, scaled to length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(os.cpu_count() or 1)
    files = next((folder / "minilm").rglob("tokenizer.json")).parent
    tokenizer, model = AutoTokenizer.from_pretrained(files), AutoModel.from_pretrained(files).eval()
    sentences = json.loads((folder / "minilm.json").read_text())

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
    embed = {"tensorflow": tensorflow, "transformers": transformers}[peer](folder)
    for line in sys.stdin:
        started = time.perf_counter()
        embedding = embed()
        seconds = time.perf_counter() - started
        np.save(folder / f"{peer}-{line.strip()}.npy", embedding)
        print(json.dumps({"wall_s": seconds}), flush=True)


if __name__ == "__main__":
    main()
