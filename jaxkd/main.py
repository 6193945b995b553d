"""jaxkd distils teacher embeddings into small students.

  python -m jaxkd.main --config=configs/audio.py[:name=value,...] [--config.field=value ...] [--workdir=DIR] [--mode=MODE]

Modes:
  run         every stage that is not done yet: data, embeddings, training, evaluation, report (the default)
  precompute  fetch and prepare the data, embed it with the teacher
  train       precompute and train; Ctrl-C saves, the same command goes on
  evaluate    predict every split with the trained student and the teacher's probe
  compare     the methods and seeds of config.compare, run by run, and one table
  report      write the report of an evaluated run again
  cache       list what the cache holds, with licences; --remove=NAME,... or --remove=all removes

Fields of a config, which --config.FIELD=VALUE sets: default_config in jaxkd/config.py lists them. All of them, with their defaults:
  python -c "from jaxkd.config import default_config; print(default_config())"
A run keeps those that it has in WORKDIR/config.json.

Several hosts: the same command on each, with --distributed and a --workdir and --cache_dir that all of them share. On Cloud TPU, Slurm and Kubernetes
JAX finds the others; elsewhere name --coordinator=HOST:PORT, --num_processes and --process_id.

Exit status: 0 done, 2 bad usage or config, 3 bad or damaged data or artefact, 4 a process of the job lost or not come, 130 after Ctrl-C, 143 after SIGTERM.
"""

import contextlib
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn


def _exit_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """While libraries are being imported an exception could be swallowed; nothing is being written yet."""
    os.write(2, b"jaxkd: interrupted while starting; what was finished before is kept; the same command goes on from there.\n")
    os._exit(128 + number)


signal.signal(signal.SIGINT, _exit_at_once)
signal.signal(signal.SIGTERM, _exit_at_once)

from absl import app, flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from jaxkd import watch  # noqa: E402
from jaxkd.errors import ConfigError, JaxkdError, LostProcessError  # noqa: E402
from jaxkd.files import as_json, default_cache_dir, require_writable  # noqa: E402
from jaxkd.training.interrupt import interrupt  # noqa: E402

