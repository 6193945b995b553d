"""What the tests of the few-class sources share: a data config, and rows by content."""

from types import SimpleNamespace


def data_config(source, **fields):
    defaults = {"labelled": 0, "unlabelled": -1, "valid": 10, "test": 0, "unseen": 0, "seed": 0, "binary": False}
    names = dict.fromkeys(("archive", "folder", "tfds_name", "tfds_data_dir", "text_column", "label_column"), "")
    return SimpleNamespace(source=source, **{**defaults, **names, **fields})


def class_by_text(dataset, split):
    """{text: name of its class}; a masked row has none."""
    ids = dataset.splits[split]
    labels, masks = dataset.labels(ids), dataset.label_mask(ids)
    return {text: dataset.classes[label.argmax()] if mask.all() else None for text, label, mask in zip(dataset.gather(ids), labels, masks, strict=True)}
