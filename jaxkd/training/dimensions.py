"""Refuses what does not fit the student's stages or the embedding's width, and tells of frames that are left out, from shapes alone."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxkd import methods, students, teachers
from jaxkd.compression import Projection, random_projection, require_components
from jaxkd.losses.alignment import OVER_TIME
from jaxkd.methods.distance import stages
from jaxkd.methods.method import Context
from jaxkd.training.inputs import StudentInputs
from jaxkd.training.prepared import unaugmented
from jaxkd.types import Batch

FRAMES = 2  # of the embedding: any number that attention takes
KEPT_FRAMES = 0.9
"""Share of the longer side's frames of which an alignment that keeps less is told. The published grids of EAsT keep 0.94 and more."""


def require_dimensions(config: Any, dataset: Any, inputs: StudentInputs) -> None:
    """Builds student and auxiliary module without computing anything, if the teacher's width is known, where that may not fit.

    That is where a distance asks for equal widths or lists stages, and where principal components are asked for, of which there are no more than dimensions,
    and fewer than rows.

    Raises:
      ConfigError: stages, widths or transformation do not fit together.
    """
    components = config.method == "compressed" and config.compressed.transformation == "pca"
    if config.method not in methods.DISTANCES or not (components or config.distance.stage_weights or config.distance.name in methods.EQUAL_WIDTHS):
        return
    dims = teachers.dims(config.teacher)
    dim = sum(dims)
    if config.teacher.classifier == "finetuned" or not dim:
        return
    most = dim
    if dataset.modality != "audio" or teachers.single_frame(config.teacher, clip_seconds=config.data.clip_seconds):
        most = min(dim, len(unaugmented(dataset, "train")) - 1)

    def projection(width: int) -> Projection:
        if components:
            require_components(width, most)
        return random_projection(width, dim=dim, seed=0)

    config = ml_collections.FrozenConfigDict(config)
    context = Context(dataset.task, len(dataset.classes), np.zeros(0, np.int32), projection=projection)
    context = context._replace(widths=dims if config.teacher.combine == "separate" else ())
    method = methods.build(config.method, config, context)
    student = students.build(config.student.name, num_outputs=len(dataset.classes), **students.options(config.student.name, config))
    row = inputs.shape(dataset.splits["train"][0])

    def build() -> Any:
        key = jax.random.key(0)
        outputs, _ = student.init_with_output(key, jnp.zeros(row.shape, row.dtype), train=False)
        labels = jnp.zeros(outputs.logits.shape)
        batch = Batch(jnp.zeros(row.shape), labels, labels > 0, jnp.zeros((1, FRAMES, dim)), jnp.ones(1, bool), teacher_logits=labels)
        assert method.auxiliary is not None
        return method.auxiliary.init(key, outputs, batch)

    jax.eval_shape(build)


def frames_warning(config: Any, student: Any, example: Batch) -> str:
    """What to tell of a distance whose alignment "repeat" leaves out more than a tenth of one side's frames; "" for nothing.

    Both sides span the same clip: what is left out is its end, and the frames that are kept are compared with frames of another time.

    Args:
      config: of the experiment.
      student: its module.
      example: rows as the step sees them, of arrays or of their shapes.
    """
    repeated = [stage for stage in stages(config) if stage.features_expand != OVER_TIME]
    if config.method not in methods.DISTANCES or config.distance.alignment != "repeat" or not repeated:
        return ""

    def outputs() -> Any:
        rows = jnp.zeros(example.inputs.shape, example.inputs.dtype)
        return student.apply(student.init(jax.random.key(0), rows, train=False), rows, train=False)

    assert example.embedding is not None
    of_student, teacher = jax.eval_shape(outputs), example.embedding.shape[1]
    taps = (*of_student.taps[:-1], of_student.features)
    short = []
    for stage in repeated:
        frames = taps[stage.tap].shape[1]
        kept, longest = sorted((frames * stage.features_expand, teacher * stage.embedding_expand))
        if kept < KEPT_FRAMES * longest:
            sides = f"student {frames} repeated {stage.features_expand} times, teacher {teacher} repeated {stage.embedding_expand} times"
            short.append(f"{kept} of {longest} at stage {stage.tap % len(taps)} ({sides})")
    if not short:
        return ""
    return (
        f"config.distance.alignment='repeat' compares only the first frames of a clip: {'; '.join(short)}. Set the fields of config.distance that end in "
        "expand so that both sides are about equally long, or to 1 (those of stages to ()) with --config.distance.alignment=pool or interpolate."
    )
