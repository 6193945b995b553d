"""The torch side of `benchmarks.east_step`: EAsT's step (arXiv 2306.17424) from its formulas, in torch and its usual ways. Needs torch and numpy alone.

Reads one command a line and answers each with one JSON line: "PART" -> {"wall_s", "cpu_s"}, "peak" -> {"mb"}.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

BATCH, SAMPLES, LABELS, FRAMES, DIM = 16, 320_000, 20, 11, 768


def conv_norm(into: int, out: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(into, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, into: int, out: int, first: int, second: int):
        super().__init__()
        self.first, self.second = conv_norm(into, out, first), conv_norm(out, out, second)
        self.shortcut = conv_norm(into, out, 1) if into != out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolutions plus shortcut."""
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class CPResNet(nn.Module):
    """The network of 5.5 M parameters: log-mel [N, F, T] -> logits [N, K], map averaged over frequency [N, T', 512]."""

    def __init__(self):
        super().__init__()
        pool = nn.MaxPool2d(2)
        first = [Block(128, 128, 3, 1), pool, Block(128, 128, 3, 3), pool, Block(128, 128, 3, 3), Block(128, 128, 3, 3), pool]
        second = [Block(128, 256, 3, 1), *[Block(256, 256, 1, 3) for _ in range(3)]]
        third = [Block(256, 512, 1, 1), *[Block(512, 512, 1, 1) for _ in range(3)]]
        self.trunk = nn.Sequential(conv_norm(1, 128, 5, 2), nn.ReLU(), *first, *second, *third)
        self.head = nn.Linear(512, LABELS)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and features."""
        maps = self.trunk(x[:, None])
        return self.head(maps.mean(dim=(2, 3))), maps.mean(dim=2).transpose(1, 2)


class FrontEnd:
    """Log-mel of 320,000 samples at 32 kHz, 128 Kaldi bands with jittered edges, SpecAugment, normalisation."""

    def __init__(self):
        window = torch.hann_window(800, periodic=False)
        self.window = F.pad(window, (112, 112))
        self.generator = torch.Generator().manual_seed(0)

    def bank(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Triangles linear in mel, [N, 513, 128]."""
        mel = lambda f: 1127 * torch.log1p(f / 700)  # noqa: E731
        bins = mel(torch.arange(512) * 31.25)
        step = (mel(high) - mel(low)) / 129
        position = (bins[None, :, None] - mel(low)[:, None, None]) / step[:, None, None] - torch.arange(128)
        return F.pad(torch.clamp(torch.minimum(position, 2 - position), min=0), (0, 0, 0, 1))

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        """int16 [N, samples] -> [N, 128, 1000]."""
        wave = audio.float() / 32768
        wave = wave[:, 1:] - 0.97 * wave[:, :-1]
        spectrum = torch.stft(wave, 1024, 320, window=self.window, center=True, pad_mode="reflect", return_complex=True).abs().square()
        draw = lambda high: torch.randint(high, (len(wave),), generator=self.generator)  # noqa: E731
        mel = torch.bmm(self.bank(draw(20).float(), 16_000 - draw(2000).float()).transpose(1, 2), spectrum)
        logs = torch.log(mel + 1e-5)
        for clip in logs:
            for axis, widest in ((0, 48), (1, 192)):
                width, place = torch.rand(2, generator=self.generator).tolist()
                width = width * widest
                start = int(place * (clip.shape[axis] - width))
                clip.narrow(axis, start, int(width)).zero_()
        return (logs + 3.7) / 3.1


