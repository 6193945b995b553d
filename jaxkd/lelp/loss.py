"""What the student learns by: the pseudo-class loss, and how its outputs are read as classes (arXiv 2409.20449, step C)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp, xlogy

from jaxkd.errors import ConfigError, require_count, require_temperature
from jaxkd.lelp.targets import class_logits, require_by_class
from jaxkd.losses.reduce import masked_mean, row_mask, to_compute_dtype
from jaxkd.types import Array


def _by_class(student_logits: Array, num_classes: int) -> jax.Array:
    require_count("the number of classes or labels", num_classes)
    student_logits = to_compute_dtype(student_logits)
    width = student_logits.shape[-1]
    if not width or width % num_classes:
        raise ConfigError(f"the student has {width} outputs, which do not divide over {num_classes} classes: give it num_classes * num_subclasses outputs.")
    return student_logits.reshape(*student_logits.shape[:-1], num_classes, width // num_classes)


def fold_logits(student_logits: Array, num_classes: int) -> jax.Array:
    """Class logits of a student with S outputs a class: the softmax of the result is the sum of the softmax over the subclasses.

    All outputs of a class are summed, also those of subclasses that do not exist: `pseudo_class_loss` has trained their share towards 0.

    Args:
      student_logits: [..., C * S], class-major.
      num_classes: C.

    Returns:
      [..., C], float32.

    Raises:
      ConfigError: the outputs do not divide over the classes.
    """
    return logsumexp(_by_class(student_logits, num_classes), axis=-1)


def fold_label_logits(student_logits: Array, num_labels: int) -> jax.Array:
    """One logit a label (pre-sigmoid) of a multi-label student with 2 * S outputs a label, absent before present.

    Args:
      student_logits: [..., L * 2 * S].
      num_labels: L.

    Returns:
      [..., L], float32.

    Raises:
      ConfigError: the outputs do not divide over two classes a label.
    """
    folded = fold_logits(student_logits, 2 * num_labels)
    pairs = folded.reshape(*folded.shape[:-1], num_labels, 2)
    return pairs[..., 1] - pairs[..., 0]


def serving_logits(student_logits: Array, num_labels: int, task: str) -> jax.Array:
    """The logits that a student is read by: of C classes ("multiclass"), or one a label (pre-sigmoid, "multilabel"), with or without subclasses.

    Args:
      student_logits: [..., K * S], or with subclasses of labels [..., K * 2 * S].
      num_labels: K.
      task: "multiclass" or "multilabel".

    Returns:
      [..., K], float32.

    Raises:
      ConfigError: the outputs do not divide over the classes or labels.
    """
    if task == "multilabel" and student_logits.shape[-1] != num_labels:
        return fold_label_logits(student_logits, num_labels)
    return fold_logits(student_logits, num_labels)


def pseudo_class_loss(
    student_logits: Array,
    teacher_logits: Array,
    subclass_probs: Array,
    *,
    temperature: float = 1.0,
    temperature_on: str = "both",
    tau_squared: bool = True,
    weight: float = 1.0,
    where: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Mean over rows of KL(p_c || q_c) + weight * sum_c p_c KL(pi_(.|c) || rho_(.|c)), times temperature^2.

    With weight 1 this is, by the chain rule, LELP's KL(p || q) over all C * S pseudo-classes (arXiv 2409.20449); with weight 0 it is knowledge distillation
    of the classes. p_c = softmax(teacher_logits / temperature), q = softmax(student_logits / temperature) over all outputs, q_c its sums, rho = q / q_c.

    A subclass that does not exist (`Subspaces.valid` is False, or a cluster that a class does not have) keeps its output, so that a student is its parameters
    and no mask. The output takes part in the softmax with the target 0: with the defaults its gradient is temperature * q / B, which drives it down, and for
    every weight above 0 the loss falls to its least only as q goes to 0 there. Loss and `fold_logits` then equal those of a student without that output. Until
    then it adds to the class that it belongs to; with weight 0 nothing is asked of it, and it is one more output of that class.

    Args:
      student_logits: [B, C * S], class-major; at inference read by `fold_logits`.
      teacher_logits: as the teacher gives them, [B, C], or [B, 1] for two classes and one logit.
      subclass_probs: pi, the teacher's subclasses within each class, [B, C, S]; 0 for a subclass that does not exist. The result of `subclass_probs`, or of
        `kmeans` and the other splits; not the product with the classes, `joint_probs`, which is formed here.
      temperature: tau.
      temperature_on: "both", or "teacher" = the student's logits are taken as they are.
      tau_squared: multiply by temperature^2, which keeps the gradient's size when both sides are softened.
      weight: of the subclasses against the classes.
      where: True for rows that are examples, bool [B].
      axis_name: mapped axis over which the batch is split.

    Returns:
      A scalar, float32 (float64 for float64 inputs); 0 where the student agrees with the teacher.

    Raises:
      ConfigError: an unknown `temperature_on`; a temperature that is not finite and above 0; outputs that do not fit the targets.
      DataError: subclass probabilities of another shape, teacher logits of another number of classes.
    """
    if temperature_on not in ("both", "teacher"):
        raise ConfigError(f"temperature_on is {temperature_on!r}. Valid: both, teacher.")
    require_temperature("temperature", temperature)
    student_logits, subclass_probs = to_compute_dtype(student_logits), to_compute_dtype(subclass_probs)
    require_by_class(subclass_probs)
    batch, num_classes, num_subclasses = subclass_probs.shape
    teacher_logits = class_logits(teacher_logits, num_classes)
    if student_logits.shape != (batch, num_classes * num_subclasses) or teacher_logits.shape[0] != batch:
        raise ConfigError(
            f"student logits {student_logits.shape} and teacher logits {teacher_logits.shape} do not fit subclass probabilities {subclass_probs.shape}: "
            f"[{batch}, {num_classes * num_subclasses}] and [{batch}, {num_classes}] are needed."
        )
    mask = row_mask(where, student_logits)
    student = _by_class(jnp.where(mask, student_logits, 0), num_classes) / (temperature if temperature_on == "both" else 1.0)
    teacher = jax.nn.log_softmax(jnp.where(mask, teacher_logits, 0) / temperature)
    subclasses = jnp.where(mask[:, :, None], subclass_probs, 0)
    of_classes = jax.nn.log_softmax(logsumexp(student, axis=-1))
    class_term = jnp.exp(teacher) * (teacher - of_classes)
    within = jnp.sum(xlogy(subclasses, subclasses) - subclasses * jax.nn.log_softmax(student), axis=-1)
    rows = jnp.sum(class_term + weight * jnp.exp(teacher) * within, axis=-1)
    return (temperature**2 if tau_squared else 1.0) * masked_mean(rows, mask[:, 0], axis_name=axis_name)


