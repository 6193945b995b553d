"""On a CPU, XLA computes a convolution inside a loop or a branch many times more slowly than outside: the gradients of the students have none there."""

import jax
import jax.numpy as jnp
import pytest

from jaxkd import students

SHAPES = {"cp_resnet_small": (64, 94, 64), "mobile_fcn": (16, 391, 96), "resnet20": (128, 28, 28, 1)}
INNER = ("stablehlo.while", "stablehlo.case", "stablehlo.if")


def convolutions(traced) -> tuple[int, int]:
    """Of a program for CPUs: how many it has inside of loops and branches, and in all."""
    functions = {function.attributes["sym_name"].value: function for function in traced.lower(lowering_platforms=("cpu",)).compiler_ir().body.operations}

    def found(operation, inside: bool) -> list[bool]:
        name = operation.operation.name
        if name == "stablehlo.convolution":
            return [inside]
        within = [child for region in operation.regions for block in region for child in block]
        called = [functions[operation.attributes["callee"].value]] if name == "func.call" else []
        return [place for child in (*within, *called) for place in found(child, inside or name in INNER)]

    places = found(functions["main"], False)
    return sum(places), len(places)


@pytest.mark.parametrize("name", SHAPES)
def test_no_convolution_of_a_students_gradient_is_inside_a_loop(name):
    student, inputs = students.build(name, num_outputs=5), jax.ShapeDtypeStruct(SHAPES[name], jnp.float32)
    variables = jax.eval_shape(lambda x: student.init(jax.random.key(0), x, train=False), inputs)

    def loss(params, variables, inputs):
        outputs, after = student.apply({**variables, "params": params}, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})
        return jnp.square(outputs.logits).sum(), after

    inside, everywhere = convolutions(jax.jit(jax.grad(loss, has_aux=True)).trace(variables["params"], variables, inputs))
    assert inside == 0 and everywhere > 0


def test_one_inside_a_loop_is_seen():
    def looped(inputs, kernel):
        one = jax.jit(lambda x: jax.lax.conv(x, kernel, (1, 1), "SAME"))
        return jax.lax.map(one, inputs), one(inputs[0])

    assert convolutions(jax.jit(looped).trace(jnp.ones((2, 1, 3, 8, 8)), jnp.ones((3, 3, 3, 3)))) == (1, 2)
