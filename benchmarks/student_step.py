"""Loss and gradients of the students against the same networks in torch, and what of a step is convolution: forward and backward of one batch, float32.

The torch side takes the faster of its two memory layouts, for a network and its convolutions the same. The sides take turns within each repeat, in processes
of their own, and the ratio is that of a repeat: jaxkd / torch; a short part is the mean of several calls. "NAME.convolutions" is every convolution of that
network by itself, value and gradients (of the first the kernel's alone), one after the other, asked right after the network itself; the rest of the network
is the difference of the medians. The floor is three times the forward multiply-adds at the rate of one bare product of the faster side. Beside it stand what
XLA counts of each compiled part, and the least time for that: `benchmarks.floor`, at the rates of the product and the copy that are timed among the parts.
The claims: at most 1.5 times the time of torch for Mobile FCN and 1.3 for CP-ResNet and ResNet; no more than torch where nothing is convolved: the text
transformer, its attention, batch normalisation with ReLU (that of CP-ResNet and Mobile FCN), max-pooling, the rest of each network; at most 1.3 times
torch's time for each network if its convolutions took as long as torch's. The figures go to benchmarks/results/student_step.json and .md.

Command: python -m benchmarks.student_step --peer-python=PYTHON   (the Python of an environment with torch; 2 cores: 8 minutes, 8 GB of memory)
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import floor
from benchmarks.pairs import by_turns, compared, parser, sides, timed, use_threads
from benchmarks.record import Figure, add_out, keep, peer_versions
from jaxkd import students
from jaxkd.memory import keep_freed
from jaxkd.models.attention import attention
from jaxkd.models.batch_norm import BatchNorm
from jaxkd.models.convolution import convolve
from jaxkd.models.depthwise import depthwise_conv
from jaxkd.models.macs import count_macs, equations
from jaxkd.models.pooling import max_pool
from jaxkd.results.document import Table, Text
from jaxkd.xla_flags import convolve_on_all_cores

OUTPUTS = 10
STUDENTS = {
    "cp_resnet_small": (64, 94, 64),
    "cp_resnet": (4, 1000, 128),
    "mobile_fcn": (16, 1457, 96),
    "resnet20": (128, 28, 28, 1),
    "mobilenet_half": (64, 32, 32, 3),
    "text_transformer": (128, 64),
}
"""Shapes of the inputs: rows, then frames and bands, height, width and channels, or tokens."""
CONVOLUTIONAL = tuple(name for name in STUDENTS if name != "text_transformer")
UNUSED = {"text_transformer": 2 * 64}
"""Parameters that torch has beyond ours: biases of the keys, whose gradient is 0."""
WITHOUT_CONVOLUTION = ("attention", "batch_norm", "max_pool")
IN_TURN = tuple(part for name in STUDENTS for part in (name, f"{name}.convolutions") if part in STUDENTS or name in CONVOLUTIONAL)
RATES = ("product", "copy")
PARTS = (*IN_TURN, "depthwise", *WITHOUT_CONVOLUTION, *RATES)
CALLS = {"attention": 5, "batch_norm": 10, "max_pool": 10, "product": 3, "copy": 3}
"""Calls of a part in a row that are timed as one in each repeat; 1 of the others."""
ASKED = {"mobile_fcn": 1.5, "cp_resnet_small": 1.3, "cp_resnet": 1.3, "resnet20": 1.3, "text_transformer": 1.0} | dict.fromkeys(WITHOUT_CONVOLUTION, 1.0)
"""The ratio that a part may have at most; the other parts are information."""
REST, EXCHANGED = 1.0, 1.3
"""The ratio that a network may have at most without its convolutions, and with those of torch."""
KINDS = ("wall_s", "cpu_s")
SHOWN = {"jaxkd": 2, "torch": 2, "rest_jaxkd_s": 4, "rest_torch_s": 4}
"""What is shown of the shares, and to how many decimals."""
ELSEWHERE = (
    "A convolution of jaxkd is XLA's, on a CPU Eigen's where torch calls oneDNN (jaxlib 0.10.2 by itself YNNPACK, on one core: jaxkd turns it off). "
    "On a GPU XLA hands convolutions and their gradients to cuDNN, as torch does, and on a TPU they are products in its matrix unit: what jaxkd makes by hand "
    "is for the CPU alone."
)
MAP, TOKENS = (128, 28, 28, 16), (128, 64, 2, 32)
"""Shapes of what batch normalisation and max-pooling, and of what attention take."""
DEPTHWISE = {"rows": 16, "height": 121, "width": 24, "into": 128, "out": 128, "size": 3, "stride": 1, "groups": 128}
"""Of the largest depthwise convolution of Mobile FCN."""


def normal(*shape: int) -> jax.Array:
    """Standard normal numbers, the same at each call."""
    return jax.random.normal(jax.random.key(math.prod(shape)), shape)


def network(name: str) -> tuple[Any, Callable[[], Any], Callable[[], jax.Array]]:
    """A student, and what draws its variables and a batch."""
    shape = STUDENTS[name]
    student = students.build(name, num_outputs=OUTPUTS)

    def draw(rows: int = shape[0]) -> jax.Array:
        wanted = (rows, *shape[1:])
        return jax.random.randint(jax.random.key(0), wanted, 1, 16_384) if name == "text_transformer" else normal(*wanted)

    return student, lambda: student.init(jax.random.key(0), draw(1), train=False), draw


def traced(name: str) -> tuple[Any, Callable[[Any, Any], jax.Array], Any]:
    """Shapes of a student's variables, its logits as a function of variables and inputs, and shapes of the inputs."""
    student, variables, draw = network(name)
    return jax.eval_shape(variables), lambda variables, x: student.apply(variables, x, train=False).logits, jax.eval_shape(draw)


