"""The torch side of `benchmarks.student_step`: the same networks in torch and its usual ways, each in the faster of its two memory layouts. Needs torch alone.

Reads one command a line and answers each with one JSON line: "PART CALLS" -> {"wall_s", "cpu_s"}, "parameters" -> {student: number}.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

OUTPUTS = 10


def conv_norm(into: int, out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(into, out, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(out))


class Block(nn.Module):
    """Two convolutions and a shortcut: a 1x1 convolution where the channels change, or with `pad` channels of zeros."""

    def __init__(self, into: int, out: int, stride: int = 1, pad: bool = False, sizes: tuple[int, int] = (3, 3)):
        super().__init__()
        self.first, self.second = conv_norm(into, out, sizes[0], stride), conv_norm(out, out, sizes[1])
        self.shortcut = nn.Identity() if pad or into == out else conv_norm(into, out, 1)
        self.stride, self.added = stride, out - into if pad else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolutions plus shortcut."""
        shortcut = self.shortcut(x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x)
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.added)) if self.added else shortcut
        return F.relu(self.second(F.relu(self.first(x))) + shortcut)


def cp_resnet_small() -> nn.Module:
    """The default student for audio."""
    pool = nn.MaxPool2d(2)
    stem = [conv_norm(1, 16, 5, 2), nn.ReLU(), pool]
    blocks = [Block(16, 32), pool, Block(32, 64), Block(64, 64), pool, Block(64, 128), Block(128, 128)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, OUTPUTS))


def cp_resnet() -> nn.Module:
    """EAsT's student on OpenMIC (arXiv 2306.17424)."""
    pool = nn.MaxPool2d(2)
    first = [Block(128, 128, sizes=(3, 1)), pool, Block(128, 128), pool, Block(128, 128), Block(128, 128), pool]
    second = [Block(128, 256, sizes=(3, 1)), *[Block(256, 256, sizes=(1, 3)) for _ in range(3)]]
    third = [Block(256, 512, sizes=(1, 1)), *[Block(512, 512, sizes=(1, 1)) for _ in range(3)]]
    return nn.Sequential(conv_norm(1, 128, 5, 2), nn.ReLU(), *first, *second, *third, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, OUTPUTS))


def mobile_fcn() -> nn.Module:
    """EAsT's student on MagnaTagATune (arXiv 2306.17424)."""
    widths, pools = (1, 64, 128, 128, 128, 128, 256, 256, 256), ((4, 2), (3, 2), (2, 2), (2, 3), (2, 4))
    layers: list[nn.Module] = []
    for number, (into, out) in enumerate(pairwise(widths)):
        if number > 1:
            layers += [conv_norm(into, into, 3, groups=into), nn.ReLU()]
        layers += [conv_norm(into, out, 1 if number > 1 else 3), nn.ReLU()]
        if number < len(pools):
            layers.append(nn.MaxPool2d(pools[number]))
        if number in (3, 5, 7):
            layers.append(nn.Dropout(0.5))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, OUTPUTS))


def resnet20() -> nn.Module:
    """ResNet-20 of the CIFAR family (arXiv 1512.03385), shortcuts of option A."""
    blocks, into = [], 16
    for out in (16, 32, 64):
        for index in range(3):
            blocks.append(Block(into, out, 2 if index == 0 and out > 16 else 1, pad=True))
            into = out
    return nn.Sequential(conv_norm(1, 16, 3), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, OUTPUTS))


def mobilenet_half() -> nn.Module:
    """MobileNet (arXiv 1704.04861) of half the width, for small images."""
    layers, into = [conv_norm(3, 16, 3), nn.ReLU()], 16
    for out, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), *[(256, 1)] * 5, (512, 2), (512, 1)):
        layers += [conv_norm(into, into, 3, stride, into), nn.ReLU(), conv_norm(into, out, 1), nn.ReLU()]
        into = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, OUTPUTS))


