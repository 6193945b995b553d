"""Configuration: what is refused, with which words, before any device; fingerprints; string arguments."""

import pytest

from jaxkd import compression, methods, pipeline
from jaxkd import config as configs
from jaxkd.embeddings import manifest
from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.lelp import null_space, rotation, subspaces
from jaxkd.losses import alignment, groups, relations
from jaxkd.teachers import choice
from jaxkd.validation import validate
from tests.small import load_config

BAD = [
    ("method", "compresed", "unknown method 'compresed'. Did you mean 'compressed'?"),
    ("teacher.name", "MTT_musicn", "Did you mean 'MTT_musicnn'?"),
    ("teacher.name", "passt", "configs/openmic.py and configs/magnatagatune.py read its stored embeddings"),
    ("teacher.others", ("vggish",), "install a module of the HEAR interface and name that, hear:PACKAGE.MODULE. Valid: MSD_musicnn"),
    ("teacher.embedding", "max_mean", "Did you mean 'max_mean_pool'?"),
    ("student.name", "cp_resnett", "Did you mean 'cp_resnet'?"),
    ("student.name", "mobile_fcn", "config.frontend.bands is 64, but the student 'mobile_fcn' takes 96 or 128 mel bands: set it to 96."),
    ("frontend.bands", 15, "the student 'cp_resnet_small' needs at least 16 mel bands"),
    ("data.source", "rendered", "unknown data source 'rendered'"),
    ("data.labelled", 0, "config.data.labelled is 0, but must be an integer of at least 1."),
    ("data.unlabelled", -5, "config.data.unlabelled is -5, but must be an integer of at least 0"),
    ("data.unlabelled", -1, "config.data.unlabelled is -1, but must be an integer of at least 0"),
    ("data.unseen", -1, "config.data.unseen is -1, but must be an integer of at least 0"),
    ("data.image_size", -8, "config.data.image_size is -8, but must be an integer of at least 0"),
    ("training.steps", -1, "config.training.steps is -1"),
    ("training.batch_size", 301, "training.batch_size is 301, larger than the data set of 300 labelled clips"),
    ("training.unlabelled_ratio", 60, "more than the 900 there are"),
    ("training.learning_rate", float("inf"), "config.training.learning_rate is inf, but must be finite"),
    ("data.valid", 1, "a metric needs clips with and without a class"),
    ("data.clip_seconds", 1.0, "the teacher MTT_musicnn needs clips of at least 2.976 s"),
    ("data.sample_rate", 22_050, "the teacher MTT_musicnn takes 16000 Hz"),
    ("teacher.name", "hear:no_such_package.base", "the module no_such_package.base of teacher 'hear:no_such_package.base' is not installed"),
    ("teacher.hop_seconds", 0.96, "for the teacher MTT_musicnn, which knows its own"),
    ("teacher.hop_seconds", -1.0, "config.teacher.hop_seconds is -1.0, but must be at least 0."),
    ("teacher.normalisation", "vgish", "one of none, zscore, vggish, openl3"),
    ("teacher.others", ("MSD_musicn",), "Did you mean 'MSD_musicnn'?"),
    ("teacher.others", ("MSD_musicnn:penultimat",), "Did you mean 'penultimate'?"),
    ("teacher.others", ("minilm",), "the teacher minilm takes text, but the data is audio"),
    ("teacher.others", ("MTT_musicnn",), "names a teacher's embedding twice"),
    ("teacher.others", ("precomputed",), "the teacher 'precomputed' is read from disk: set --config.teacher.archive"),
    ("teacher.others", ("precomputed archive=absent.npz",), "read from absent.npz: there is no such folder or file"),
    ("teacher.others", ("MSD_musicnn normalization=none",), "Did you mean 'normalisation=...'?"),
    ("teacher.others", ("MSD_musicnn normalisation=nonne",), "Did you mean 'none'?"),
    ("teacher.others", ("precomputed hop_seconds=often",), "hop_seconds=often is no number of seconds"),
    ("teacher.others", ("MSD_musicnn 'archive=x",), "which cannot be read: No closing quotation"),
    ("teacher.combine", "seperate", "one of concatenate, separate"),
    ("teacher.combine", "separate", "config.teacher.combine is 'separate', but there is one teacher"),
    ("teacher.others", ("",), "an entry is the name of a teacher, then FIELD=VALUE pairs"),
    ("data.unseen", 500, "unseen clips are test clips"),
    ("compressed.transformation", "identity", "keeps the embedding's 1506 dimensions, but config.compressed.features is 0"),
    ("frontend.n_fft", 1025, "must be even"),
    ("training.learning_rate", 0.0, "config.training.learning_rate is 0.0, but must be above 0."),
    ("training.warmup_steps", 100_000, "not below training.steps"),
    ("training.schedule", "linear", "one of cosine, plateau, constant"),
    ("training.early_stop_patience", 3, "needs training.schedule='plateau'"),
    ("east.weight", 1.5, "config.east.weight is 1.5, but must be between 0 and 1."),
    ("frontend.fmax", 9000.0, "above half the sample rate (8000.0 Hz)"),
    ("frontend.window", 2048, "above n_fft 1024"),
    ("distance.group_size", 1, "a group needs at least 2 rows"),
    ("distance.features_expand", 2, "both -1 (mean over time), or both a number of repeats"),
    ("name", "a/b", "it names a folder"),
    ("name", "..", "it names a folder"),
    ("compare.methods", ("east", "east"), "names one twice"),
    ("compare.methods", (5,), "config.compare.methods has 5, but an entry is the name of a method"),
    ("compare.seeds", (0, 0), "names one twice"),
    ("data.label_share", 0.0, "config.data.label_share is 0.0, but must be above 0 and at most 1."),
    ("data.label_share", 1.5, "config.data.label_share is 1.5, but must be above 0 and at most 1."),
    ("data.label_share", 0.05, "larger than the data set of 15 labelled clips"),
    ("compare.methods", ("baseline", "esat"), "Did you mean 'east'?"),
    ("compare.seeds", (), "must each name at least one"),
    ("compare.name", "a/b", "config.compare.name is 'a/b', but it names a folder"),
    ("compare.variants", ("narrow",), "config.compare.variants has 'narrow', but an entry is NAME = METHOD, then FIELD=VALUE pairs"),
    ("compare.variants", ("narrow = compressed.features=8",), "an entry is NAME = METHOD, then FIELD=VALUE pairs"),
    ("compare.variants", ("a = east", "a = baseline"), "names 'a' twice"),
    ("compare.variants", ("east = compressed compressed.features=8",), "names 'east', which is a method: take another name"),
    ("compare.variants", ("narrow = compresed compressed.features=8",), "unknown method 'compresed'. Did you mean 'compressed'?"),
    ("compare.settings", ("narow compressed.features=8",), "unknown method 'narow'"),
    ("data.classes", ("piano", "piano"), "at least 2 different names"),
    ("store.dtype", "int8", "one of float16, bfloat16, float32"),
    ("student.compute_dtype", "float16", "one of float32, bfloat16"),
    ("parallel.parameters", "split", "one of replicated, sharded"),
    ("parallel.prefetch", 0, "config.parallel.prefetch is 0, but must be an integer of at least 1"),
    ("text.vocabulary", 1, "config.text.vocabulary is 1, but must be an integer of at least 2"),
    ("rkd.group_size", 1, "at least 2 rows, or 0 for the whole batch"),
    ("method", "dkd", "is for one class an example, but rendered_instruments has many labels a clip: choose one of baseline, east, east_kd, compressed, kd"),
    ("method", "lelp", "takes the logits of the teacher's own classifier, but config.teacher.classifier is 'none'"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD, ids=[f"{field}={value}" for field, value, _ in BAD])
def test_bad_value_is_named_with_its_limit(field, value, message):
    config = configs.default_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError) as caught:
        pipeline.check(config)
    assert message in str(caught.value)


