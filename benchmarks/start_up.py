"""How long a user waits before anything is done: `import jaxkd`, `--help`, a config that is refused, each in a process of its own from its start to its end.

The claims: under 0.1 s, 0.5 s and 1 s, and JAX is not imported. The refused values are what the last checks of a config see. Also timed: the interpreter
alone, which is part of each, and a config that passes, up to the import of JAX.

Command: python -m benchmarks.start_up   (2 cores: a minute)
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.record import Figure, add_out, keep, of_repeats

ROOT = Path(__file__).parent.parent
MAIN = ("-m", "jaxkd.main")
ACCEPTED = "from configs.audio import get_config; from jaxkd import pipeline; pipeline.check(get_config())"
COMMANDS: dict[str, tuple[tuple[str, ...], int, dict[str, float]]] = {
    "interpreter alone": (("-c", "pass"), 0, {}),
    "import jaxkd": (("-c", "import jaxkd"), 0, {"at_most": 0.1}),
    "--help": ((*MAIN, "--help"), 0, {"at_most": 0.5}),
    "audio config, refused": ((*MAIN, "--config=configs/audio.py", "--config.other.source=newsgroups"), 2, {"at_most": 1.0}),
    "text config, refused": ((*MAIN, "--config=configs/text.py", "--config.training.mixup_alpha=0.3"), 2, {"at_most": 1.0}),
    "audio config, accepted": (("-c", ACCEPTED), 0, {"at_most": 1.0}),
}
"""Arguments of the interpreter, the exit status, and what is asked of the seconds."""
HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "scipy", "sklearn", "matplotlib")


def ended(arguments: tuple[str, ...], status: int) -> subprocess.CompletedProcess[str]:
    """Runs the interpreter, which must end with the status."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(arguments)} ended with status {done.returncode} instead of {status}:\n{done.stderr}")
    return done


def imported(arguments: tuple[str, ...], status: int) -> list[str]:
    """The modules that are imported, as the interpreter lists them."""
    lines = ended(("-X", "importtime", *arguments), status).stderr.splitlines()
    return [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:") and "self [us]" not in line]


def main() -> None:
    """Measures, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    add_out(parser)
    settings = parser.parse_args()
    modules = {name: imported(arguments, status) for name, (arguments, status, _) in COMMANDS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(settings.repeats):
        for name, (arguments, status, _) in COMMANDS.items():
            started = time.perf_counter()
            ended(arguments, status)
            seconds[name].append(time.perf_counter() - started)
    figures = [of_repeats(name, seconds[name], "s", **asked) for name, (_, _, asked) in COMMANDS.items()]
    heavy = {name: sorted({module.partition(".")[0] for module in found} & set(HEAVY)) for name, found in modules.items()}
    figures.append(Figure("heavy packages imported by all of them", sum(map(len, heavy.values())), at_most=0))
    details = {"repeats": settings.repeats, "modules": {name: len(found) for name, found in modules.items()}, "heavy": heavy}
    sys.exit(keep("start_up", __doc__ or "", figures, details, settings.out))


if __name__ == "__main__":
    main()
