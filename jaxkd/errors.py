"""Named errors. Each carries the exit status of the command line and says what is wrong, with which value, and what to do."""

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any


class JaxkdError(Exception):
    """Base of all errors that jaxkd raises on purpose."""

    exit_status = 3


class ConfigError(JaxkdError, ValueError):
    """Bad usage or an impossible configuration."""

    exit_status = 2


class DataError(JaxkdError):
    """Input data that is missing, damaged or of the wrong kind."""


class ArtefactError(DataError):
    """An artefact of jaxkd (cache entry, store, checkpoint, workdir) that is damaged or belongs to something else."""


class FetchError(DataError):
    """An archive that could not be fetched or whose checksum differs."""


class ResourceError(JaxkdError):
    """Too little disk, memory or permission for the work asked for."""


class NonFiniteLossError(JaxkdError):
    """The loss is NaN or infinite: the message names the step, the loss terms and the batch's ids."""


class LostProcessError(JaxkdError):
    """Another process of the job is lost, or did not come: the same commands may go on."""

    exit_status = 4


class Interrupted(JaxkdError):
    """Ended by Ctrl-C (exit status 130) or SIGTERM (143), with everything saved."""

    def __init__(self, message: str, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> ConfigError:
    """The error for a name that is in no table: lists the valid names and shows the nearest."""
    valid = sorted(valid)
    return ConfigError(f"unknown {kind} {name!r}.{nearest(name, valid)} Valid: {', '.join(valid)}.")


def nearest(name: str, valid: Iterable[str]) -> str:
    """The hint at the valid name that is nearest to a wrong one, with a space before it; empty where none is near."""
    near = difflib.get_close_matches(str(name), sorted(valid), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def require_temperature(name: str, value: Any) -> None:
    """Raises ConfigError if a temperature is a number that is not finite and above 0; a traced value cannot be looked at, and passes."""
    if isinstance(value, numbers.Real) and not 0 < float(value) < math.inf:
        raise ConfigError(f"{name} is {value}: logits are divided by it, so it must be a finite number above 0; 1 leaves them as they are.")


def require_count(name: str, value: Any) -> None:
    """Raises ConfigError unless a number of things is an integer of at least 1."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ConfigError(f"{name} is {value!r}: pass an integer, at least 1 is needed.")
