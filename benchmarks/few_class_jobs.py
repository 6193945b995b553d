"""Minutes of the few-class jobs, from an empty cache but for the downloads to the report, and of one more student once its teacher is stored.

Command: python -m benchmarks.few_class_jobs   (2 cores: half an hour, 3 GB of memory; fetches 250 MB once into the user's cache; needs 1 GB of disk)
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.audio_job import command, seconds
from benchmarks.record import Figure, add_out, keep
from jaxkd.files import default_cache_dir

MINILM = "text.py:data=rotten_tomatoes,teacher=minilm"
JOBS = {
    "text": ("text.py", 180.0),
    "text, MiniLM fine-tuned": (MINILM, 1200.0),
    "text, one more student": (f"{MINILM},method=kd", 180.0),
    "image": ("image.py", 600.0),
}


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS), help="which of the jobs, in this order")
    add_out(parser)
    settings = parser.parse_args()
    chosen = settings.jobs
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        (cache / "packages").mkdir(parents=True)
        for archive in (default_cache_dir() / "packages").glob("*"):
            os.symlink(archive, cache / "packages" / archive.name)
        results, stages = {}, {}
        for number, job in enumerate(chosen):
            results[job] = seconds(command(JOBS[job][0], Path(folder) / f"run{number}", cache))
            stages[job] = json.loads((Path(folder) / f"run{number}" / "timings.json").read_text())
        for archive in (cache / "packages").glob("*"):
            if archive.is_file() and not archive.is_symlink() and not (default_cache_dir() / "packages" / archive.name).exists():
                shutil.move(archive, default_cache_dir() / "packages" / archive.name)
    figures = [Figure(job, results[job], "s", at_most=JOBS[job][1]) for job in chosen]
    sys.exit(keep("few_class_jobs", __doc__ or "", figures, {"stages": stages}, settings.out))


if __name__ == "__main__":
    main()
