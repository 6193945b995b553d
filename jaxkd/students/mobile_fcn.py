"""The student of EAsT on MagnaTagATune."""

from jaxkd.models.mobile_fcn import MobileFCN


def mobile_fcn(*, num_outputs: int, axis_name: str | None = None) -> MobileFCN:
    """Mobile FCN as in EAsT (arXiv 2306.17424): 314,098 parameters at 50 outputs, 1.44 G multiply-adds for 1457 x 96 log-mel."""
    return MobileFCN(num_outputs=num_outputs, axis_name=axis_name)
