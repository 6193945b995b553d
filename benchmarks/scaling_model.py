"""A model of time on a TPU v5e-256 pod and on 64 H100: a training step of two students, and the class moments of LELP over 1e9 embeddings.

Nothing of it is measured: the sizes are those of our networks and our code, the rates are those of the vendors, and the shares of them that are reached are
assumptions. Each is a named constant below.

Command: python -m benchmarks.scaling_model   (half a minute; nothing is trained or compiled)
"""

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.growth import growth_plot
from benchmarks.record import Figure, add_out, keep
from jaxkd import students
from jaxkd.lelp.accumulator import block_rows
from jaxkd.models.bert import BertConfig, SentenceClassifier
from jaxkd.models.macs import count_macs
from jaxkd.results.document import Plot

# Shares of the peak rates that are reached: assumptions, not measurements.
COMPUTE_SHARE = 0.3  # of the bfloat16 peak, by convolutions of 128 to 512 channels and layers of width 384
PRODUCT_SHARE = 0.6  # of the peak, by products of 4096 x 4096
MEMORY_SHARE = 0.7
NETWORK_SHARE = 0.7
ACCESSES = 5  # of each activation in device memory: written and read forward; read, its gradient written and read backward
BACKWARD = 2  # times the multiply-adds of the forward pass
OPTIMISER_ACCESSES = 7  # of float32 parameters by AdamW: parameter, gradient, two moments read, three of them written
LOSS_COLLECTIVES = 30  # small ones of a step with a distance, beside those of batch normalisation; there are about 12
READ_BYTES_PER_S = 2e9  # of a host from its storage


class Machine(NamedTuple):
    """Devices and what they reach at best, per device.

    Attributes:
      flops: bfloat16 products, FLOP/s.
      flops_float32: products in full float32 (`precision="highest"`), FLOP/s.
      memory: bytes/s of device memory.
      memory_bytes: its size.
      devices_per_host: devices that share a host.
      host_link: bytes/s between host and device, one way.
      latency: f(devices) -> seconds of a small all-reduce over them.
      all_reduce: f(bytes, devices) -> seconds at full rate; all_gather: f(bytes of the result, devices).
    """

    name: str
    devices: int
    flops: float
    flops_float32: float
    memory: float
    memory_bytes: float
    devices_per_host: int
    host_link: float
    latency: Callable[[int], float]
    all_reduce: Callable[[float, int], float]
    all_gather: Callable[[float, int], float]


# TPU v5e: Cloud TPU documentation, page "TPU v5e": 197 TFLOP/s in bfloat16, 819 GB/s, 400 GB/s of ICI a chip in both directions together, a torus of
# 16 x 16, 4 chips a host where a slice has several hosts. Full float32 is 6 bfloat16 passes. PCIe 15 GB/s, 1 us a hop, and no links round a side of fewer
# than 16, where data go one way along each axis and at half the rate: "How to Scale Your Model" (Austin et al. 2025), chapter on TPUs.
ICI_OUT = 400e9 / 2
ICI_HOP_SECONDS, TORUS_SIDE = 1e-6, 16


def _round(devices: int) -> bool:
    """Whether a square of v5e chips has links round its sides."""
    return devices == TORUS_SIDE**2


def _ici(share_sent: float) -> Callable[[float, int], float]:
    return lambda size, devices: share_sent * size * (devices - 1) / devices / (ICI_OUT if _round(devices) else ICI_OUT / 2)


def _hops(devices: int) -> float:
    """There and back along both axes: half way round, or from end to end."""
    return 2 * 2 * (math.sqrt(devices) / 2 if _round(devices) else math.sqrt(devices) - 1)


V5E = Machine(
    name="TPU v5e-256",
    devices=TORUS_SIDE**2,
    flops=197e12,
    flops_float32=197e12 / 6,
    memory=819e9,
    memory_bytes=16e9,
    devices_per_host=4,
    host_link=15e9,
    latency=lambda devices: _hops(devices) * ICI_HOP_SECONDS,
    all_reduce=_ici(2),
    all_gather=_ici(1),
)

# H100 SXM: NVIDIA H100 data sheet: 989.4 TFLOP/s in bfloat16 without sparsity, 67 TFLOP/s in float32, 3.35 TB/s, NVLink 900 GB/s in both directions together,
# PCIe 64 GB/s one way. DGX H100: 8 GPUs a node, one 400 Gb/s InfiniBand card each. The latency is an assumption for NCCL over 8 nodes.
NVLINK_OUT, INFINIBAND_OUT, NODE = 900e9 / 2, 400e9 / 8, 8
NCCL_SECONDS = 30e-6


def _gather_in_nodes(size: float, devices: int) -> float:
    """Each card gathers its own part over the nodes, then the parts of a node are gathered inside it."""
    nodes = devices // NODE
    return size / NODE * (nodes - 1) / nodes / INFINIBAND_OUT + size * (NODE - 1) / NODE / NVLINK_OUT