def test_parameters_are_not_sharded_under_pmap():
    config = configs.default_config()
    config.parallel.parameters = "sharded"
    pipeline.check(config)
    config.parallel.mode = "pmap"
    with pytest.raises(ConfigError, match=r"config\.parallel\.parameters is 'sharded', but .* set parallel\.mode='jit'"):
        pipeline.check(config)


def test_how_far_ahead_batches_are_read_changes_no_fingerprint():
    config = configs.default_config()
    before = configs.fingerprint(config)
    config.parallel.prefetch = 5
    assert configs.fingerprint(config) == before
    config.parallel.parameters = "sharded"
    assert configs.fingerprint(config) != before


def test_the_control_of_random_directions_has_no_simplex_form():
    config = load_config("text", "method=lelp")
    config.lelp.simplex = True
    pipeline.check(config)
    config.method = "random_directions"
    with pytest.raises(ConfigError, match=r"config\.lelp\.simplex is True, but method 'random_directions' .* Set lelp\.simplex=False"):
        pipeline.check(config)


@pytest.mark.parametrize("kind", ["random", "pca", "identity"])
def test_separate_teachers_take_a_transformation_that_is_trained(kind):
    config = configs.default_config()
    config.teacher.update({"others": ("MSD_musicnn:penultimate",), "combine": "separate"})
    pipeline.check(config)
    config.compressed.transformation = kind
    with pytest.raises(ConfigError, match=f"a transformation for each teacher, but '{kind}' is not trained"):
        pipeline.check(config)


