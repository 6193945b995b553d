"""What a run logs while it trains: `metrics.jsonl`, and TensorBoard events where tensorboardX is installed (the extra `tensorboard`)."""

import contextlib
import importlib.util
import json
from pathlib import Path

from jaxkd.files import write_text


class MetricsLog:
    """Writes `metrics.jsonl` in a workdir, one object a line {"step", "split", "values": {name: float}}, and the same to `tensorboard/`.

    Args:
      workdir: of the run.
      resumed_step: lines of later steps, of a run that was killed, are dropped.
    """

    def __init__(self, workdir: Path, resumed_step: int):
        path = workdir / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                    if json.loads(line)["step"] <= resumed_step:
                        kept.append(line + "\n")
        write_text(path, "".join(kept))
        self._file = path.open("a")
        self._events = None
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=resumed_step + 1)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Appends the values of a step and flushes them."""
        self._file.write(json.dumps({"step": step, "split": split, "values": values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{split}/{name}", value, step)
            self._events.flush()

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()
