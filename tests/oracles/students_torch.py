"""Runs the students of EAsT, written in torch from the published layer tables, and torch's Adam with ReduceLROnPlateau; stores what they give.

    python tests/oracles/students_torch.py

Weights and inputs are those of weights.py, arithmetic is float64. Written: students_torch.npz, with
  NAME/eval/logits and NAME/train/logits [4, K], and NAME/MODE/tapK [4, T_k, C_k / 8] (every eighth channel), without dropout;
  NAME/statistics/PLACE: every eighth running statistic after the training pass;
  NAME/gradients: JSON, name -> norm of the gradient of the mean binary cross-entropy of the training pass;
  adam/gradients [steps, 6], adam/losses [evaluations], and adam/parameters, adam/rates after each of them: lr 0.01, weight decay 0.1, clipping at norm 1,
  an evaluation every 2 steps, patience 2, factor 0.2.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from weights import batch, drawn

ROWS = 4
SIZES = {
    "cp_resnet": (20, 101, 128),
    "cp_resnet_textbook": (20, 101, 128),
    "mobile_fcn": (50, 391, 96),
    "mobile_fcn_128": (50, 391, 128),
}


def conv_norm(into: int, out: int, size: int, padding: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, size, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(out))


class Block(nn.Module):
    def __init__(self, into: int, out: int, first: int, second: int):
        super().__init__()
        self.first, self.second = conv_norm(into, out, first, first // 3), conv_norm(out, out, second, second // 3)
        self.shortcut = conv_norm(into, out, 1, 0) if into != out else nn.Identity()

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class CPResNet(nn.Module):
    """Maps [N, F, T]; maps are [N, C, F, T]."""

    def __init__(self, outputs: int, textbook: bool):
        super().__init__()
        self.stem = conv_norm(1, 128, 5, 1 if textbook else 2, stride=2)
        second = 1 if textbook else 3
        self.stages = nn.ModuleList(
            [
                nn.ModuleList([Block(128, 128, 3, 1), *[Block(128, 128, 3, 3) for _ in range(3)]]),
                nn.ModuleList([Block(128, 256, 3, 1), *[Block(256, 256, 1, second) for _ in range(3)]]),
                nn.ModuleList([Block(256, 512, 1, 1), *[Block(512, 512, 1, 1) for _ in range(3)]]),
            ]
        )
        self.head = conv_norm(512, outputs, 1, 0) if textbook else nn.Linear(512, outputs)

    def forward(self, x):
        x, taps = F.relu(self.stem(x[:, None])), []
        for number, stage in enumerate(self.stages):
            for index, block in enumerate(stage):
                x = block(x)
                if number == 0 and index in (0, 1, 3):
                    x = F.max_pool2d(x, 2)
            taps.append(x.mean(dim=2).transpose(1, 2))
        logits = self.head(x).mean(dim=(2, 3)) if isinstance(self.head, nn.Sequential) else self.head(x.mean(dim=(2, 3)))
        return logits, taps

    def names(self):
        """(module, its name in jaxkd)"""
        yield self.stem, "stem"
        for number, stage in enumerate(self.stages, start=1):
            for index, block in enumerate(stage, start=1):
                for part in ("first", "second", "shortcut"):
                    yield getattr(block, part), f"stage{number}_block{index}/{part}"
        yield self.head, "head"


class MobileFCN(nn.Module):
    def __init__(self, outputs: int, bands: int):
        super().__init__()
        widths = (1, 64, 128, 128, 128, 128, 256, 256, 256)
        self.pools = ((2, 4), (2, 3), (2, 2), (4 if bands == 128 else 3, 2), (4, 2), (1, 1), (1, 1), (1, 1))
        self.layers = nn.ModuleList()
        for number, (into, out) in enumerate(pairwise(widths)):
            plain = nn.ModuleList([conv_norm(into, out, 3, 1)])
            self.layers.append(plain if number < 2 else nn.ModuleList([conv_norm(into, into, 3, 1, groups=into), conv_norm(into, out, 1, 0)]))
        self.head = nn.Linear(256, outputs)

    def forward(self, x):
        x, taps = x[:, None], []
        for number, (layer, pool) in enumerate(zip(self.layers, self.pools, strict=True), start=1):
            for part in layer:
                x = F.relu(part(x))
            x = F.max_pool2d(x, pool)
            if number in (4, 6, 8):
                taps.append(x.mean(dim=2).transpose(1, 2))
        return self.head(x.mean(dim=(2, 3))), taps

    def names(self):
        for number, layer in enumerate(self.layers, start=1):
            if len(layer) == 2:
                yield layer[0], f"layer{number}/depthwise"
            yield layer[-1], f"layer{number}/conv"
        yield self.head, "head"


def entries(network):
    """(torch tensor, jaxkd's name, transposition from jaxkd's layout) of every parameter and statistic."""
    for module, name in network.names():
        if isinstance(module, nn.Identity):
            continue
        if isinstance(module, nn.Linear):
            yield module.weight, f"{name}/kernel", (1, 0)
            yield module.bias, f"{name}/bias", (0,)
            continue
        layer, _, part = name.rpartition("/")
        if part == "depthwise":
            kernel, norm = name, f"{layer}/depthwise_norm"
        elif layer.startswith("layer"):
            kernel, norm = f"{name}/kernel", f"{layer}/norm"
        else:
            kernel, norm = f"{name}/conv/kernel", f"{name}/norm"
        # kernels [height, width, in, out] there are over (time, frequency), here [out, in, frequency, time]
        yield module[0].weight, kernel, (3, 2, 1, 0)
        for tensor, kind in ((module[1].weight, "scale"), (module[1].bias, "bias"), (module[1].running_mean, "mean"), (module[1].running_var, "var")):
            yield tensor, f"{norm}/{kind}", (0,)


def run(name: str, network: nn.Module) -> dict[str, np.ndarray]:
    outputs, frames, bands = SIZES[name]
    inputs, targets = (torch.from_numpy(values).double() for values in batch(name, ROWS, frames, bands, outputs))
    network.double()
    with torch.no_grad():
        for tensor, place, order in entries(network):
            shape = tuple(np.array(tensor.shape)[list(np.argsort(order))])
            tensor.copy_(torch.from_numpy(drawn(place, shape).transpose(order)))
    stored = {}
    for mode in ("eval", "train"):
        network.train(mode == "train")
        logits, taps = network(inputs.transpose(1, 2))
        stored[f"{name}/{mode}/logits"] = logits.detach().numpy()
        stored |= {f"{name}/{mode}/tap{number}": tap.detach().numpy()[..., ::8] for number, tap in enumerate(taps, start=1)}
    F.binary_cross_entropy_with_logits(logits, targets).backward()
    places = list(entries(network))
    stored |= {f"{name}/statistics/{place}": tensor.numpy()[::8] for tensor, place, _ in places if not tensor.requires_grad}
    norms = {place: float(tensor.grad.norm()) for tensor, place, _ in places if tensor.requires_grad}
    return {key: value.astype(np.float32) for key, value in stored.items()} | {f"{name}/gradients": np.array(json.dumps(norms))}


def adam() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(48, 6)) * rng.choice([0.01, 0.3, 3.0], size=(48, 1))
    losses = np.array([1.0, 0.8, 0.79999, 0.81, 0.8, 0.7, 0.75, 0.72, 0.71, 0.69999, 0.69994, 0.8, 0.9, 0.8, 0.8, 0.8, 0.5, 0.6, 0.6, 0.6, 0.6, 0.4, 0.5, 0.5])
    parameters = nn.Parameter(torch.linspace(-2, 3, 6, dtype=torch.float64))
    optimiser = torch.optim.Adam([parameters], lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.2, patience=2)
    after, rates = [], []
    for step, gradient in enumerate(gradients, start=1):
        parameters.grad = torch.from_numpy(gradient.copy())
        nn.utils.clip_grad_norm_([parameters], 1.0)
        optimiser.step()
        if step % 2 == 0:
            schedule.step(losses[step // 2 - 1])
            after.append(parameters.detach().numpy().copy())
            rates.append(optimiser.param_groups[0]["lr"])
    return {"adam/gradients": gradients, "adam/losses": losses, "adam/parameters": np.array(after), "adam/rates": np.array(rates)}


def main() -> None:
    stored = adam()
    stored |= run("cp_resnet", CPResNet(20, textbook=False)) | run("cp_resnet_textbook", CPResNet(20, textbook=True))
    stored |= run("mobile_fcn", MobileFCN(50, 96)) | run("mobile_fcn_128", MobileFCN(50, 128))
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **stored)


if __name__ == "__main__":
    main()
