"""One process of a job in which one process after the other is told to stop; test_together.py runs it.

Arguments: folder, address of the job, place of this one of two processes.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxkd import hosts, together
from jaxkd.embeddings.blocks import BLOCK_ROWS, shared_out
from jaxkd.embeddings.job import embed_in_job
from jaxkd.errors import Interrupted
from jaxkd.together import exclusive_to_job, stopping_together
from jaxkd.training import interrupt
from tests.embeddings.pca_teacher import SHARD_ROWS, Digits, PcaTeacher

HOLD = """
import sys
from jaxkd.files import exclusive
with exclusive(sys.argv[1], "store", "embedding"):
    print("held", flush=True)
    sys.stdin.readline()
"""
AFTER_S = 0.5


def told(block, *, number: int = signal.SIGTERM, here: bool, once: Callable[[], bool] = lambda: True) -> dict:
    """What comes of a block of which, some time after something is so, this process is told to stop, or another one is."""
    began = time.monotonic()

    def tell() -> None:
        while not once():
            time.sleep(0.05)
        time.sleep(AFTER_S)
        os.kill(os.getpid(), number)

    if here:
        threading.Thread(target=tell, daemon=True).start()
    try:
        block()
        status = 0
    except Interrupted as error:
        status = error.exit_status
    except KeyboardInterrupt:
        status = 130
    seconds = time.monotonic() - began
    interrupt._raised.clear()  # a process goes on here, and may be told again
    return {"status": status, "seconds": seconds}


def enter(folder: Path) -> None:
    with exclusive_to_job(folder, "store", "embedding"):
        pass


def embed(path: Path, teacher: PcaTeacher, digits: Digits) -> None:
    embed_in_job(teacher, digits, path, batch_size=8, shard_rows=SHARD_ROWS)


def work_alone(folder: Path, process: int) -> None:
    """Process 1 works, in small steps, and process 0 waits for it."""
    with stopping_together():
        while process == 1 and not (folder / "enough").exists():
            time.sleep(0.05)


def meet() -> None:
    """Both meet again and again, for up to half a minute."""
    with interrupt.MeetingGuard() as guard:
        for _ in range(600):
            hosts.wait_for_all()
            time.sleep(0.05)
            guard()


def slowly(block: list[str]) -> np.ndarray:
    """What takes half a minute, in small steps."""
    for _ in range(600):
        time.sleep(0.05)
    return np.zeros(len(block))


def told_after_they_met(folder: Path, process: int) -> None:
    """Process 1 is told when it has met the other for the last time; then both work alone."""
    with interrupt.MeetingGuard() as guard:
        guard()
        if process == 1:
            signal.raise_signal(signal.SIGTERM)
        with stopping_together():
            guard.release()
            while not (folder / "enough").exists():
                time.sleep(0.05)


def main() -> None:
    folder, process = Path(sys.argv[1]), int(sys.argv[3])
    hosts.join(hosts.Job(sys.argv[2], 2, process, join_seconds=120, heartbeat_seconds=60))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt.interrupt)
    said = {}
    holder = None
    if process == 0:
        holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "held\n"
    hosts.wait_for_all()
    said["locked, told 0"] = told(lambda: enter(folder), here=process == 0)
    said["locked, told 1"] = told(lambda: enter(folder), here=process == 1)
    if holder is not None:
        threading.Timer(AFTER_S, holder.communicate, ("go on\n",)).start()
    said["freed"] = told(lambda: enter(folder), here=False)
    said["the waiting one told"] = told(lambda: work_alone(folder, process), number=signal.SIGINT, here=process == 0)
    said["meeting"] = told(meet, number=signal.SIGINT, here=process == 1)
    said["computing"] = told(lambda: list(shared_out(slowly, [str(number) for number in range(3 * BLOCK_ROWS)])), here=process == 1)
    said["met"] = told(lambda: told_after_they_met(folder, process), here=False)

    def shards() -> int:
        return len(list((folder / "store" / f"part-{process}-of-2").glob("shard-*.npy")))

    slow, teacher, digits = PcaTeacher(0.3), PcaTeacher(), Digits()
    hosts.wait_for_all()
    said["embedding"] = told(lambda: embed(folder / "store", slow, digits), here=process == 1, once=lambda: shards() > 0)
    said["kept"] = shards()
    embed(folder / "store", teacher, digits)
    said["embedded later"] = len(teacher.batch_shapes)
    said["bits"] = np.int32(hosts.gathered(np.array([process])).ravel()).tolist()  # all of the job goes on in step
    (folder / f"{process}.json").write_text(json.dumps(said))
    if process == 1:
        time.sleep(hosts.SHUTDOWN_SECONDS + 3)  # as long after the other as JAX does not wait
    together.meet()


if __name__ == "__main__":
    main()
