"""The students for images: residual networks and MobileNets of the CIFAR family."""

from jaxkd.models.mobilenet import MobileNet
from jaxkd.models.resnet import CifarResNet

_V2_WIDTHS = (64, 128, 256)


def resnet_tiny(*, num_outputs: int, axis_name: str | None = None) -> CifarResNet:
    """For trials and tests: depth 8, 4-8-16 channels, 5 thousand parameters."""
    return CifarResNet(num_outputs=num_outputs, blocks=1, widths=(4, 8, 16), stem=4, axis_name=axis_name)


def resnet8(*, num_outputs: int, axis_name: str | None = None) -> CifarResNet:
    """The default on a CPU: depth 8, 16-32-64 channels, 0.07 M parameters."""
    return CifarResNet(num_outputs=num_outputs, blocks=1, axis_name=axis_name)


def resnet20(*, num_outputs: int, axis_name: str | None = None) -> CifarResNet:
    """ResNet-20 (arXiv 1512.03385): 0.27 M parameters."""
    return CifarResNet(num_outputs=num_outputs, blocks=3, axis_name=axis_name)


def resnet56(*, num_outputs: int, axis_name: str | None = None) -> CifarResNet:
    """ResNet-56 (arXiv 1512.03385): 0.85 M parameters."""
    return CifarResNet(num_outputs=num_outputs, blocks=9, axis_name=axis_name)


def resnet110(*, num_outputs: int, axis_name: str | None = None) -> CifarResNet:
    """ResNet-110 (arXiv 1512.03385): 1.7 M parameters."""
    return CifarResNet(num_outputs=num_outputs, blocks=18, axis_name=axis_name)


def resnet56_v2(*, num_outputs: int, axis_name: str | None = None) -> CifarResNet:
    """Depth 56 of pre-activation bottlenecks (arXiv 1603.05027): 0.59 M parameters, 256 features; the student of arXiv 2409.20449."""
    return CifarResNet(num_outputs=num_outputs, blocks=6, widths=_V2_WIDTHS, bottleneck=True, axis_name=axis_name)


def resnet92_v2(*, num_outputs: int, axis_name: str | None = None) -> CifarResNet:
    """Depth 92 of pre-activation bottlenecks (arXiv 1603.05027): 0.95 M parameters, 256 features; the teacher of arXiv 2409.20449."""
    return CifarResNet(num_outputs=num_outputs, blocks=10, widths=_V2_WIDTHS, bottleneck=True, axis_name=axis_name)


def mobilenet(*, num_outputs: int, axis_name: str | None = None) -> MobileNet:
    """MobileNet (arXiv 1704.04861) for small images: 3.2 M parameters, 1024 features."""
    return MobileNet(num_outputs=num_outputs, axis_name=axis_name)


def mobilenet_half(*, num_outputs: int, axis_name: str | None = None) -> MobileNet:
    """MobileNet of half the width: 0.82 M parameters, 512 features."""
    return MobileNet(num_outputs=num_outputs, width=0.5, axis_name=axis_name)
