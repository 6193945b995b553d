"""Devices: the mesh, where arrays lie, and the two wrappers of a pure step (jit with shardings, pmap)."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxkd.errors import ConfigError

DATA_AXIS = "data"


def row_keys(key: jax.Array, rows: int, axis_name: str | None) -> jax.Array:
    """One random key per row of the global batch, [rows]: equal however the batch is split over devices.

    Args:
      key: typed random key.
      rows: rows of this replica (all rows outside pmap).
      axis_name: the pmap axis, or None.
    """
    offset = 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(offset + np.arange(rows))


def to_host(tree: Any) -> Any:
    """The whole arrays of a pytree in host memory, one after the other; of what is split over the processes of a job, all of them must call it."""

    def fetch(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            return np.asarray(multihost_utils.process_allgather(x, tiled=True))
        return np.asarray(x)

    return jax.tree.map(fetch, tree)


@dataclass(frozen=True)
class Devices:
    """All devices as one axis, and how a pure step `f(state, batch, *, axis_name)` runs on them.

    Attributes:
      mode: "jit" (NamedSharding over a mesh; the step sees the global batch) or "pmap" (the step sees its rows and `axis_name`).
      mesh: one axis named "data".
      parameters: "replicated", or "sharded": between steps each device keeps its part of parameters and optimiser state alone.
    """

    mode: str
    mesh: Mesh
    parameters: str = "replicated"

    @classmethod
    def all(cls, mode: str = "jit", parameters: str = "replicated") -> "Devices":
        """Every device that JAX sees, those of a process side by side, so that its rows of a batch are consecutive."""
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        return cls(mode, Mesh(np.array(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,)), parameters)

    @property
    def axis_name(self) -> str | None:
        """The name of the mapped axis inside the step; None under jit."""
        return DATA_AXIS if self.mode == "pmap" else None

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of a value that every device holds whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    def require_divisible(self, batch_size: int, field: str, *, rows_each: int = 1) -> None:
        """Raises ConfigError unless `batch_size * rows_each` rows split evenly over the devices; names the next batch sizes that do."""
        unit = self.mesh.size // math.gcd(self.mesh.size, rows_each)
        if batch_size % unit:
            fitting = " and ".join(str(size) for size in (batch_size // unit * unit, -(-batch_size // unit) * unit) if size)
            raise ConfigError(
                f"config.{field} is {batch_size}: a batch of {batch_size * rows_each} rows does not split over {self.mesh.size} devices; {fitting} would."
            )

    def own_rows(self, rows: int) -> slice:
        """The rows of a global batch of `rows` that lie on the devices of this process."""
        each = rows // jax.process_count()
        return slice(jax.process_index() * each, (jax.process_index() + 1) * each)

    def replicate(self, tree: Any) -> Any:
        """Places a copy of each array of a pytree on every device; all processes bring the same."""
        return self._placed(tree, self.replicated)

    def shard(self, batch: Any) -> Any:
        """Splits the leading axis of each array of a pytree over the devices; each process brings its own rows."""
        if self.mode == "pmap":
            own = Mesh(np.array(self.mesh.local_devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))
            by_device = jax.tree.map(lambda x: np.asarray(x).reshape(own.size, x.shape[0] // own.size, *x.shape[1:]), batch)
            return jax.device_put(by_device, NamedSharding(own, PartitionSpec(DATA_AXIS)))
        return self._placed(batch, NamedSharding(self.mesh, PartitionSpec(DATA_AXIS)))

    def _placed(self, tree: Any, sharding: NamedSharding) -> Any:
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)

    def place_parameters(self, tree: Any) -> Any:
        """Places whole parameters, or an optimiser's state of them, as they lie between steps; all processes bring the same."""
        if self.parameters == "replicated":
            return self.replicate(tree)
        return jax.tree.map(lambda x, sharding: jax.make_array_from_callback(x.shape, sharding, x.__getitem__), tree, self.parameter_shardings(tree))

    def parameter_shardings(self, tree: Any) -> Any:
        """How parameters, or an optimiser's state of them, lie between steps, for a pytree of arrays or of their shapes.

        Sharded, each array is split along the longest axis that the devices divide; where none does, every device holds it whole.
        """

        def of(x: Any) -> NamedSharding:
            fitting = [axis for axis, size in enumerate(x.shape) if size % self.mesh.size == 0]
            if self.parameters == "replicated" or not fitting:
                return self.replicated
            longest = max(fitting, key=lambda axis: x.shape[axis])
            return NamedSharding(self.mesh, PartitionSpec(*[None] * longest, DATA_AXIS))

        return jax.tree.map(of, tree)

    def gather_parameters(self, params: Any) -> Any:
        """The parameters inside a step, whole on every device."""
        return params if self.parameters == "replicated" else jax.lax.with_sharding_constraint(params, self.replicated)

    def by_rows(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function inside a step, where every device computes it on its own rows alone.

        What XLA does not split over devices under jit, such as the Fourier transform, is else computed on every device for the whole batch, gathered before.

        Args:
          function: of pytrees of arrays with one leading axis of rows, each treated by itself, to the same.
        """
        if self.mode == "pmap" or self.mesh.size == 1:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=PartitionSpec(DATA_AXIS), out_specs=PartitionSpec(DATA_AXIS))

    def between_rows(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function inside a step, given the name of an axis over which rows are split under jit too, where there are several devices.

        What XLA splits by itself it may send as matrices of pairs of rows; with the axis, what crosses is what the function gathers and sums.

        Args:
          function: f(whole, rows, *, axis_name), of a pytree that every device has whole and one of arrays with a leading axis of rows, to what is equal on
            all devices.
        """
        if self.mode == "pmap" or self.mesh.size == 1:
            return function
        bound, specs = functools.partial(function, axis_name=DATA_AXIS), (PartitionSpec(), PartitionSpec(DATA_AXIS))
        return jax.shard_map(bound, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False)

    def compile(self, step: Callable[..., Any], *, updates: Any = None) -> Callable[..., Any]:
        """Compiles `step(state, batch, *, axis_name)` to `f(state, batch)`.

        Args:
          step: its results are equal on all devices.
          updates: a placed state, where the results are such a state and something else: the new one lies as the old one, and under jit in its memory, so
            that the old one can be used no more.
        """
        bound = functools.partial(step, axis_name=self.axis_name)
        if self.mode == "pmap":
            mapped = jax.pmap(bound, axis_name=DATA_AXIS, in_axes=(None, 0), out_axes=None, devices=list(self.mesh.devices.flat))
            return mapped if updates is None or jax.process_count() == 1 else functools.partial(self._of_the_job, mapped)
        if updates is None:
            return jax.jit(bound, out_shardings=self.replicated)
        return jax.jit(bound, donate_argnums=0, out_shardings=(jax.tree.map(lambda x: x.sharding, updates), self.replicated))

    def _of_the_job(self, mapped: Callable[..., Any], state: Any, batch: Any) -> Any:
        """A step by pmap, whose state is made one of all processes: pmap gives each process an array of its own."""

        def joined(x: jax.Array) -> jax.Array:
            own = {shard.device: shard.data for shard in x.addressable_shards}
            first = next(iter(own.values()))
            copies = [own[device] if device in own else jax.device_put(first, device) for device in self.mesh.local_devices]
            return jax.make_array_from_single_device_arrays(x.shape, self.replicated, copies)

        after, terms = mapped(state, batch)
        return jax.tree.map(joined, after), terms