def test_the_identity_keeps_the_dimensions_of_all_teachers():
    config = configs.default_config()
    config.teacher.others = ("MSD_musicnn:penultimate",)
    config.compressed.update({"transformation": "identity", "features": 1506})
    with pytest.raises(ConfigError, match="keeps the embedding's 1706 dimensions"):
        pipeline.check(config)
    config.compressed.features = 1706
    pipeline.check(config)


@pytest.mark.parametrize(("others", "dim"), [((), 1506), (("MSD_musicnn:penultimate",), 1706)])
def test_there_are_no_more_principal_components_than_dimensions(others, dim):
    config = configs.default_config()
    config.teacher.others = others
    config.compressed.update({"transformation": "pca", "features": dim})
    pipeline.check(config)
    config.compressed.features = dim + 1
    with pytest.raises(ConfigError, match=rf"no more components than the embedding's {dim} dimensions, but config.compressed.features is {dim + 1}: set"):
        pipeline.check(config)
    config.method = "east"
    pipeline.check(config)


def test_a_trained_classifier_has_one_teacher():
    config = load_config("text", "")
    config.teacher.others = ("minilm",)
    with pytest.raises(ConfigError, match=r"config.teacher.others is \('minilm',\), but a trained classifier \('mlp'\) has one teacher"):
        pipeline.check(config)


def test_wrong_type_and_unknown_field():
    config = configs.default_config()
    with config.ignore_type():
        config.training.steps = 2.5
    with pytest.raises(ConfigError, match=r"config.training.steps is 2.5, but must be of type int"):
        pipeline.check(config)
    config = configs.default_config()
    config.training.stepz = 3
    with pytest.raises(ConfigError, match=r"unknown config field 'training.stepz'. Did you mean 'training.steps'"):
        pipeline.check(config)


def test_default_sizes_of_the_main_job():
    data = load_config("audio", "").data
    assert (data.labelled, data.unlabelled, data.valid, data.test, data.unseen, data.clip_seconds) == (300, 900, 400, 400, 400, 3.0)
    assert len(data.classes) == 16


def test_features_of_another_kind_are_refused():
    config = load_config("text", "student=mlp,features=wordlama")
    with pytest.raises(ConfigError, match="Did you mean 'wordllama'"):
        pipeline.check(config)
    config.student.features = "MTT_musicnn"
    with pytest.raises(ConfigError, match="takes audio, but the data is text: choose minilm, wordllama"):
        pipeline.check(config)


def test_shipped_configs_are_good():
    for argument in ("", "runlocal", "method=east", "teacher=MSD_vgg,method=probe", "student=cp_resnet"):
        pipeline.check(load_config("audio", argument))


@pytest.mark.parametrize(("name", "usual", "tiny"), [("audio", "cp_resnet_small", "cp_resnet_tiny"), ("image", "resnet8", "resnet_tiny")])
def test_a_student_that_is_named_is_taken_at_tiny_sizes_too(name, usual, tiny):
    students = {argument: load_config(name, argument).student.name for argument in ("", "runlocal", f"runlocal,student={usual}", f"student={tiny}")}
    assert list(students.values()) == [usual, tiny, usual, tiny]