def _reduce_in_nodes(size: float, devices: int) -> float:
    """Scatter inside a node, ring over the nodes, gather inside a node: the scatter costs what the gather does."""
    return 2 * _gather_in_nodes(size, devices)


H100 = Machine(
    name="64 x H100",
    devices=64,
    flops=989.4e12,
    flops_float32=67e12,
    memory=3.35e12,
    memory_bytes=80e9,
    devices_per_host=NODE,
    host_link=64e9,
    latency=lambda devices: NCCL_SECONDS,
    all_reduce=_reduce_in_nodes,
    all_gather=_gather_in_nodes,
)


class Student(NamedTuple):
    """A student, its share of the batch, and what comes with its method.

    Attributes:
      network: module.
      inputs: of one device, its batch first.
      embedding: D of the teacher; the vectors of the whole batch are gathered if `coupled`, as distances need them.
      example_bytes: of an example on its way from the host.
    """

    name: str
    network: Any
    inputs: jax.ShapeDtypeStruct
    embedding: int
    coupled: bool
    example_bytes: int


ROWS, FRAMES, BANDS = 16, 1000, 128
TOKENS = 128
MINILM = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
STUDENTS = (
    Student("CP-ResNet", students.build("cp_resnet", num_outputs=20), jax.ShapeDtypeStruct((ROWS, FRAMES, BANDS), jnp.float32), 1506, True, 2 * 160_000),
    Student("MiniLM-L6", SentenceClassifier(MINILM, num_outputs=20), jax.ShapeDtypeStruct((64, TOKENS), jnp.int32), 4096, False, 4 * TOKENS),
)


class Sizes(NamedTuple):
    """What a step of a student is made of on one device: parameters, multiply-adds forward, activation elements, width of the features, layers that reduce."""

    parameters: int
    macs: int
    activations: int
    features: int
    batch_norms: int


def sizes(student: Student) -> Sizes:
    """Counted from shapes alone."""
    variables = jax.eval_shape(lambda x: student.network.init(jax.random.key(0), x, train=False), student.inputs)

    def forward(variables: Any, inputs: jax.Array) -> Any:
        return student.network.apply(variables, inputs, train=False, capture_intermediates=True, mutable=["intermediates"])

    outputs, kept = jax.eval_shape(forward, variables, student.inputs)
    return Sizes(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        macs=count_macs(lambda v, x: student.network.apply(v, x, train=False).logits, variables, student.inputs),
        activations=sum(leaf.size for leaf in jax.tree.leaves(kept)),
        features=outputs.features.shape[-1],
        batch_norms=len(jax.tree.leaves(variables.get("batch_stats", {}))) // 2,
    )


def step(student: Student, machine: Machine) -> dict[str, Any]:
    """Seconds of one step, of what it is made of, and of reading its examples from storage, which is done ahead, on all devices of a machine."""
    own, rows = sizes(student), student.inputs.shape[0]
    batch = rows * machine.devices
    vectors = batch * (own.features * 2 + student.embedding) * 4 if student.coupled else 0
    # distances: one Gram matrix a side and one product of its gradient with the rows, the rows of the matrices split over the devices
    pairs = 4 * batch**2 * (own.features + student.embedding) / machine.devices if student.coupled else 0
    flops = 2 * own.macs * (1 + BACKWARD)
    small = 2 * own.batch_norms + (LOSS_COLLECTIVES if student.coupled else 4)
    seconds = {
        "compute": flops / (machine.flops * COMPUTE_SHARE) + pairs / (machine.flops_float32 * COMPUTE_SHARE),
        "memory": (2 * ACCESSES * own.activations + 4 * OPTIMISER_ACCESSES * own.parameters) / (machine.memory * MEMORY_SHARE),
        "parameters": machine.all_reduce(4 * own.parameters, machine.devices) / NETWORK_SHARE,
        "vectors": machine.all_gather(vectors, machine.devices) / NETWORK_SHARE,
        "latency": small * machine.latency(machine.devices),
    }
    read = student.example_bytes * rows * machine.devices_per_host / READ_BYTES_PER_S
    alone = max(seconds["compute"], seconds["memory"])
    network = seconds["parameters"] + seconds["vectors"] + seconds["latency"]
    return {
        "student": student.name,
        "machine": machine.name,
        "batch": batch,
        "parameters": own.parameters,
        "gflop_per_device": (flops + pairs) / 1e9,
        "gradient_mb": 4 * own.parameters / 1e6,
        "vector_mb": vectors / 1e6,
        "small_collectives": small,
        "seconds": {**seconds, "step": alone + network, "step_overlapped": max(alone, network), "read": read},
        "efficiency": alone / (alone + network),
        "examples_per_s": batch / (alone + network),
        "host_mb_per_s": student.example_bytes * rows * machine.devices_per_host / (alone + network) / 1e6,
    }


