"""Locks between processes."""

import subprocess
import sys
import threading

from jaxkd.files import exclusive

HOLD = """
import sys
from jaxkd.files import exclusive
with exclusive(sys.argv[1], "store", "embedding"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(folder):
    """A process that holds the lock of a store in a folder until it is sent a line."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_one_process_at_a_time_and_others_say_that_they_wait(tmp_path, capsys):
    entered = threading.Event()

    def enter():
        with exclusive(tmp_path, "store", "embedding"):
            entered.set()

    with hold(tmp_path) as process:
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(0.3)
        process.communicate("go on\n", timeout=20)
        assert entered.wait(20)
        waiting.join()
    assert f"Another process is embedding ({tmp_path}): waiting for it." in capsys.readouterr().err


def test_other_names_are_free_and_the_lock_of_a_killed_process_too(tmp_path, capsys):
    with hold(tmp_path) as process:
        with exclusive(tmp_path, "other", "embedding"):
            pass
        process.kill()
        process.wait(timeout=20)
    with exclusive(tmp_path, "store", "embedding"):
        pass
    assert not capsys.readouterr().err
