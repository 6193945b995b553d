"""The teacher's own tags find the instruments of rendered clips, without any training: network, front end and data are what they should be together."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxkd import teachers
from jaxkd.config import default_config
from jaxkd.data.rendered import prepare
from jaxkd.files import default_cache_dir

# With 300 clips of this kind: drums 0.97, piano 0.87, flute 0.85, harpsichord 0.83, synth 0.81, choir and cello 0.79, violin 0.73, guitar 0.71, harp 0.62,
# mean 0.80. The bounds are the lowest of 200 random samples of 120 of them; the other tags must be above chance. These 160 clips give a mean of 0.79.
LOWEST = {"drums": 0.92, "piano": 0.76, "flute": 0.73, "harpsichord": 0.64, "synth": 0.64, "choir": 0.63, "cello": 0.61}
LOWEST_MEAN = 0.74


@pytest.fixture(scope="module")
def clips():
    data = default_config().data
    data.update(labelled=1, unlabelled=0, valid=1, test=160, unseen=0)
    dataset = prepare(data, default_cache_dir())
    ids = dataset.splits["test"]
    return dataset.classes, dataset.gather(ids), dataset.labels(ids)


@pytest.mark.slow
def test_tags_find_the_instruments(musicnn_archive, clips):
    classes, audio, labels = clips
    teacher = teachers.build("MTT_musicnn", embedding="logits", archive=musicnn_archive)
    logits = teacher.logits(audio).mean(axis=1)
    tagged = [name for name in classes if name in teacher.tags]
    areas = {name: roc_auc_score(labels[:, classes.index(name)], logits[:, teacher.tags.index(name)]) for name in tagged}
    assert len(areas) == 10
    assert {name: area for name, area in areas.items() if area < LOWEST.get(name, 0.5)} == {}
    assert np.mean(list(areas.values())) > LOWEST_MEAN
