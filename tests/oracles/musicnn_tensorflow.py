"""Runs the released musicnn checkpoints in their released graphs under TensorFlow, and stores what they return.

    python tests/oracles/musicnn_tensorflow.py musicnn-0.1.0-py3-none-any.whl

The graph is the package's own `.meta` file (inference part), the mel spectrogram is librosa's. Written: musicnn_tensorflow.npz, with keys
MODEL/SOURCE/OUTPUT, where SOURCE is "patches" (signals.log_mel_patches), "audio" (signals.waveforms, mel power rounded to float16) or "release" (the same,
but the logarithm in float16 as well, as the package does it).
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import librosa
import numpy as np
import tensorflow as tf
from signals import log_mel_patches, waveforms

MODELS = ("MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg")
OUTPUTS = {
    "musicnn": {
        "max_pool": "model/Max",
        "mean_pool": "model/moments/Squeeze",
        "penultimate": "model/batch_normalization_10/batchnorm/add_1",
        "logits": "model/dense_1/BiasAdd",
    },
    "vgg": {"pool5": "model/Flatten/flatten/Reshape", "logits": "model/dense/BiasAdd"},
}


def run(folder: Path, outputs: dict[str, str], batches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    v1 = tf.compat.v1
    meta = v1.MetaGraphDef()
    meta.ParseFromString((folder / ".meta").read_bytes())
    for node in meta.graph_def.node:
        node.attr.pop("_output_shapes", None)
    wanted = [*outputs.values(), meta.saver_def.restore_op_name, "model/Placeholder", "model/Placeholder_1", "model/Placeholder_2"]
    inference = v1.graph_util.extract_sub_graph(meta.graph_def, wanted)
    results = {}
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        tf.import_graph_def(inference, name="")
        session.run(meta.saver_def.restore_op_name, {meta.saver_def.filename_tensor_name: f"{folder}/"})
        placeholders = [operation.outputs[0] for operation in graph.get_operations() if operation.type == "Placeholder"]
        (inputs,) = [tensor for tensor in placeholders if tensor.dtype == tf.float32 and tensor.shape.rank == 3]
        (training,) = [tensor for tensor in placeholders if tensor.dtype == tf.bool]
        for source, batch in batches.items():
            values = session.run({name: f"{operation}:0" for name, operation in outputs.items()}, {inputs: batch, training: False})
            results.update({f"{source}/{name}": np.squeeze(value).astype(np.float32) for name, value in values.items()})
    return results


def main(wheel: str) -> None:
    audio = waveforms(sample_rate=16_000, seconds=6.5, clips=2).astype(np.float32) / 32768
    mel = librosa.feature.melspectrogram(y=audio, sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect").transpose(0, 2, 1)
    mel = mel.astype(np.float16)[:, :374].reshape(4, 187, 96)
    batches = {
        "patches": log_mel_patches(patches=2),
        "audio": np.log10(10_000 * mel.astype(np.float32) + 1),
        "release": np.log10(np.float16(10_000) * mel + np.float16(1)).astype(np.float32),
    }
    stored = {}
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        for model in MODELS:
            results = run(Path(scratch, "musicnn", model), OUTPUTS[model.partition("_")[2]], batches)
            stored.update({f"{model}/{key}": value for key, value in results.items() if "release" not in key or "logits" in key})
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **stored)


if __name__ == "__main__":
    main(sys.argv[1])