def distance(features: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    """Mean over frames of 1 - R^2 within the batch, by explicit differences, with EAsT's constants."""
    length = min(features.shape[1], embedding.shape[1])

    def centred(x: torch.Tensor) -> torch.Tensor:
        x = x[:, :length].transpose(0, 1)
        apart = torch.sqrt(((x[:, :, None] - x[:, None]) ** 2).sum(dim=-1) + 1e-12)
        return apart - apart.mean(dim=1, keepdim=True) - apart.mean(dim=2, keepdim=True) + apart.mean(dim=(1, 2), keepdim=True)

    a, b = centred(features), centred(embedding)
    product, first, second = ((one * other).mean(dim=(1, 2)) for one, other in ((a, b), (a, a), (b, b)))
    return (1 - product / torch.sqrt(first * second + 1e-9)).mean()


class Clips(Dataset):
    """One .npy of audio and one of the embedding a clip, as such code keeps them."""

    def __init__(self, folder: Path, clips: int):
        self.folder, self.clips = folder, clips

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        return np.load(self.folder / f"audio{place}.npy"), np.load(self.folder / f"embedding{place}.npy")


class Step:
    """Everything that the parts are timed on."""

    def __init__(self, folder: Path, clips: int):
        rng = np.random.default_rng(0)
        torch.manual_seed(0)
        self.network, self.front_end = CPResNet().train(), FrontEnd()
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-4, weight_decay=1e-4)
        self.audio, self.partners = (torch.from_numpy(rng.integers(-9000, 9000, (BATCH, SAMPLES)).astype(np.int16)) for _ in range(2))
        self.embedding = torch.from_numpy(rng.standard_normal((BATCH, FRAMES, DIM)).astype(np.float32))
        self.labels = torch.from_numpy(rng.uniform(size=(BATCH, LABELS)).astype(np.float32))
        self.mask = torch.from_numpy(rng.uniform(size=(BATCH, LABELS)) < 0.1)
        self.features = torch.from_numpy(rng.standard_normal((BATCH, 62, 512)).astype(np.float32)).requires_grad_()
        self.share = torch.from_numpy(rng.uniform(0.5, 1, BATCH).astype(np.float32))[:, None, None]
        self.clips = Clips(folder, clips)
        self.convolutions = {size: self.convolution(*shape) for size, shape in ((3, (128, 16, 125)), (1, (512, 8, 62)))}

    def convolution(self, channels: int, bands: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and their cotangent."""
        return torch.randn(BATCH, channels, bands, frames, requires_grad=True), torch.randn(BATCH, channels, bands, frames)

    def mel(self) -> torch.Tensor:
        """Both rows of mixup through the front end."""
        with torch.no_grad():
            return self.share * self.front_end(self.audio) + (1 - self.share) * self.front_end(self.partners)

    def expanded(self) -> torch.Tensor:
        """The teacher's 11 frames, 6 times each."""
        return self.embedding.repeat_interleave(6, dim=1)

    def loss(self, inputs: torch.Tensor) -> torch.Tensor:
        """0.1 label loss + 0.9 distance."""
        logits, features = self.network(inputs)
        label = F.binary_cross_entropy(torch.sigmoid(logits)[self.mask], self.labels[self.mask])
        return 0.1 * label + 0.9 * distance(features, self.expanded())

    def update(self) -> None:
        """Clipping and Adam."""
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()

    def front_end_part(self) -> None:
        """The front end alone."""
        self.mel()

    def distance_part(self) -> None:
        """The distance and its gradient to the student."""
        self.features.grad = None
        distance(self.features, self.expanded()).backward()

    def optimiser_part(self) -> None:
        """Clipping and Adam on gradients that are there."""
        self.update()

    def student_part(self) -> None:
        """Forward and backward of student and losses on log-mel that is there."""
        self.optimiser.zero_grad()
        self.loss(self.inputs).backward()

    def loader_part(self) -> None:
        """16 clips and their 16 partners from files."""
        for _, _ in DataLoader(self.clips, batch_size=2 * BATCH, shuffle=True):
            break

    def convolve(self, size: int) -> None:
        """Value and both gradients of one convolution."""
        inputs, cotangent = self.convolutions[size]
        kernel = torch.zeros(inputs.shape[1], inputs.shape[1], size, size, requires_grad=True)
        torch.autograd.grad(F.conv2d(inputs, kernel, padding=size // 2), (inputs, kernel), cotangent)

    def conv_3x3_part(self) -> None:
        """As stage 1 has it."""
        self.convolve(3)

    def conv_1x1_part(self) -> None:
        """As stage 3 has it."""
        self.convolve(1)

    def step_part(self) -> None:
        """The whole step."""
        self.optimiser.zero_grad()
        self.loss(self.mel()).backward()
        self.update()

    def time(self, part: str, calls: int) -> dict[str, float]:
        """Seconds of a call of a part, the mean of `calls` in a row."""
        call = getattr(self, f"{part}_part")
        if part == "student":
            self.inputs = self.mel()
        if part == "optimiser":
            for weights in self.network.parameters():
                weights.grad = weights.detach().clone()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            call()
        return {"wall_s": (time.perf_counter() - wall) / calls, "cpu_s": (time.process_time() - cpu) / calls}


def main() -> None:
    """Answers on standard output."""
    folder, clips, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads or os.cpu_count() or 1)
    step = Step(folder, clips)
    for line in sys.stdin:
        part, calls = line.split()
        answer = {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024} if part == "peak" else step.time(part, int(calls))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