def multilabel_pseudo_class_loss(
    student_logits: Array,
    teacher_logits: Array,
    subclass_probs: Array,
    *,
    label_mask: Array | None = None,
    where: Array | None = None,
    **options: Any,
) -> jax.Array:
    """The multi-label form: the pseudo-class loss of two classes a label, absent and present, mean over all entries that count, flattened.

    With one subclass it is `jaxkd.losses.bernoulli_kd`, and of its size: it does not grow with the number of labels.

    Args:
      student_logits: [B, L * 2 * S], label by label, absent before present.
      teacher_logits: one logit a label (pre-sigmoid), [B, L].
      subclass_probs: of the subspaces of `fit_label_subspaces`, [B, 2 * L, S].
      label_mask: True where an entry counts, bool [B, L]; None = every entry, labelled or not.
      where: True for rows that are examples, bool [B].
      **options: as `pseudo_class_loss`.

    Returns:
      A scalar, float32.

    Raises:
      ConfigError: outputs that do not fit the targets.
    """
    student, teacher, probs = map(jnp.shape, (student_logits, teacher_logits, subclass_probs))
    if len(probs) != 3 or student != (probs[0], probs[1] * probs[2]) or teacher != (probs[0], probs[1] / 2):
        raise ConfigError(
            f"student logits {student}, teacher logits {teacher} and subclass probabilities {probs} do not fit: "
            "[B, L * 2 * S], [B, L] and [B, 2 * L, S] are needed."
        )
    batch, num_labels = teacher
    entries = batch * num_labels
    mask = jnp.broadcast_to(row_mask(where, teacher_logits), teacher_logits.shape)
    if label_mask is not None:
        mask = mask & jnp.asarray(label_mask, bool)
    return pseudo_class_loss(
        _by_class(student_logits, num_labels).reshape(entries, -1),
        jnp.reshape(teacher_logits, (entries, 1)),
        jnp.reshape(subclass_probs, (entries, 2, -1)),
        where=mask.reshape(entries),
        **options,
    )
