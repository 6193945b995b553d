"""What is refused of a teacher, with which words, before anything starts."""

import numpy as np
import pytest

from jaxkd import members, pipeline
from jaxkd.errors import ConfigError, DataError
from jaxkd.teachers import aisfx, musicnn
from tests.small import load_config


@pytest.mark.parametrize("teacher", ["MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg"])
def test_the_released_taggers_can_be_fine_tuned(teacher):
    for method in ("teacher", "compressed", "lelp"):
        config = load_config("audio", f"method={method},teacher={teacher},classifier=finetuned")
        pipeline.check(config)
        for name in members.rows(config):
            pipeline.check(members.member(config, name, 0))
    own = {name: members.member(config, name, 0).teacher.classifier for name in ("probe", "compressed_frozen", "compressed", "east")}
    assert own == {"probe": "none", "compressed_frozen": "none", "compressed": "finetuned", "east": "finetuned"}
    with pytest.raises(ConfigError, match="aisfx cannot be trained here: choose one of MTT_musicnn, MSD_musicnn, MTT_vgg, MSD_vgg, cp_resnet, "):
        pipeline.check(load_config("audio", "teacher=aisfx,classifier=finetuned"))


def test_the_width_of_an_archived_encoder_is_not_known_before_it_is_loaded(tmp_path):
    config = load_config("text", "teacher=minilm,classifier=linear")
    config.lelp.subclasses = 400
    with pytest.raises(ConfigError, match="the embedding of minilm has 384 dimensions"):
        pipeline.check(config)
    config.teacher.archive = str(tmp_path)
    pipeline.check(config)


def frames_of(teacher, seconds):
    """T, as the teacher itself counts it."""
    return aisfx.count_blocks(round(seconds * aisfx.SAMPLE_RATE)) if teacher == "aisfx" else musicnn.count_patches(round(seconds * 16_000))


@pytest.mark.parametrize(("name", "seconds"), [("MTT_musicnn", 5.968), ("MSD_vgg", 5.968), ("aisfx", 3.4366)])
def test_attention_needs_a_teacher_of_several_frames(name, seconds):
    config = load_config("audio", f"teacher={name}")
    config.compressed.transformation = "attention"
    config.data.clip_seconds = seconds
    pipeline.check(config)
    assert frames_of(name, seconds) == 2
    config.data.clip_seconds = seconds - 0.001
    assert frames_of(name, seconds - 0.001) == 1
    with pytest.raises(ConfigError, match=f"'attention', which weighs frames, but the teacher {name} gives one frame for clips of {seconds - 0.001} s"):
        pipeline.check(config)
    config.teacher.others = ("hear:tests.teachers.hear_modules:timestamp",)
    pipeline.check(config)
    config.teacher.others = ("hear:tests.teachers.hear_modules",)
    with pytest.raises(ConfigError, match="gives one frame"):
        pipeline.check(config)


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("text", "teacher=MTT_musicnn", "the teacher MTT_musicnn takes audio, but the data is text: choose one of minilm, wordllama."),
        ("text", "teacher=MTT_musicnn,classifier=finetuned", "the teacher MTT_musicnn takes audio, but the data is text: choose one of minilm, wordllama."),
        ("text", "teacher=wordlama", "Did you mean 'wordllama'? Valid: minilm, precomputed, wordllama."),
        ("text", "teacher=minilmm,classifier=finetuned", "Valid: bag_of_embeddings, bag_of_words_tiny, minilm, text_cnn, text_transformer."),
        ("text", "student=mlp,features=MSD_musicn", "unknown teacher 'MSD_musicn'. Valid: minilm, precomputed, wordllama."),
        ("audio", "teacher=MSD_musicn", "Did you mean 'MSD_musicnn'? Valid: MSD_musicnn, MSD_vgg, MTT_musicnn, MTT_vgg, aisfx, precomputed."),
        (
            "audio",
            "teacher=resnet8,classifier=finetuned",
            "config.teacher.name is 'resnet8', which takes image, but the data is audio: choose one of cp_resnet,",
        ),
        ("image", "teacher=minilm", "the teacher minilm takes text, but the data is image: train a network"),
        ("image", "teacher=resnet21", "Did you mean 'resnet20'? Valid: mobilenet, mobilenet_half, resnet110, "),
    ],
)
def test_teachers_of_the_datas_modality_alone_are_named(name, argument, message):
    with pytest.raises(ConfigError) as caught:
        pipeline.check(load_config(name, argument))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "argument", "archive", "message"),
    [
        ("audio", "", "absent.whl", r"--config\.teacher\.archive=.*absent\.whl: there is no such file. It should be a copy of musicnn-0\.1\.0"),
        ("audio", "classifier=finetuned", "short.whl", r"short\.whl is not musicnn 0\.1\.0.*\(5 bytes, expected .*name a good copy of"),
        ("audio", "teacher=aisfx", "", r"there is no such file. It should be a copy of aisfx"),
        ("text", "", "absent", r"absent: there is no such file. It should be a copy of wordllama"),
        ("audio", "teacher=hear:tests.mel_teacher", "absent", r"archive is .*absent, but there is no such file or folder of weights: name one, or ''"),
        ("audio", "teacher=precomputed", "absent", r"to be read from .*absent: there is no such folder or file: set --config\.teacher\.archive=FOLDER_OR_FILE"),
        ("audio", "teacher=precomputed", "other.npz", r"other\.npz should hold the arrays ids \(of text\) and embeddings: .*ids, embeddings not among values"),
    ],
)
def test_a_teachers_archive_is_looked_at_before_anything_starts(tmp_path, name, argument, archive, message):
    (tmp_path / "short.whl").write_bytes(b"wheel")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    config = load_config(name, argument)
    config.teacher.archive = str(tmp_path / archive)
    with pytest.raises((ConfigError, DataError), match=message):
        pipeline.check(config)
