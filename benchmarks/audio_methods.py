"""Does a distilled student beat the one trained on labels alone, on the sound bank that training never heard?

Runs the comparison of configs/audio.py (or shows it, where it is done) and prints mAP with the paired difference from `baseline` and its 95 % interval over
clips and seeds.

Command: python -m benchmarks.audio_methods --workdir=DIR [--config.field=value ...]   (2 cores: about half an hour, resumable)
"""

import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Prints a table and one JSON line."""
    workdir = next((Path(argument.partition("=")[2]) for argument in sys.argv[1:] if argument.startswith("--workdir=")), None)
    if workdir is None:
        sys.exit("--workdir=DIR is missing: the runs and the table go there.")
    command = [sys.executable, "-m", "jaxkd.main", "--config=configs/audio.py", "--mode=compare", *sys.argv[1:]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = [row for row in json.loads((workdir / "report.json").read_text())["rows"] if row["metric"] == "map"]
    results = {}
    print(f"{'split':8}{'method':12}{'runs':>5}{'mAP':>8}   minus baseline")
    for row in rows:
        versus = row["versus"].get("baseline")
        gap = "" if versus is None else f"{versus['difference']:+.3f} [{versus['ci95'][0]:+.3f}, {versus['ci95'][1]:+.3f}]"
        print(f"{row['split']:8}{row['method']:12}{row['n']:5}{row['mean']:8.3f}   {gap}")
        results[f"{row['split']}/{row['method']}"] = {"mean": row["mean"], "n": row["n"], "versus_baseline": versus}
    reached = any(results[f"unseen/{method}"]["versus_baseline"]["ci95"][0] > 0 for method in ("east", "compressed"))
    print(json.dumps({"benchmark": "audio_methods", "map": results, "reached": reached}))
    sys.exit(not reached)


if __name__ == "__main__":
    main()
