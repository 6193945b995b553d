"""One process of a job in which process 1 sees other checkpoints than process 0; test_checkpoint.py runs it.

Arguments: folder, address of the job, place of this one of two processes.
"""

import json
import shutil
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxkd import hosts
from jaxkd.errors import ArtefactError
from jaxkd.parallel import Devices
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.state import TrainState


def state_at(step: int) -> TrainState:
    values = np.random.default_rng(step).standard_normal(10_000, np.float32)
    return Devices.all().replicate(TrainState(jnp.int32(step), {"w": values}, {}, None, (), jnp.float32(1.0)))


def truncate(folder: Path) -> None:
    """Halves the largest file in a folder."""
    file = max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other_values(folder: Path) -> None:
    file = folder / "host" / "metadata"
    file.write_text(file.read_text().replace('"plateau"', '"plateaU"'))


def restored(path: Path) -> str | int:
    """The step that is restored, once its values are seen to be right; or what is said instead."""
    try:
        checkpoints = Checkpoints(path, state_at(0))
    except ArtefactError as error:
        return str(error)
    try:
        state, _ = checkpoints.restore_last()
    except ArtefactError as error:
        return str(error)
    finally:
        checkpoints.close()
    step = int(state.step)
    np.testing.assert_array_equal(state.params["w"], state_at(step).params["w"])
    return step


def main() -> None:
    folder, process = Path(sys.argv[1]), int(sys.argv[3])
    hosts.join(hosts.Job(sys.argv[2], 2, process, join_seconds=120, heartbeat_seconds=60))
    checkpoints = Checkpoints(folder / "saved", state_at(0))
    for step in (1, 2):
        checkpoints.save_best(step, state_at(step), float(step))
        checkpoints.save_last(step, state_at(step), {"plateau": {}})
    checkpoints.wait()
    checkpoints.close()

    newest = Path("last") / "2"
    own = {name: folder / f"{name}-{process}" for name in ("late", "never", "damaged", "altered", "best damaged")}
    for path in own.values():
        shutil.copytree(folder / "saved", path)
    if process == 1:
        truncate(own["damaged"] / newest)
        other_values(own["altered"] / newest)
        truncate(own["best damaged"] / "best")
        shutil.rmtree(own["never"] / newest)
        (own["late"] / newest).rename(folder / "on its way")
        threading.Timer(2, lambda: (folder / "on its way").rename(own["late"] / newest)).start()
    hosts.wait_for_all()
    said = {name: restored(path) for name, path in own.items() if name != "never"}
    hosts.FILE_SECONDS = 1
    said["never"] = restored(own["never"])
    hosts.EXCHANGE_BYTES = 10
    said["exchanged"] = [brought.decode() for brought in hosts.gathered_bytes(b"0123456789abc"[: 3 + 10 * process])]
    said["bits"] = hosts.gathered(np.array([process])).ravel().tolist()  # all of the job goes on in step
    (folder / f"{process}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
