"""Minutes of the main job: from an empty cache to the report, again with everything done, in tiny sizes, and the time to the first training step.

Command: python -m benchmarks.audio_job   (2 cores: nine minutes, 2 GB of memory; fetches 75 MB; needs 1 GB of disk, removed at the end)
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import Figure, add_out, keep

LIMITS = {"empty cache to report": 360.0, "again": 10.0, "runlocal": 40.0, "first training step": 10.0}


def command(config: str, workdir: Path, cache: Path, *arguments: str) -> list[str]:
    """The command line of a user."""
    return [sys.executable, "-m", "jaxkd.main", f"--config=configs/{config}", f"--workdir={workdir}", f"--cache_dir={cache}", *arguments]


def seconds(arguments: list[str]) -> float:
    """Wall time of a command that must end well."""
    started = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def seconds_to_first_step(arguments: list[str], workdir: Path) -> float:
    """Wall time from process start until the first step stands in the log."""
    started = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    log = workdir / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError(f"ended with status {process.returncode} before its first step")
        time.sleep(0.01)
    taken = time.perf_counter() - started
    process.communicate()
    return taken


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        whole = command("audio.py", Path(folder) / "whole", cache)
        results = {"empty cache to report": seconds(whole), "again": seconds(whole)}
        # the cache holds the packages, as after a first try; the data set of this size is rendered and embedded anew
        results["runlocal"] = seconds(command("audio.py:runlocal", Path(folder) / "tiny", cache))
        few = ("--mode=train", "--config.training.steps=3", "--config.training.warmup_steps=1", "--config.training.log_every_steps=1")
        seconds(command("audio.py", Path(folder) / "compile", cache, *few))
        results["first training step"] = seconds_to_first_step(command("audio.py", Path(folder) / "warm", cache, *few), Path(folder) / "warm")
        stages = json.loads((Path(folder) / "whole" / "timings.json").read_text())
    figures = [Figure(name, taken, "s", at_most=LIMITS[name]) for name, taken in results.items()]
    figures += [Figure(f"empty cache to report: {stage}", taken, "s") for stage, taken in stages.items()]
    sys.exit(keep("audio_job", __doc__ or "", figures, {"seconds": results, "limits": LIMITS, "stages": stages}, out))


if __name__ == "__main__":
    main()
