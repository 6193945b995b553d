"""The CP-ResNet students: the one of EAsT, the original, and two smaller members of the family."""

from jaxkd.models.cp_resnet import TEXTBOOK_STAGES, CPResNet, Stage

_PLAIN = (3, 3)


def cp_resnet(*, num_outputs: int, axis_name: str | None = None) -> CPResNet:
    """CP-ResNet as in EAsT (arXiv 2306.17424): 5,534,612 parameters at 20 outputs, 11.1 G multiply-adds for 1000 x 128 log-mel."""
    return CPResNet(num_outputs=num_outputs, axis_name=axis_name)


def cp_resnet_textbook(*, num_outputs: int, axis_name: str | None = None) -> CPResNet:
    """CP-ResNet as published first, at rho 7 (arXiv 1907.01803): 3,961,768 parameters at 20 outputs, 9.88 G multiply-adds for 1000 x 128 log-mel."""
    return CPResNet(num_outputs=num_outputs, stages=TEXTBOOK_STAGES, stem_padding=1, head="conv", axis_name=axis_name)


def cp_resnet_small(*, num_outputs: int, axis_name: str | None = None) -> CPResNet:
    """The default on a CPU: five blocks of 3x3 convolutions, 32-64-128 channels, 0.67 M parameters."""
    stages = (Stage(32, (_PLAIN,), pool_after=(0,)), Stage(64, (_PLAIN, _PLAIN), pool_after=(1,)), Stage(128, (_PLAIN, _PLAIN)))
    return CPResNet(num_outputs=num_outputs, stem_channels=16, stages=stages, pool_stem=True, axis_name=axis_name)


def cp_resnet_tiny(*, num_outputs: int, axis_name: str | None = None) -> CPResNet:
    """For trials and tests: three blocks, 8-16-32 channels, 19 thousand parameters."""
    stages = (Stage(8, (_PLAIN,), pool_after=(0,)), Stage(16, (_PLAIN,), pool_after=(0,)), Stage(32, (_PLAIN,)))
    return CPResNet(num_outputs=num_outputs, stem_channels=8, stages=stages, pool_stem=True, axis_name=axis_name)
