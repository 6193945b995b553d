"""A published module of the HEAR interface with its pretrained network as a teacher; skipped where its packages are not installed.

python -m pip install torch torchaudio torchcrepe==0.0.24, then python -m pip install --no-deps hearbaseline==2021.1.1 (it asks for an old numpy).
"""

from pathlib import Path

import numpy as np
import pytest

from jaxkd import teachers
from jaxkd.teachers.resampling import Clips

RATE = 16_000
pytest.importorskip("hearbaseline", reason="needs hearbaseline, torchcrepe and torch")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("embedding", "hop"), [("timestamp", 800), ("scene", 4000)])
def test_crepe_through_its_hear_wrapper_gives_what_the_network_gives(embedding, hop):
    """The wrapper of CREPE (22.2 M parameters) against torchcrepe itself: frames every 50 ms, or the mean of those every 250 ms."""
    import torch
    import torchcrepe

    time = np.arange(RATE) / RATE
    clips = np.round(9000 * np.sin(2 * np.pi * np.array([[220.0], [523.25]]) * time)).astype(np.int16)
    teacher = teachers.build("hear:hearbaseline.torchcrepe", embedding=embedding, archive=Path(), clips=Clips(RATE, RATE))
    frames = [torchcrepe.embed(torch.tensor(clip / np.float32(32768))[None], RATE, hop, model="full") for clip in clips]
    expected = torch.cat(frames).reshape(2, -1, 2048).detach().numpy()
    expected = expected if embedding == "timestamp" else expected.mean(axis=1, keepdims=True)
    assert expected.std() > 0.01
    np.testing.assert_allclose(teacher.embed(clips), expected, rtol=1e-5, atol=1e-5)
    assert (teacher.dim, teacher.hop_seconds) == (2048, 0.05 if embedding == "timestamp" else 0.0)
    assert "hearbaseline 2021.1.1" in teacher.preprocessing["module"]
