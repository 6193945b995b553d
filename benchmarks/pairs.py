"""Sides of a comparison: processes of their own that answer by turns, one line in and one JSON line out, so that other load meets all of them.

Each keeps the memory that it frees, as `jaxkd.memory.keep_freed` has it: what that saves is not counted for jaxkd alone.
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

Ask = Callable[[str], Any]
KEEPING_FREED = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
"""Variables of glibc's malloc."""


@contextlib.contextmanager
def sides(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Ask]]:
    """Starts the sides; gives for each a function from a line to the answer. At the end all are told that no more comes, after an error they are killed."""
    with contextlib.ExitStack() as stack:
        started = {name: _start(stack, command) for name, command in commands.items()}
        yield {name: functools.partial(_answer, name, process) for name, process in started.items()}
        for process in started.values():
            process.communicate()


def _start(stack: contextlib.ExitStack, command: Sequence[str]) -> subprocess.Popen[str]:
    process = stack.enter_context(subprocess.Popen(command, env=os.environ | KEEPING_FREED, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    return process


def _answer(name: str, side: subprocess.Popen[str], line: str) -> Any:
    assert side.stdin is not None and side.stdout is not None
    side.stdin.write(f"{line}\n")
    side.stdin.flush()
    answer = side.stdout.readline()
    if not answer:
        raise SystemExit(f"the side {name} ended before it answered {line!r}: see above what it said.")
    return json.loads(answer)


def by_turns(ask: Mapping[str, Ask], parts: Sequence[str], repeats: int, calls: Mapping[str, int]) -> dict[str, dict[str, list[Any]]]:
    """What each side answers on each part, one answer a repeat; a round before the first, in which things are compiled, is not counted.

    Args:
      ask: from `sides`.
      parts: what is asked, each as "PART CALLS".
      repeats: rounds.
      calls: of a part in a row in one answer, 1 of those that are not in it.
    """
    rounds = [{part: {name: of_side(f"{part} {calls.get(part, 1)}") for name, of_side in ask.items()} for part in parts} for _ in range(1 + repeats)]
    return {part: {name: [answers[part][name] for answers in rounds[1:]] for name in ask} for part in parts}


def timed(call: Callable[[], Any], calls: int) -> dict[str, float]:
    """Seconds of a call, of the clock and of the processors; the mean of `calls` in a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        jax.block_until_ready(call())
    return {"wall_s": (time.perf_counter() - wall) / calls, "cpu_s": (time.process_time() - cpu) / calls}


def compared(answers: dict[str, list[dict[str, float]]], kind: str) -> dict[str, float]:
    """Median seconds of both sides, jaxkd and torch; of the ratios of the repeats the median, the lowest and the highest."""
    ratios = [ours[kind] / theirs[kind] for ours, theirs in zip(answers["jaxkd"], answers["torch"], strict=True)]
    middle = {name: statistics.median(answer[kind] for answer in side) for name, side in answers.items()}
    return {**middle, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def parser(doc: str | None, *, packages: str, repeats: int, threads: bool = False) -> argparse.ArgumentParser:
    """The options of a benchmark with peers.

    Args:
      doc: its docstring.
      packages: what the environment of the peers has, in words.
      repeats: how often each side is asked, unless the user says otherwise.
      threads: whether the number of processors can be chosen, see `use_threads`.
    """
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peer-python", required=True, help=f"Python of an environment with {packages}")
    options.add_argument("--repeats", type=int, default=repeats)
    if threads:
        options.add_argument("--threads", type=int, default=0, help="processors for each side, all if 0")
    return options


def use_threads(threads: int) -> None:
    """Keeps this process, and those that it starts, to so many processors; 0 for all."""
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