def student_part(name: str) -> floor.Part:
    """Loss and gradients of a student."""
    student, draw_variables, draw = network(name)
    variables, inputs = jax.jit(draw_variables)(), draw()
    labels = jax.random.randint(jax.random.key(1), inputs.shape[:1], 0, OUTPUTS)

    def gradients(variables: Any, inputs: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            known = {**variables, "params": params}
            outputs, after = student.apply(known, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(2)})
            return optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels).mean(), after

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return floor.compiled(gradients, variables, inputs)


def convolutions(name: str) -> list[dict[str, int]]:
    """Every convolution of a student, from its forward pass."""
    variables, logits, inputs = traced(name)
    found = []
    for equation in equations(jax.make_jaxpr(logits)(variables, inputs).jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            (rows, height, width, into), (size, _, _, out) = (value.aval.shape for value in equation.invars)
            sizes = {"rows": rows, "height": height, "width": width, "into": into, "out": out, "size": size}
            found.append(sizes | {"stride": equation.params["window_strides"][0], "groups": equation.params["feature_group_count"]})
    return found


def convolutions_part(name: str) -> floor.Part:
    """Values and gradients of every convolution of a student; equal ones are compiled once."""
    compiled: dict[tuple[Any, ...], floor.Part] = {}
    parts = []
    for place, sizes in enumerate(convolutions(name)):
        which = (place > 0, *sizes.values())
        if which not in compiled:
            compiled[which] = convolution(of_inputs=place > 0, **sizes)
        parts.append(compiled[which])
    work = floor.Work(*(sum(column) for column in zip(*(part.work for part in parts), strict=True)))
    return floor.Part(lambda: [part() for part in parts], work, sum(part.moved for part in parts))


def convolution(*, of_inputs: bool, rows: int, height: int, width: int, into: int, out: int, size: int, stride: int, groups: int) -> floor.Part:
    """Value and gradients of one convolution, as the students have it."""

    def convolved(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(inputs, kernel, stride, size // 2) if groups == 1 else depthwise_conv(inputs, kernel, stride)

    return differentiated(convolved, normal(rows, height, width, into), normal(size, size, into // groups, out), of_first=of_inputs)


def differentiated(function: Callable[..., jax.Array], *arguments: Any, of_first: bool = True) -> floor.Part:
    """Value of a function, and its gradients for all arguments, or all but the first."""
    cotangent = normal(*jax.eval_shape(function, *arguments).shape)

    def call(cotangent: jax.Array, *arguments: Any) -> Any:
        value, vjp = jax.vjp(function, *arguments)
        gradients = vjp(cotangent)
        return value, gradients if of_first else gradients[1:]

    return floor.compiled(call, cotangent, *arguments)


def attention_part() -> floor.Part:
    """Attention to the tokens that are not padding."""
    rows, length = TOKENS[:2]
    mask = jnp.arange(length) < length - jnp.arange(rows)[:, None, None] % 32
    return differentiated(lambda query, key, value: attention(query, key, value, mask), *(normal(*TOKENS) + place for place in range(3)))


def batch_norm_part() -> floor.Part:
    """Batch normalisation and ReLU."""
    module, inputs = BatchNorm(), normal(*MAP)
    variables = module.init(jax.random.key(0), inputs, train=True)
    statistics = variables["batch_stats"]

    def activated(inputs: jax.Array, params: Any) -> jax.Array:
        return jax.nn.relu(module.apply({"params": params, "batch_stats": statistics}, inputs, train=True, mutable=["batch_stats"])[0])

    return differentiated(activated, inputs, variables["params"])


def build(part: str) -> floor.Part:
    """What is timed on jaxkd's side."""
    name, _, kind = part.partition(".")
    if name in STUDENTS:
        return convolutions_part(name) if kind else student_part(name)
    if part == "max_pool":
        return differentiated(lambda x: max_pool(x, 2, 2), normal(*MAP))
    if part == "depthwise":
        return convolution(of_inputs=True, **DEPTHWISE)
    return {"attention": attention_part, "batch_norm": batch_norm_part, "product": floor.product, "copy": floor.copy}[part]()


def serve() -> None:
    """Answers as the torch side does: a part and its number of calls in, one JSON line out; with 0 calls its work."""
    keep_freed()
    convolve_on_all_cores()
    built: dict[str, floor.Part] = {}
    for line in sys.stdin:
        part, calls = line.split()
        if part not in built:
            built[part] = build(part)
            timed(built[part], 1)
        work = built[part].work._asdict() | {"moved": built[part].moved}
        print(json.dumps(timed(built[part], int(calls)) if int(calls) else work), flush=True)


def check_parameters(theirs: dict[str, int]) -> None:
    """Refuses to compare networks of different sizes."""
    for name, count in theirs.items():
        ours = sum(leaf.size for leaf in jax.tree.leaves(traced(name)[0]["params"]))
        assert ours == count - UNUSED.get(name, 0), f"{name} has {ours} parameters here and {count} in torch"


def shares(seconds: dict[str, dict[str, dict[str, float]]], name: str, kind: str) -> dict[str, float]:
    """Of the medians: the share of the convolutions in a student's time on both sides, what is left, its ratio, and that of all with torch's convolutions."""
    whole, inside = seconds[name][kind], seconds[f"{name}.convolutions"][kind]
    share, left = ({side: made(whole[side], inside[side]) for side in ("jaxkd", "torch")} for made in (lambda a, b: b / a, lambda a, b: a - b))
    rest = {"rest_jaxkd_s": left["jaxkd"], "rest_torch_s": left["torch"], "rest_ratio": left["jaxkd"] / left["torch"]}
    return {**share, **rest, "exchanged_ratio": (inside["torch"] + left["jaxkd"]) / whole["torch"]}


def floors(figures: dict[str, Any], kind: str) -> dict[str, dict[str, float]]:
    """Multiply-adds of a step, the seconds that they take at the rate of the bare product, and the time of a step as a multiple of it."""
    rate = floor.SQUARE**3 / min(figures["product"][kind][side] for side in ("jaxkd", "torch"))
    found = {}
    for name in (name for name in STUDENTS if name in figures):
        variables, logits, inputs = traced(name)
        macs = 3 * count_macs(logits, variables, inputs)
        found[name] = {"gmac": macs / 1e9, "floor_s": macs / rate, "jaxkd": figures[name][kind]["jaxkd"] * rate / macs}
        found[name]["torch"] = figures[name][kind]["torch"] * rate / macs
    return found


def least(work: dict[str, dict[str, float]], figures: dict[str, Any], kind: str) -> dict[str, dict[str, float]]:
    """Work of each part, the least time for it at the rates of product and copy of the faster side, and the time of both sides as multiples of that."""
    flop, copied = (
        work[name][unit] / min(figures[name][kind][side] for side in ("jaxkd", "torch")) for name, unit in zip(RATES, floor.Work._fields, strict=True)
    )
    found = {}
    for part, (own, needed, moved) in ((part, values.values()) for part, values in work.items() if part not in RATES):
        seconds = floor.Work(own, needed).seconds(floor.Rates(flop, copied))
        shown = {"gflop": own / 1e9, "mb": needed / 1e6, "moved_mb": moved / 1e6, "moved_s": moved / copied, "least_s": seconds}
        found[part] = shown | {side: figures[part][kind][side] / seconds for side in ("jaxkd", "torch")}
    return found


def tables(seconds: dict[str, Any], figures: dict[str, Any]) -> list[Table]:
    """What is kept beside the ratios."""
    rows = [[part, *(f"{values[kind][side]:.4f}" for kind in KINDS for side in ("jaxkd", "torch"))] for part, values in seconds.items()]
    found = [Table("Seconds", ["part", "jaxkd s", "torch s", "jaxkd processor s", "torch processor s"], rows)]
    if figures["shares"]:
        header = ["student", "share of jaxkd", "share of torch", "rest jaxkd s", "rest torch s"]
        rows = [[name, *(f"{values[key]:.{digits}f}" for key, digits in SHOWN.items())] for name, values in figures["shares"].items()]
        found.append(Table("Convolutions by themselves", header, rows))
    if figures["floors"]:
        rows = [[name, *(f"{values[key]:.3g}" for key in ("gmac", "floor_s", "jaxkd", "torch"))] for name, values in figures["floors"].items()]
        found.append(Table("Distance to the floor", ["student", "G multiply-adds a step", "floor s", "jaxkd / floor", "torch / floor"], rows))
    if figures["work"]:
        header = [
            "part",
            "GFLOP",
            "MB of arguments and results",
            "MB that its program moves",
            "s of these as a copy",
            "least s",
            "jaxkd / least",
            "torch / least",
        ]
        rows = [[part, *(f"{value:.3g}" for value in values.values())] for part, values in figures["work"].items()]
        found.append(Table("Work as XLA counts it, and the least time for it", header, rows))
    return found


def measured(settings: argparse.Namespace) -> tuple[dict[str, dict[str, list[dict[str, float]]]], dict[str, dict[str, float]]]:
    """Seconds of each part on each side, one answer a repeat; the work of each part."""
    ours = [sys.executable, "-m", "benchmarks.student_step", "--peer-python=-", "--serve"]
    shapes = {name: convolutions(name) for name in CONVOLUTIONAL if f"{name}.convolutions" in settings.parts} | {"depthwise": [DEPTHWISE]}
    theirs = [settings.peer_python, "benchmarks/student_step_torch.py", str(settings.threads), json.dumps(shapes)]
    with sides({"jaxkd": ours, "torch": theirs}) as ask:
        check_parameters(ask["torch"]("parameters"))
        return by_turns(ask, settings.parts, settings.repeats, CALLS), {part: ask["jaxkd"](f"{part} 0") for part in settings.parts}


def main() -> None:
    """Measures, and keeps the figures."""
    options = parser(__doc__, packages="torch", repeats=5, threads=True)
    options.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    add_out(options)
    settings = options.parse_args()
    if settings.serve:
        serve()
        return
    use_threads(settings.threads)
    answers, work = measured(settings)
    kind = "cpu_s" if settings.threads == 1 else "wall_s"
    seconds = {part: {each: compared(answers[part], each) for each in KINDS} for part in settings.parts}
    figures = []
    for part in settings.parts:
        found = seconds[part][kind]
        figures.append(Figure(f"{part}, jaxkd / torch", found["ratio"], low=found["low"], high=found["high"], at_most=ASKED.get(part)))
    both = [name for name in CONVOLUTIONAL if {name, f"{name}.convolutions"} <= set(settings.parts)]
    details: dict[str, Any] = {"judged_by": kind, "seconds": seconds, "shares": {name: shares(seconds, name, kind) for name in both}, "repeats": answers}
    for name, values in details["shares"].items():
        figures.append(Figure(f"{name} without convolutions, jaxkd / torch", values["rest_ratio"], at_most=REST))
        figures.append(Figure(f"{name} with torch's convolutions, jaxkd / torch", values["exchanged_ratio"], at_most=EXCHANGED))
    details["floors"] = floors(seconds, kind) if "product" in settings.parts else {}
    details["work"] = least(work, seconds, kind) if set(RATES) <= set(settings.parts) else {}
    blocks = [*tables(seconds, details), Text("On other devices", [ELSEWHERE])]
    peer = peer_versions(settings.peer_python, "torch")
    sys.exit(keep("student_step", __doc__ or "", figures, details, settings.out, blocks=blocks, versions=peer))


if __name__ == "__main__":
    main()
