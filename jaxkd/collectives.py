"""The collectives of a compiled program, read off its HLO text: what crosses the network between devices, and how many bytes of it."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

_SENT_PER_BYTE: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda devices: 2 * (devices - 1) / devices,
    "all-gather": lambda devices: devices - 1,
    "reduce-scatter": lambda devices: (devices - 1) / devices,
    "all-to-all": lambda devices: (devices - 1) / devices,
    "ragged-all-to-all": lambda devices: (devices - 1) / devices,
    "collective-permute": lambda devices: 1,
    "collective-broadcast": lambda devices: 1,
}
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?(?P<name>[\w.-]+) = (?P<type>[^=]*?) ?\b(?P<opcode>[a-z][a-z0-9-]*)\((?P<rest>.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d[a-z0-9]*)\[([^\]]*)\]")
_PARTITIONS = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_MESH = re.compile(r"replica_groups=\w*mesh\w*\[(?P<sizes>[^\]]*)\]\s*\{(?P<axes>[^}]*)\}")
_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=")
_LISTED = re.compile(r"replica_groups=\{\{([\d, ]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{(.*?)\}\}")
_WORD = re.compile(r"[\w.-]+")
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Operand(NamedTuple):
    """One array of a collective, as each device brings it.

    Attributes:
      dtype: as HLO writes it, such as "f32".
      shape: of the part of this device.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size; types below a byte are packed."""
        bits = 8 if self.dtype == "pred" else int(re.findall(r"\d+", self.dtype)[0])
        return -(-math.prod(self.shape) * bits // 8)


class Collective(NamedTuple):
    """One collective operation of a program.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute" or "collective-broadcast".
      operands: what each device brings, in order.
      devices: of one group, over which it runs.
      source: the operations of the program that it comes from, as JAX names them.
    """

    kind: str
    operands: tuple[Operand, ...]
    devices: int
    source: str

    @property
    def bytes(self) -> int:
        """What each device brings."""
        return sum(operand.bytes for operand in self.operands)

    @property
    def result_bytes(self) -> int:
        """What each device has afterwards, at most: a gather ends with the parts of all devices, a scatter with its own."""
        scale = {"all-gather": self.devices, "reduce-scatter": 1 / self.devices}.get(self.kind, 1)
        return round(self.bytes * scale)

    @property
    def sent_bytes(self) -> float:
        """What each device sends if its group forms a ring (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).

        2 (n - 1) / n of an all-reduce, n - 1 times its part of an all-gather, (n - 1) / n of a scatter.
        """
        return self.bytes * _SENT_PER_BYTE[self.kind](self.devices) if self.devices > 1 else 0.0


def _operands(type_text: str) -> tuple[Operand, ...]:
    return tuple(Operand(dtype, tuple(int(size.strip(" <=")) for size in sizes.split(",") if size.strip())) for dtype, sizes in _ARRAY.findall(type_text))


def _group_size(attributes: str, all_devices: int) -> int:
    """Devices of a group: listed, as an iota [groups,size], as axes of a mesh, or all."""
    if mesh := _MESH.search(attributes):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh["sizes"]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh["axes"])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if iota := _IOTA.search(attributes):
        return int(iota[2])
    if listed := _LISTED.search(attributes):
        return listed[1].count(",") + 1
    if pairs := _PAIRS.search(attributes):
        return len(set(re.findall(r"\d+", pairs[1])))
    return all_devices


def _arguments(rest: str) -> tuple[str, str]:
    """The text up to the bracket that closes the operands, and what comes after it."""
    depth = 1
    for place, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if not depth:
            return rest[:place], rest[place:]
    return rest, ""


def collectives(hlo: str) -> list[Collective]:
    """The collectives of a program in the order of its text; those in a loop are listed once, an asynchronous pair (-start, -done) is one.

    Args:
      hlo: the optimised program of one device, from `jax.jit(f).lower(...).compile().as_text()`; of pmap too.
    """
    all_devices = math.prod(int(count) for count in _PARTITIONS.findall(hlo.partition("\n")[0]))
    types: dict[str, str] = {}
    found = []
    for line in hlo.splitlines():
        instruction = _INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line))
        if instruction is None:
            continue
        types[instruction["name"]] = instruction["type"]
        kind = instruction["opcode"].removesuffix("-start")
        if kind not in _SENT_PER_BYTE:
            continue
        arguments, attributes = _arguments(instruction["rest"])
        operands = tuple(operand for word in _WORD.findall(arguments) for operand in _operands(types.get(word, "")))
        source = _SOURCE.search(attributes)
        found.append(Collective(kind, operands, _group_size(attributes, all_devices), source[1] if source else ""))
    return found
