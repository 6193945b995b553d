"""LELP (arXiv 2409.20449): subclasses from linear projections of a teacher's embeddings, for distillation with few classes.

`fit_subspaces` once; `subclass_probs` once for each row; `pseudo_class_loss(student_logits, teacher_logits, subclass_probs)` in every step; `fold_logits` to
read the student. `pseudo_class_probs` are the same targets as one distribution, for a loss of one's own.
"""

from jaxkd.lelp.artefact import load_subspaces, save_subspaces
from jaxkd.lelp.labels import fit_label_subspaces
from jaxkd.lelp.loss import fold_label_logits, fold_logits, multilabel_pseudo_class_loss, pseudo_class_loss, serving_logits
from jaxkd.lelp.moments import ClassMoments, class_moments, merge_processes
from jaxkd.lelp.null_space import full_rank, require_room
from jaxkd.lelp.passes import Again
from jaxkd.lelp.splits import agglomerative, kmeans, oracle, permuted, tsne_kmeans, uniform
from jaxkd.lelp.subspaces import Subspaces, classes_of_rows, fit_subspaces, random_subspaces, solver_for, subspaces_from_moments
from jaxkd.lelp.targets import joint_probs, project_coordinates, pseudo_class_probs, subclass_probs

__all__ = [
    "Again",
    "ClassMoments",
    "Subspaces",
    "agglomerative",
    "class_moments",
    "classes_of_rows",
    "fit_label_subspaces",
    "fit_subspaces",
    "fold_label_logits",
    "fold_logits",
    "full_rank",
    "joint_probs",
    "kmeans",
    "load_subspaces",
    "merge_processes",
    "multilabel_pseudo_class_loss",
    "oracle",
    "permuted",
    "project_coordinates",
    "pseudo_class_loss",
    "pseudo_class_probs",
    "random_subspaces",
    "require_room",
    "save_subspaces",
    "serving_logits",
    "solver_for",
    "subclass_probs",
    "subspaces_from_moments",
    "tsne_kmeans",
    "uniform",
]
