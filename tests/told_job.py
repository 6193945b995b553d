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
from pathlib import Path

import numpy as np

from jaxkd import hosts
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


def told(block, after: float = AFTER_S, *, number: int = signal.SIGTERM, here: bool) -> dict:
    """What comes of a block of which, after some seconds, this process is told to stop, or another one is."""
    timer = threading.Timer(after, os.kill, (os.getpid(), number))
    began = time.monotonic()
    if here:
        timer.start()
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


def embed(path: Path, seconds_per_batch: float) -> None:
    embed_in_job(PcaTeacher(seconds_per_batch), Digits(), path, batch_size=8, shard_rows=SHARD_ROWS)


def work_alone(folder: Path, process: int) -> None:
    """Process 1 works, in small steps, and process 0 waits for it."""
    with stopping_together():
        while process == 1 and not (folder / "enough").exists():
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
    said["embedding"] = told(lambda: embed(folder / "store", 0.3), 2.5, here=process == 1)
    said["kept"] = len(list((folder / "store" / f"part-{process}-of-2").glob("shard-*.npy")))
    teacher = PcaTeacher()
    embed_in_job(teacher, Digits(), folder / "store", batch_size=8, shard_rows=SHARD_ROWS)
    said["embedded later"] = len(teacher.batch_shapes)
    said["bits"] = np.int32(hosts.gathered(np.array([process])).ravel()).tolist()  # all of the job goes on in step
    (folder / f"{process}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
