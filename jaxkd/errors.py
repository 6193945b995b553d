"""Named errors. Each carries the exit status of the command line and says what is wrong, with which value, and what to do."""

import difflib
from collections.abc import Iterable


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


class Interrupted(JaxkdError):
    """Ended by Ctrl-C (exit status 130) or SIGTERM (143), with everything saved."""

    def __init__(self, message: str, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> ConfigError:
    """The error for a name that is in no table: lists the valid names and shows the nearest."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown {kind} {name!r}.{hint} Valid: {', '.join(valid)}.")
