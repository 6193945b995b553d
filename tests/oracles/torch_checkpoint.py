"""Writes torch_checkpoint.pt with torch itself: tensors of several kinds, whole and as views of one storage, beside plain values.

python tests/oracles/torch_checkpoint.py
"""

from pathlib import Path

import numpy as np
import torch


def main() -> None:
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    base = torch.from_numpy(values)
    layer = torch.nn.Linear(6, 2)
    layer.load_state_dict({"weight": base[:2], "bias": base[2, :2]})
    saved = {
        "whole": base,
        "transposed": base.T,
        "strided": base[1::2, ::3],
        "half": base.half(),
        "double": base.double(),
        "integers": torch.arange(5),
        "small_integers": torch.arange(5, dtype=torch.uint8),
        "truth": base > 0,
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "state": layer.state_dict(),
        "numbers": (np.float64(0.25), np.int64(7), "text", None, [1, 2]),
    }
    torch.save(saved, Path(__file__).with_suffix(".pt"))


if __name__ == "__main__":
    main()
