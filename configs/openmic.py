"""OpenMIC-2018 as in EAsT (arXiv 2306.17424): CP-ResNet taught by the stored embeddings of a large audio network.

    python -m jaxkd.main --config=configs/openmic.py:teacher=passt --config.data.folder=FOLDER --config.teacher.archive=EMBEDDINGS
    python -m jaxkd.main --config=configs/openmic.py:teacher=vggish,method=compressed --config.data.folder=FOLDER --config.teacher.archive=EMBEDDINGS
    python -m jaxkd.main --config=configs/openmic.py:hear=hear21passt.base --config.data.folder=FOLDER

FOLDER is the unpacked `openmic-2018`. EMBEDDINGS holds one array a clip, SAMPLE_KEY.npy [T, D]: vggish [10, 128] (the 8-bit integers), openl3 [11, 512],
passt [11, 768], panns [1, 2048]. D, expands, weight and normalisation are the published ones; the numbers of frames T are inferred. How EAsT made its panns
is not published, nor is its list of training clips, which here are all that valid and test leave. With hear=PACKAGE.MODULE an installed module of the HEAR
interface embeds the audio instead, one vector a clip, with the weight and expands of panns; hear21passt.base gives 1,295 numbers, 527 logits and 768
features, where EAsT has the 768.

Embeddings are of the audio as it is, as published: filter jitter and SpecAugment change the student's input alone, mixup mixes the embeddings too.

The probe on the embedding is trained as published, by plain SGD from 0.1, vggish from 0.2: as the reference row (method probe), and as the classifier whose
logits the methods take that need one (east_kd, kd, lelp); --config.teacher.classifier=linear or mlp trains another by AdamW. Distillation has the published
temperature 2, and alpha is 1 - lambda of the teacher's distance: the lambda of the published kd row is unpublished. lelp and its controls run without
mixup, which their targets cannot follow. compressed has the published weight of east: none was tuned for it. compressed.training=staged is not possible with
the plateau schedule.

As published, the plateau schedule and the early stop watch the whole validation loss, the distance with its weight included (of compressed, without the
teacher-side loss); the checkpoint is the one of the best mAP. So another east.weight or compressed.weight is another schedule too, and scores of two weights
differ by both. To compare weights alone, give all of them one schedule: --config.training.schedule=cosine --config.training.early_stop_patience=0.

A pass is eval_every_steps = 794 steps: every batch has 16 rows, the last clips of a pass sharing theirs with the first of the next, where EAsT's last batch
of a pass is smaller. With fewer labels the rows that are left without one are not drawn, and a pass is shorter: to keep both patiences in passes, give its
steps, ceil(share * 12,692 / 16), as in --config.data.label_share=0.25 --config.training.eval_every_steps=199.

Disk: 12.8 GB for the decoded clips, 0.2 to 0.7 GB for the embeddings. Machine: a GPU or TPU. A whole run of 80,000 steps is 8.5e16 floating-point operations
by count: 2.5 hours at 10 TFLOP/s; two CPU cores would take weeks. Not run here.

Published test mAP (single runs, the authors' poster): baseline 0.819; east with vggish 0.842, openl3 0.835, passt 0.847, panns 0.849; the teachers' own
linear probes 0.803, 0.803, 0.858, 0.853.

String arguments: teacher (vggish, openl3, passt, panns) or hear, method, student, all_stages (distances at three stages, the poster's "All").
"""

import ml_collections

from jaxkd.methods import NEED_CLASSIFIER, PSEUDO_CLASS
from jaxkd.recipes import east_experiment, east_openmic


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The experiment; `arg` as in the examples above."""
    config = east_experiment(arg, source="openmic", clip_seconds=10.0, recipe=east_openmic, need_classifier=NEED_CLASSIFIER)
    if config.method in PSEUDO_CLASS:
        config.training.mixup_alpha = 0.0
    return config