class TextTransformer(nn.Module):
    """Two encoder layers of 64 units, 2 heads, norm first; mean over the tokens that are not padding."""

    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(16_384, 64), nn.Parameter(0.02 * torch.randn(512, 64))
        gelu = functools.partial(F.gelu, approximate="tanh")
        layer = nn.TransformerEncoderLayer(64, 2, 256, dropout=0.0, activation=gelu, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(64), enable_nested_tensor=False)
        self.head = nn.Linear(64, OUTPUTS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[N, L] -> [N, K]."""
        padding = tokens == 0
        x = self.layers(self.words(tokens) + self.positions[: tokens.shape[1]], src_key_padding_mask=padding)
        kept = (~padding)[..., None].float()
        return self.head((x * kept).sum(dim=1) / kept.sum(dim=1))


def student(build: Callable[[], nn.Module], inputs: torch.Tensor) -> Callable[[bool], Callable[[], None]]:
    """Loss, forward and backward; by layout."""

    def laid_out(channels_last: bool) -> Callable[[], None]:
        torch.manual_seed(0)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        network, x = build().train().to(memory_format=layout), like_layout(inputs, channels_last and inputs.ndim == 4)
        labels = torch.randint(0, OUTPUTS, (len(x),))

        def call() -> None:
            network.zero_grad()
            F.cross_entropy(network(x), labels).backward()

        return call

    return laid_out


def differentiated(build: Callable[[], nn.Module | Callable[..., torch.Tensor]], *shapes: tuple[int, ...]) -> Callable[[bool], Callable[[], None]]:
    """Value and gradients of a function of inputs of these shapes; by layout."""

    def laid_out(channels_last: bool) -> Callable[[], None]:
        torch.manual_seed(0)
        function = build()
        arguments = [like_layout(torch.randn(shape), channels_last).requires_grad_() for shape in shapes]
        differentiable = [*arguments, *(function.parameters() if isinstance(function, nn.Module) else ())]
        cotangent = like_layout(torch.randn_like(function(*arguments)), channels_last)
        return lambda: torch.autograd.grad(function(*arguments), differentiable, cotangent) and None

    return laid_out


def like_layout(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """The array in one of the two layouts; only maps [N, C, H, W] have the second."""
    return x.to(memory_format=torch.channels_last) if channels_last else x.contiguous()


def convolution(
    channels_last: bool, of_inputs: bool, rows: int, height: int, width: int, into: int, out: int, size: int, stride: int, groups: int
) -> Callable[[], None]:
    """Value and gradients of one convolution."""
    inputs = like_layout(torch.randn(rows, into, height, width), channels_last).requires_grad_(of_inputs)
    kernel = like_layout(torch.randn(out, into // groups, size, size), channels_last).requires_grad_()
    convolve = lambda: F.conv2d(inputs, kernel, stride=stride, padding=size // 2, groups=groups)  # noqa: E731
    cotangent = like_layout(torch.randn_like(convolve()), channels_last)
    return lambda: torch.autograd.grad(convolve(), (inputs, kernel) if of_inputs else (kernel,), cotangent) and None


def convolutions(shapes: list[dict[str, int]]) -> Callable[[bool], Callable[[], None]]:
    """All convolutions of a network, of the first the gradient of the kernel alone; by layout."""

    def laid_out(channels_last: bool) -> Callable[[], None]:
        made = {(place > 0, *sizes.values()): sizes for place, sizes in enumerate(shapes)}
        calls_of = {which: convolution(channels_last, which[0], **sizes) for which, sizes in made.items()}
        calls = [calls_of[place > 0, *sizes.values()] for place, sizes in enumerate(shapes)]

        def call() -> None:
            for one in calls:
                one()

        return call

    return laid_out


def attention() -> Callable[..., torch.Tensor]:
    """Attention of [N, L, H, D] to the tokens that are not padding, by the library's fused form."""
    mask = (torch.arange(64) < 64 - torch.arange(128)[:, None] % 32)[:, None, None]

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        heads_first = (x.transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(*heads_first, attn_mask=mask).transpose(1, 2)

    return attend


def product(channels_last: bool) -> Callable[[], None]:
    """One bare product."""
    square = torch.randn(2048, 2048)
    return lambda: (square @ square) is None


def copied(_: bool) -> Callable[[], None]:
    """One bare copy."""
    source, target = torch.ones(2**28, dtype=torch.uint8), torch.ones(2**28, dtype=torch.uint8)
    return lambda: target.copy_(source) is None


WARM_UP = 3
"""Calls in each layout before they are compared: the first ones ask the system for memory."""

STUDENTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cp_resnet_small": (cp_resnet_small, (64, 1, 94, 64)),
    "cp_resnet": (cp_resnet, (4, 1, 1000, 128)),
    "mobile_fcn": (mobile_fcn, (16, 1, 1457, 96)),
    "resnet20": (resnet20, (128, 1, 28, 28)),
    "mobilenet_half": (mobilenet_half, (64, 3, 32, 32)),
    "text_transformer": (TextTransformer, (128, 64)),
}


def build(part: str, shapes: dict[str, list[dict[str, int]]]) -> Callable[[bool], Callable[[], None]]:
    """What is timed; by layout."""
    name, _, kind = part.partition(".")
    if part == "depthwise":
        return lambda channels_last: convolution(channels_last, True, **shapes[part][0])
    if kind:
        return convolutions(shapes[name])
    if name in STUDENTS:
        make, shape = STUDENTS[name]
        return student(make, torch.randint(1, 16_384, shape) if name == "text_transformer" else torch.randn(shape))
    parts = {
        "attention": differentiated(attention, *[(128, 64, 2, 32)] * 3),
        "batch_norm": differentiated(lambda: nn.Sequential(nn.BatchNorm2d(16), nn.ReLU()), (128, 16, 28, 28)),
        "max_pool": differentiated(lambda: nn.MaxPool2d(2), (128, 16, 28, 28)),
        "product": product,
        "copy": copied,
    }
    return parts[part]


def seconds(call: Callable[[], None], calls: int) -> dict[str, float]:
    """Of a call, the mean of `calls` in a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    return {"wall_s": (time.perf_counter() - wall) / calls, "cpu_s": (time.process_time() - cpu) / calls}


def in_faster_layout(laid_out: Callable[[bool], Callable[[], None]], layouts: tuple[bool, ...]) -> tuple[bool, Callable[[], None]]:
    """Of the layouts (whether channels are last) the one in which the part is faster, once the process has the memory for it; and the part in it."""
    ways = {channels_last: laid_out(channels_last) for channels_last in layouts}
    for way in [*ways.values()] * WARM_UP:
        way()
    return min(ways.items(), key=lambda way: min(seconds(way[1], 1)["wall_s"] for _ in range(3)))


def main() -> None:
    """Answers on standard output."""
    torch.set_num_threads(int(sys.argv[1]) or os.cpu_count() or 1)
    shapes = json.loads(sys.argv[2])
    chosen: dict[str, tuple[bool, Callable[[], None]]] = {}
    for line in sys.stdin:
        if line.strip() == "parameters":
            print(json.dumps({name: sum(x.numel() for x in make().parameters()) for name, (make, _) in STUDENTS.items()}), flush=True)
            continue
        part, calls = line.split()
        if part not in chosen:
            network = part.partition(".")[0]
            layouts = (chosen[network][0],) if network in chosen else (False, True)
            chosen[part] = in_faster_layout(build(part, shapes), layouts)
        print(json.dumps(seconds(chosen[part][1], int(calls))), flush=True)


if __name__ == "__main__":
    main()
