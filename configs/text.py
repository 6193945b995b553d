"""Few-class text: a teacher's embedding, its classifier and their pseudo-classes (LELP, arXiv 2409.20449) distilled into a small student.

    python -m jaxkd.main --config=configs/text.py
    python -m jaxkd.main --config=configs/text.py:data=rotten_tomatoes,teacher=minilm,labels=1200
    python -m jaxkd.main --config=configs/text.py --mode=compare
    python -m jaxkd.main --config=configs/text.py:teacher=minilm,classifier=finetuned --mode=compare

The default is 20 Newsgroups by the parity of the group's number: two classes of ten hidden groups each, which only the oracle knows. The teacher is a
two-layer classifier on WordLlama embeddings, the student 32 units on 1,024 hashed words (bag_of_embeddings for the other data).

Two CPU cores: 40 seconds, with MiniLM fine-tuned 14 minutes, archives fetched. Expected test accuracy of the comparison (mean of five seeds): lelp 0.753,
kd 0.741, baseline 0.740, oracle 0.809; the teacher 0.815.

With classifier=finetuned written out, the comparison is about fine-tuning: its own classifier is the reference row `teacher`, with what its training cost,
and the students are taught by it; probe and compressed_frozen keep to the frozen encoder, which reads 256 tokens of a text where the trained one reads
teacher.max_tokens. Nothing was tuned for it.

String arguments: data (newsgroups_bin, newsgroups, rotten_tomatoes, imdb, amazon_reviews, text_file for your own, or a TFDS name: imdb_reviews,
sentiment140, glue/cola, glue/sst2), binary (newsgroups, amazon_reviews or TFDS data with their classes merged to two), teacher (wordllama, minilm, or
precomputed for embeddings of your own), classifier (linear, mlp or probe on frozen embeddings, finetuned; MiniLM is fine-tuned unless told otherwise),
student, features (frozen encoder of a student that takes features), method, labels (a number, the other training rows are unlabelled; all, the default),
runlocal (tiny sizes but for labels, none unlabelled, for half a minute; of your own texts all).
"""

import ml_collections

from jaxkd.config import default_config, parse_arg
from jaxkd.data import OWN_FILES, SOURCES, may_have_fine_classes
from jaxkd.errors import ConfigError

LONG_TEXTS = ("newsgroups", "newsgroups_bin", "imdb", "imdb_reviews", "amazon_reviews", "text_file")
METHODS = (
    "teacher baseline kd dkd dist standardised_kd embedding_distillation fitnet vid rkd crd subclass_distillation lelp kmeans agglomerative tsne_kmeans oracle "
    "random_directions permuted uniform outputs_only"
).split()

