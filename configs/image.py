"""Few-class images: a ResNet trained on two classes, and its pseudo-classes (LELP, arXiv 2409.20449) distilled into a small ResNet.

    python -m jaxkd.main --config=configs/image.py
    python -m jaxkd.main --config=configs/image.py:data=digits_bin,runlocal
    python -m jaxkd.main --config=configs/image.py:data=cifar100,teacher=resnet92_v2,student=resnet56_v2

The default is Fashion-MNIST in two classes of five garments each that only the oracle knows: 1,000 images are labelled, 9,000 more are transferred without
a label. Teacher and student are both ResNet-8. fashion_mnist has its own ten classes. A name that is no data source here (cifar10, cifar100) is read through
TensorFlow Datasets, by the parity of the label.

Two CPU cores: 4.5 minutes. Expected test accuracy after 500 of the 1,500 steps (mean of five seeds): lelp 0.863, kd 0.861, oracle 0.878; the teacher 0.857.

String arguments: data (fashion_mnist_hard, fashion_mnist_bin, fashion_mnist, digits_bin, digits, image_folder for your own, or a TFDS name), teacher (a
network that is trained on the labels, or precomputed for embeddings of your own, under a classifier of two layers), student (resnet8 by default, resnet_tiny
with runlocal), method, labels (a number, or all, the default for your own), runlocal (tiny sizes but for labels, for a trial of half a minute; of your own
images all).
"""

import ml_collections

from jaxkd.config import default_config, parse_arg
from jaxkd.data import OWN_FILES, SOURCES, may_have_fine_classes
from jaxkd.errors import ConfigError

METHODS = (
    "teacher baseline kd dkd dist standardised_kd embedding_distillation fitnet vid rkd crd subclass_distillation lelp kmeans agglomerative tsne_kmeans oracle "
    "random_directions permuted uniform outputs_only"
).split()


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The experiment; `arg` as in the examples above."""
    values = parse_arg(arg, data="fashion_mnist_hard", teacher="resnet8", student="", method="lelp", labels="", runlocal=False)
    own = values.data in OWN_FILES
    labels = values.labels or ("all" if own else "100" if values.data.startswith("digits") else "1000")
    if labels != "all" and not (labels.isdecimal() and int(labels)):
        raise ConfigError(f"config argument labels={labels!r} is neither a number above 0 nor all.")
    through_tfds = values.data not in SOURCES
    digits = values.data.startswith("digits")
    config = default_config()
    config.name = "image"
    config.method = values.method
    config.data.update({"source": "tfds" if through_tfds else values.data, "tfds_name": values.data if through_tfds else "", "binary": through_tfds})
    config.data.update({"classes": (), "labelled": 0 if labels == "all" else int(labels), "unlabelled": 0 if labels == "all" else 9000})
    config.data.update({"valid": 1000, "test": 0, "unseen": 0, "views": 4, "view_flip": not digits})
    config.student.name = values.student or ("resnet_tiny" if values.runlocal else "resnet8")
    config.store.update({"dtype": "float32", "shard_rows": 4096})
    config.teacher.update({"name": values.teacher, "embedding": "", "classifier": "finetuned"})
    config.training.update({"steps": 1500, "batch_size": 16, "learning_rate": 3e-3, "weight_decay": 1e-4, "mixup_alpha": 0.0, "eval_every_steps": 200})
    config.teacher_training.update({"steps": 600, "batch_size": 64, "learning_rate": 3e-3, "eval_every_steps": 200})
    config.evaluation.batch_size = 500
    config.rkd.group_size = 32
    config.compare.methods = tuple(name for name in METHODS if name != "oracle" or may_have_fine_classes(config.data))
    config.compare.seeds = (0, 1, 2, 3, 4)
    if values.teacher == "precomputed":
        config.teacher.classifier, config.data.view_targets = "mlp", "clean"
    if own:
        config.data.update({"unlabelled": -1, "valid": 0, "unseen": -1})
        config.evaluation.batch_size = 100
    if digits:
        config.data.update({"unlabelled": 0 if labels == "all" else -1, "valid": 300, "test": 300})
    if values.runlocal:
        config.name = "image-runlocal"
        if not own:
            config.data.update({"unlabelled": 0 if labels == "all" else 200, "valid": 200, "test": 200})
            config.data.labelled = config.data.labelled if values.labels else 100
        config.training.update({"steps": 30, "batch_size": 16, "eval_every_steps": 10, "log_every_steps": 5, "warmup_steps": 3})
        config.teacher_training.update({"steps": 20, "batch_size": 32, "eval_every_steps": 10, "log_every_steps": 5, "warmup_steps": 2})
        config.evaluation.batch_size = 100
        config.compare.seeds = (0, 1)
    for part in (config.training, config.teacher_training):
        part.batch_size = min(part.batch_size, config.data.labelled * config.data.views or part.batch_size)
    return config