@pytest.mark.parametrize(
    ("name", "argument", "most", "words"),
    [
        ("audio", "classifier=linear", 1506 - 16, "the embedding of MTT_musicnn has 1506 dimensions, of which the classifier reads at least 16"),
        ("audio", "classifier=mlp", 256 - 16, "config.teacher.hidden is 256, of which the classifier reads at least 16"),
        ("text", "classifier=linear", 256 - 1, "the embedding of wordllama has 256 dimensions, of which the classifier reads at least 1"),
    ],
)
@pytest.mark.parametrize("simplex", [False, True])
def test_more_subclasses_than_the_embedding_has_room_for(name, argument, most, words, simplex):
    config = load_config(name, argument)
    config.method = "lelp"
    config.lelp.update({"subclasses": most + simplex, "simplex": simplex})
    pipeline.check(config)
    config.lelp.subclasses += 1
    with pytest.raises(ConfigError) as caught:
        pipeline.check(config)
    assert f"config.lelp.subclasses is {most + simplex + 1}: {most + 1} directions are asked for, but {words}: set it to at most {most + simplex}" in str(
        caught.value
    )
    config.lelp.null_space = "off"
    pipeline.check(config)
    config.update({"method": "uniform", "lelp": {"null_space": "rows"}})
    pipeline.check(config)


@pytest.mark.parametrize("classifier", ["linear", "mlp"])
@pytest.mark.parametrize("method", [*methods.METHODS, *methods.REFERENCES])
def test_audio_takes_every_method_that_fits_many_labels(method, classifier):
    if method in methods.ONE_CLASS:
        with pytest.raises(ConfigError, match="is for one class an example"):
            pipeline.check(load_config("audio", f"method={method},classifier={classifier}"))
        return
    config = load_config("audio", f"method={method},classifier={classifier}")
    pipeline.check(config)
    assert (config.teacher.classifier, config.training.mixup_alpha) == (classifier, 0.0)
    assert set(config.compare.methods).isdisjoint(methods.ONE_CLASS)
    assert load_config("audio", f"method={method}").teacher.classifier == ("linear" if method in methods.NEED_CLASSIFIER else "none")


def test_string_argument():
    values = configs.parse_arg("method=east,runlocal", method="x", size=3, rate=0.5, runlocal=False)
    assert values.to_dict() == {"method": "east", "size": 3, "rate": 0.5, "runlocal": True}
    assert configs.parse_arg("size=7,rate=1,runlocal=false", size=3, rate=0.5, runlocal=True).to_dict() == {"size": 7, "rate": 1.0, "runlocal": False}
    for argument, message in (
        ("metod=x", "Did you mean 'method'"),
        ("size=a", "not of type int"),
        ("method", "needs a value"),
        ("runlocal=maybe", "not a boolean"),
    ):
        with pytest.raises(ConfigError, match=message):
            configs.parse_arg(argument, method="x", size=3, runlocal=False)


def test_fingerprint_depends_on_results_alone():
    config = configs.default_config()
    original = configs.fingerprint(config)
    config.data.scores_archive = "elsewhere.whl"
    config.compare.seeds = (5,)
    assert configs.fingerprint(config) == original
    config.training.steps += 1
    assert configs.fingerprint(config) != original


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("store.dtype", manifest.DTYPES),
        ("teacher.normalisation", choice.NORMALISATIONS),
        ("distance.name", (*methods.BETWEEN_ROWS, "fitnet", *methods.EQUAL_WIDTHS)),
        ("distance.difference", relations.DIFFERENCES),
        ("distance.gather", groups.GATHERS),
        ("distance.rows", relations.ROWS),
        ("distance.alignment", alignment.ALIGNMENTS),
        ("compressed.transformation", compression.TRANSFORMATIONS),
        ("lelp.null_space", null_space.NULL_SPACES),
        ("lelp.rotation", rotation.ROTATIONS),
        ("lelp.scale", subspaces.SCALES),
        ("lelp.solver", subspaces.SOLVERS),
        ("lelp.classes_from", subspaces.CLASS_SOURCES),
    ],
)
def test_a_choice_is_among_the_names_that_the_library_takes(field, names):
    """The check has names of its own, since it imports no JAX."""
    config = configs.default_config()
    part, name = field.split(".")
    config[part][name] = "none of them"
    with pytest.raises(ConfigError) as refused:
        validate(config)
    assert str(refused.value) == f"config.{field} is 'none of them', but must be one of {', '.join(names)}."


def test_nothing_is_made_for_an_evaluation_without_a_student(tmp_path):
    with pytest.raises(ArtefactError, match=r"run/student is missing, there is nothing to evaluate: .* with --mode=train"):
        pipeline.run(load_config("text", "runlocal"), tmp_path / "run", tmp_path / "cache", mode="evaluate")
    assert not list(tmp_path.iterdir())