_LAST_SECONDS = 2
_SUGGESTED = re.compile(r'Did you mean "([^"]+)" instead of "([^"]+)"')
_NOT_BOOLEAN = re.compile(r"flag (--.*): \('Non-boolean argument to boolean flag', .*\)")
MODES = ("run", "precompute", "train", "evaluate", "compare", "report", "cache")

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment: a Python file with get_config(arg), its argument after a colon.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run (default: runs/NAME-FINGERPRINT).")
_CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Folder shared by runs (default: $JAXKD_CACHE_DIR, else jaxkd in the user's cache folder).")
_MODE = flags.DEFINE_enum("mode", "run", MODES, "What to do; see above.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "This is one process of a job on several hosts.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, where the cluster does not tell.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the job, with --coordinator.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0, with --coordinator.", lower_bound=0)
_JOIN_SECONDS = flags.DEFINE_integer("join_seconds", 300, "The job fails if a process is still missing after so many seconds.", lower_bound=1)
_HEARTBEAT_SECONDS = flags.DEFINE_integer("heartbeat_seconds", 20, "A process that does not answer for so long is lost, and the job ends.", lower_bound=1)
_REMOVE = flags.DEFINE_list("remove", [], "With --mode=cache: names of entries to remove, or all.")


def _run(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise ConfigError(f"unexpected argument {arguments[1]!r}: flags have the form --name=value.")
    cache_dir = Path(_CACHE_DIR.value) if _CACHE_DIR.value else default_cache_dir()
    if _REMOVE.value and _MODE.value != "cache":
        raise ConfigError("--remove goes with --mode=cache.")
    for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID):
        if flag.present and not _DISTRIBUTED.value:
            raise ConfigError(f"--{flag.name}={flag.value} goes with --distributed: add it, or this process would run alone.")
    if _MODE.value == "cache":
        from jaxkd.data import cache

        if _REMOVE.value:
            print(f"Removed from {cache_dir}:\n{cache.describe(cache.remove_entries(cache_dir, _REMOVE.value))}")
        else:
            print(f"{cache_dir}:\n{cache.describe(cache.list_entries(cache_dir))}")
        return
    if _CONFIG.value is None:
        raise ConfigError("--config is missing: for example --config=configs/audio.py.")
    from jaxkd import pipeline

    config = _CONFIG.value
    if _DISTRIBUTED.value and not watch.is_watched():
        sys.exit(watch.watch(_JOIN_SECONDS.value))
    refused = _refused(config)
    if refused is not None and not _DISTRIBUTED.value:
        raise refused
    workdir = Path(_WORKDIR.value) if _WORKDIR.value else pipeline.default_workdir(config, _MODE.value)
    if _MODE.value != "report":
        import jax  # noqa: F401
    if _DISTRIBUTED.value:
        _join()
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    if _DISTRIBUTED.value:
        _require_alike(config, workdir, cache_dir, refused)
    if _MODE.value == "compare":
        pipeline.compare(config, workdir, cache_dir)
    else:
        pipeline.run(config, workdir, cache_dir, mode=_MODE.value)
        _say_where(config, workdir, cache_dir)
    if _DISTRIBUTED.value:
        from jaxkd.together import meet

        meet()  # JAX itself waits for some seconds only for the last one to leave


def _say_where(config: Any, workdir: Path, cache_dir: Path) -> None:
    """What a mode before the report has made, and what comes next."""
    from jaxkd.hosts import index
    from jaxkd.methods import REFERENCES

    trained = f"nothing is trained with method {config.method}" if config.method in REFERENCES else f"the trained student is in {workdir / 'student'}"
    made = {"precompute": f"data and embeddings are in {cache_dir}", "train": trained, "evaluate": f"scores are in {workdir / 'evaluation.json'}"}
    following = {"precompute": "train", "train": "evaluate", "evaluate": "report"}
    if _MODE.value in made and index() == 0:
        print(f"Done: {made[_MODE.value]}. Next: the same command with --mode={following[_MODE.value]}, or without --mode for all that is left.")


def _refused(config: Any) -> ConfigError | None:
    """What is wrong with the config, as this process sees it; said at once in a job too, whose other processes hear of it when all have come."""
    from jaxkd import pipeline

    try:
        pipeline.check(config)
    except ConfigError as error:
        if _DISTRIBUTED.value:
            print(f"jaxkd: {error} The other processes of the job are told as soon as all have come (--join_seconds).", file=sys.stderr)
            watch.tell_parent(watch.REFUSED)
        return error
    return None


def _join() -> None:
    from jaxkd import hosts

    hosts.join(hosts.Job(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _JOIN_SECONDS.value, _HEARTBEAT_SECONDS.value))
    watch.tell_parent(watch.JOINED)


def _require_alike(config: Any, workdir: Path, cache_dir: Path, refused: ConfigError | None) -> None:
    """Sees that all processes of the job were started alike, and that none of them has `refused` its config."""
    from jaxkd import hosts
    from jaxkd.config import flatten
    from jaxkd.plugins import sources
    from jaxkd.together import failing_together
    from jaxkd.workdir import code

    hosts.require_equal_devices()
    hosts.require_connected()
    fields = flatten(as_json(config))
    started = {"--mode": _MODE.value, "--workdir": str(workdir), "--num_processes": _NUM_PROCESSES.value, **fields, **code(), **sources(fields.values())}
    hosts.require_same(started, "what is run")
    with failing_together():
        if refused is not None:
            raise refused
    for folder, flag in ((workdir, "workdir"), (cache_dir, "cache_dir")):
        with failing_together():
            if hosts.index() == 0:
                require_writable(folder, f"--{flag}")
        hosts.require_shared(folder, flag)


def _end_at_once(status: int) -> NoReturn:
    """Ends the process when all is saved, without the interpreter's clean-up, in which libraries that were broken off may crash.

    The coordinator of a job ends last, since all others end with it and should have said why before.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    if watch.is_watched():
        from jaxkd import hosts

        if hosts.in_job() and hosts.index() == 0:
            time.sleep(_LAST_SECONDS)
    os._exit(status)


def _parse_flags(arguments: list[str]) -> list[str]:
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in arguments[1:]):
        print(f"{__doc__}\nFlags:\n{flags.FLAGS.main_module_help()}")
        sys.exit(0)
    for argument in arguments[1:]:
        file = argument.removeprefix("--config=").partition(":")[0]
        if argument.startswith("--config=") and not Path(file).is_file():
            raise ConfigError(f"--config={file}: there is no such file in {Path.cwd()}.")
    try:
        left = flags.FLAGS(arguments)
        if _CONFIG.value is not None:
            _CONFIG.value.keys()  # a config file that could not be loaded raises only when it is read
        return left
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        raise ConfigError(_parse_message(error)) from error


def _parse_message(error: Exception) -> str:
    """What absl and ml_collections say of a bad flag, without the traceback that they put into it when jaxkd itself refused a value."""
    text = str(error.args[0] if isinstance(error, KeyError) else error).strip()
    not_boolean = _NOT_BOOLEAN.fullmatch(text)
    if not_boolean:
        return f"{not_boolean[1]}: write true or false."
    last = text.splitlines()[-1]
    if last.startswith("jaxkd.errors."):
        return last.partition(": ")[2]
    if "Traceback" in text:
        return text
    if text.startswith("'") and text.endswith("'"):
        text = text[1:-1].replace("\\n", " ").replace("\\'", "'")
    if suggested := _SUGGESTED.search(text):
        return f"{suggested[2]!r} is no field of the config. Did you mean {suggested[1]!r}? See --help."
    name = text.strip("'\"")
    if isinstance(error, KeyError | AttributeError) and name.isidentifier():
        return f"{name!r} is no field of the config (jaxkd/config.py lists them), or no key of what its file looks up. See --help."
    return " ".join(text.split()).rstrip(" .?") + ". See --help."


def main() -> None:
    """The command line; exits with the status that its help names."""
    try:
        app.run(_run, flags_parser=_parse_flags)
    except JaxkdError as error:
        print(f"jaxkd: {error}", file=sys.stderr)
        _end_at_once(error.exit_status)
    except KeyboardInterrupt:
        print("jaxkd: interrupted; finished stages are kept; the same command goes on from there.", file=sys.stderr)
        _end_at_once(130)
    except Exception as error:
        from jaxkd import hosts

        if not hosts.in_job():
            raise
        if hosts.is_of_a_lost_process(error):
            reason = str(error).strip().partition("\n")[0]
            print(f"jaxkd: another process of the job is lost ({reason}); {watch.GOES_ON}", file=sys.stderr)
            _end_at_once(LostProcessError.exit_status)
        traceback.print_exc()
        _end_at_once(1)


if __name__ == "__main__":
    main()