# data, teacher, classifier, student, labels, runlocal
TUNED = ("newsgroups_bin", "wordllama", "mlp", "bag_of_words_tiny", "all", False)
# Chosen for it on the validation split by `python -m benchmarks.few_class_methods --config=text.py --workdir=DIR --tune`, four trials a method.
SETTINGS = (
    "baseline training.learning_rate=0.005",
    "kd distillation.temperature=1.5",
    "dkd distillation.temperature=1.5",
    "dist distillation.temperature=2.0",
    "standardised_kd distillation.temperature=1.0",
    "embedding_distillation embedding_distillation.weight=1.0 distillation.temperature=1.0",
    "fitnet fitnet.weight=1.0 distillation.temperature=1.0",
    "vid vid.weight=0.1 distillation.temperature=2.0",
    "rkd rkd.weight=0.1 distillation.temperature=2.0",
    "crd crd.weight=0.01 distillation.temperature=1.0",
    "subclass_distillation lelp.subclasses=10 distillation.temperature=1.0 subclass_distillation.auxiliary_weight=0.3",
    "lelp lelp.subclasses=10 distillation.temperature=1.0 lelp.subclass_temperature=2.0",
    "kmeans lelp.subclasses=10 distillation.temperature=1.0",
    "agglomerative lelp.subclasses=10 distillation.temperature=1.0",
    "tsne_kmeans lelp.subclasses=10 distillation.temperature=1.0",
    "oracle distillation.temperature=1.0",
    "random_directions lelp.subclasses=10 distillation.temperature=1.0 lelp.subclass_temperature=2.0",
    "permuted lelp.subclasses=10 distillation.temperature=1.0 lelp.subclass_temperature=2.0",
    "uniform lelp.subclasses=5 distillation.temperature=1.0",
    "outputs_only lelp.subclasses=5 distillation.temperature=1.0",
)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The experiment; `arg` as in the examples above."""
    values = parse_arg(
        arg, data="newsgroups_bin", binary=False, teacher="wordllama", classifier="", student="", features="", method="lelp", labels="", runlocal=False
    )
    labels = values.labels or "all"
    if labels != "all" and not (labels.isdecimal() and int(labels)):
        raise ConfigError(f"config argument labels={labels!r} is neither a number above 0 nor all.")
    classifier = values.classifier or ("finetuned" if values.teacher == "minilm" else "mlp")
    long_texts = values.data in LONG_TEXTS
    student = values.student or ("bag_of_words_tiny" if values.data.startswith("newsgroups") else "bag_of_embeddings")
    config = default_config()
    config.name = "text"
    config.method = values.method
    through_tfds = values.data not in SOURCES
    config.data.update({"source": "tfds" if through_tfds else values.data, "tfds_name": values.data if through_tfds else ""})
    config.data.update({"binary": values.binary, "classes": (), "labelled": 0 if labels == "all" else int(labels), "unlabelled": -1})
    config.data.update({"valid": 2000 if values.data.startswith("newsgroups") else 1000, "test": 0, "unseen": 2000 if values.data == "rotten_tomatoes" else 0})
    if values.data in OWN_FILES:
        config.data.update({"valid": 0, "unseen": -1})
    config.text.update({"vocabulary": 1024 if student == "bag_of_words_tiny" else 16_384, "max_tokens": 48})
    if long_texts:
        config.text.max_tokens = 1024 if student == "bag_of_words_tiny" else 256
    config.student.update({"name": student, "features": values.features})
    config.store.update({"dtype": "float32", "shard_rows": 4096})
    config.teacher.update({"name": values.teacher, "embedding": "" if values.teacher == "precomputed" else "mean", "classifier": classifier})
    config.training.update({"steps": 1800, "batch_size": 128, "unlabelled_ratio": 3, "learning_rate": 1e-2, "weight_decay": 1e-4, "mixup_alpha": 0.0})
    config.training.update({"eval_every_steps": 200, "log_every_steps": 100})
    config.teacher_training.update({"steps": 1000, "batch_size": 128, "learning_rate": 1e-3, "eval_every_steps": 100, "weight_decay": 1e-2})
    if classifier == "finetuned":
        config.teacher.max_tokens = 128 if long_texts else 64
        config.teacher_training.update({"steps": 600, "batch_size": 32, "learning_rate": 5e-5, "warmup_steps": 60, "length_pool": 8})
    if labels != "all":
        config.training.batch_size = config.teacher_training.batch_size = 32
    config.evaluation.batch_size = 500
    config.rkd.group_size = 32
    config.compare.methods = tuple(name for name in METHODS if name != "oracle" or may_have_fine_classes(config.data))
    config.compare.seeds = (0, 1, 2, 3, 4)
    if values.classifier == "finetuned":
        config.compare.methods = ("teacher", "probe", "baseline", "kd", "lelp", "east", "east_kd", "compressed")
        config.compare.settings = ("probe teacher.classifier=none",)
        config.compare.variants = ("compressed_frozen = compressed teacher.classifier=none",)
    if (values.data, values.teacher, classifier, student, labels, values.runlocal) == TUNED:
        config.compare.settings = SETTINGS
    if values.runlocal:
        config.name = "text-runlocal"
        if values.data not in OWN_FILES:
            config.data.update({"unlabelled": 0, "valid": 200, "test": 200, "unseen": min(config.data.unseen, 200)})
            config.data.labelled = config.data.labelled if values.labels else 400
        config.training.update({"steps": 30, "batch_size": 32, "eval_every_steps": 10, "log_every_steps": 5, "warmup_steps": 3})
        config.teacher_training.update({"steps": 20, "batch_size": 32, "eval_every_steps": 10, "log_every_steps": 5, "warmup_steps": 2})
        config.evaluation.batch_size = 100
        config.compare.seeds = (0, 1)
    for part in (config.training, config.teacher_training):
        part.batch_size = min(part.batch_size, config.data.labelled or part.batch_size)
    return config
