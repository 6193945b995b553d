"""MagnaTagATune as in EAsT (arXiv 2306.17424): Mobile FCN taught by the stored embeddings of a large audio network.

    python -m jaxkd.main --config=configs/magnatagatune.py:teacher=passt --config.data.folder=FOLDER --config.teacher.archive=EMBEDDINGS
    python -m jaxkd.main --config=configs/magnatagatune.py:teacher=vggish,method=compressed --config.data.folder=FOLDER --config.teacher.archive=EMBEDDINGS
    python -m jaxkd.main --config=configs/magnatagatune.py:hear=hear21passt.base --config.data.folder=FOLDER

FOLDER holds `annotations_final.csv` and the unpacked folders 0 to f of MP3 files. EMBEDDINGS holds one array a clip, CLIP_ID.npy [T, D]: vggish [30, 128]
(the 8-bit integers), openl3 [31, 512], passt [31, 768], panns [1, 2048]. D, expands, weight and normalisation are the published ones; the numbers of frames
T are inferred. How EAsT made its panns is not published. With hear=PACKAGE.MODULE an installed module of the HEAR interface embeds the audio instead, one
vector a clip, with the weight and expands of panns; hear21passt.base gives 1,295 numbers, 527 logits and 768 features, where EAsT has the 768. The classes
are the 50 most frequent tags, in the usual split; EAsT's list of training clips is not published.

The probe on the embedding is trained as published, by plain SGD from 0.1, passt from 0.2: as the reference row (method probe), and as the classifier whose
logits the methods take that need one (east_kd, kd, lelp); --config.teacher.classifier=linear or mlp trains another by AdamW. Distillation has the published
temperature 2, and alpha is 1 - lambda of the teacher's distance: the lambda of the published kd row is unpublished. compressed has the published weight
of east: none was tuned for it. compressed.training=staged is not possible with the plateau schedule.

As published, the plateau schedule and the early stop watch the whole validation loss, the distance with its weight included (of compressed, without the
teacher-side loss); the checkpoint is the one of the best mAP. So another east.weight or compressed.weight is another schedule too, and scores of two weights
differ by both. To compare weights alone, give all of them one schedule: --config.training.schedule=cosine --config.training.early_stop_patience=0.

A pass is eval_every_steps = 953 steps: every batch has 16 rows, the last clips of a pass sharing theirs with the first of the next, where EAsT's last batch
of a pass is smaller. With fewer labels the rows that are left without one are not drawn, and a pass is shorter: to keep both patiences in passes, give its
steps, ceil(share * 15,244 / 16), as in --config.data.label_share=0.25 --config.training.eval_every_steps=239.

Disk: 19.7 GB for the decoded clips, 0.2 to 2 GB for the embeddings. Machine: a GPU or TPU. A whole run of 100,000 steps is 1.4e16 floating-point operations
by count: half an hour at 10 TFLOP/s, some days on two CPU cores. Not run here.

Published test mAP / ROC-AUC (single runs, the authors' poster): baseline 0.437 / 0.905; east with vggish 0.454 / 0.912, openl3 0.447 / 0.910, passt 0.459 /
0.912, panns 0.449 / 0.909; the teachers' own linear probes 0.433 / 0.903, 0.403 / 0.890, 0.473 / 0.917, 0.460 / 0.911.

String arguments: teacher (vggish, openl3, passt, panns) or hear, method, student, all_stages (distances at three stages, the poster's "All").
"""

import ml_collections

from jaxkd.methods import NEED_CLASSIFIER
from jaxkd.recipes import east_experiment, east_magnatagatune

CLIP_SECONDS = 29.124
"""Whole MP3 frames: 465,984 samples, 1,457 log-mel frames."""


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The experiment; `arg` as in the examples above."""
    return east_experiment(arg, source="magnatagatune", clip_seconds=CLIP_SECONDS, recipe=east_magnatagatune, need_classifier=NEED_CLASSIFIER)