def growth() -> Plot:
    """Seconds of a step over devices, with the same rows on each; the machines from one host, or a square torus of 4 chips, to their whole size."""
    counts = {V5E: (4, 16, 64, V5E.devices), H100: (NODE, 2 * NODE, 4 * NODE, H100.devices)}
    panels = {
        f"devices, {machine.name}": {
            student.name: (devices, [step(student, machine._replace(devices=count))["seconds"]["step"] for count in devices]) for student in STUDENTS
        }
        for machine, devices in counts.items()
    }
    return growth_plot("A step over devices, each with the same rows: a model", "scaling_model", panels)


def moments(machine: Machine, rows: float, dim: int, classes: int, devices_used: int) -> dict[str, Any]:
    """Seconds of `class_moments` and `merge_processes`, with one process for each of the devices that are used, each with one device at work.

    A block of rows goes to the device, its product comes back and is added up on the host.
    """
    block = block_rows(classes + 2, dim)
    own_rows = rows / devices_used
    hosts = machine.devices // machine.devices_per_host
    merged = 4 * classes * (dim**2 + machine.devices * (1 + dim))
    seconds = {
        "read": 2 * rows * dim / hosts / READ_BYTES_PER_S,
        "compute": 2 * own_rows * dim**2 / (machine.flops_float32 * PRODUCT_SHARE),
        "host_link": own_rows * (4 * dim + 4 * dim**2 / block) / machine.host_link,
        "merge": machine.all_reduce(merged, machine.devices) / NETWORK_SHARE,
    }
    return {
        "machine": machine.name,
        "classes": classes,
        "devices_used": devices_used,
        "read_tb": 2 * rows * dim / 1e12,
        "pflop_symmetric": rows * dim * (dim + 1) / 1e15,
        "pflop_done": 2 * rows * dim**2 / 1e15,
        "state_gb": classes * dim**2 * 4 / 1e9,
        "merge_gb": merged / 1e9,
        "fits": 3 * merged < machine.memory_bytes,
        "seconds": seconds,
        "slowest": max(seconds, key=seconds.__getitem__),
    }


def main() -> None:
    """Prints both tables, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e9)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 20, 100])
    add_out(parser)
    settings = parser.parse_args()
    steps = [step(student, machine) for student in STUDENTS for machine in (V5E, H100)]
    print("A model, not a measurement. One training step, milliseconds:")
    columns = ("compute", "memory", "parameters", "vectors", "latency", "step", "step_overlapped", "read")
    print(f"{'student':10} {'machine':12}{'batch':>7}{'GFLOP':>8}{'MB grad':>9}{'MB vec':>8}" + "".join(f"{name:>16}" for name in columns))
    for row in steps:
        numbers = f"{row['batch']:>7}{row['gflop_per_device']:>8.0f}{row['gradient_mb']:>9.1f}{row['vector_mb']:>8.1f}"
        print(f"{row['student']:10} {row['machine']:12}{numbers}" + "".join(f"{1e3 * row['seconds'][name]:>16.3f}" for name in columns))
    for row in steps:
        rates = f"{row['examples_per_s']:,.0f} examples/s, {row['host_mb_per_s']:,.0f} MB/s into each host"
        print(f"{row['student']:10} {row['machine']:12} {row['efficiency']:.0%} of the time without a network is kept; {rates}")
    fits = [
        moments(m, settings.rows, settings.dim, c, used) for m in (V5E, H100) for c in settings.classes for used in (m.devices // m.devices_per_host, m.devices)
    ]
    print(f"\nClass moments of {settings.rows:.0e} x {settings.dim} embeddings in float16, seconds; one process for each device that is used:")
    columns = ("read", "compute", "host_link", "merge")
    print(f"{'machine':12}{'used':>5}{'classes':>8}{'state GB':>10}{'merged GB':>10}" + "".join(f"{name:>11}" for name in columns) + "  slowest")
    for row in fits:
        numbers = f"{row['devices_used']:>5}{row['classes']:>8}{row['state_gb']:>10.2f}{row['merge_gb']:>10.2f}"
        note = row["slowest"] if row["fits"] else "does not fit a device"
        print(f"{row['machine']:12}{numbers}" + "".join(f"{row['seconds'][name]:>11.3f}" for name in columns) + f"  {note}")
    first = fits[0]
    print(f"{first['read_tb']:.1f} TB read once; {first['pflop_symmetric']:.1f} PFLOP as a symmetric update, {first['pflop_done']:.1f} as XLA's product")
    figures = [Figure(f"{row['student']} on {row['machine']}: a step", 1e3 * row["seconds"]["step"], "ms") for row in steps]
    figures += [
        Figure(f"moments of {row['classes']} classes, {row['devices_used']} devices of {row['machine']}: {row['slowest']}", max(row["seconds"].values()), "s")
        for row in fits
    ]
    sys.exit(keep("scaling_model", __doc__ or "", figures, {"model": True, "steps": steps, "moments": fits}, settings.out, blocks=[growth()]))


if __name__ == "__main__":
    main()
