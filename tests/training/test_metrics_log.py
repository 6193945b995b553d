"""The log of a run: lines after the resumed step are dropped, TensorBoard reads the same numbers."""

import json
import struct

from tensorboardX.proto.event_pb2 import Event

from jaxkd.training.metrics_log import MetricsLog


def _events(folder):
    """The scalars in the record files of a folder: uint64 length, uint32 checksum, data, uint32 checksum."""
    found = {}
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            at += 16 + length
    return found


def test_resume_drops_later_lines_and_a_half_written_one(tmp_path):
    log = MetricsLog(tmp_path, 0)
    for step in (5, 10, 15):
        log.write(step, "train", {"loss": 1.0 / step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "spl')
    log = MetricsLog(tmp_path, 10)
    log.write(15, "train", {"loss": 0.25})
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["values"]["loss"]) for line in lines] == [(5, 0.2), (10, 0.1), (15, 0.25)]


def test_tensorboard_has_the_same_numbers(tmp_path):
    log = MetricsLog(tmp_path, 0)
    log.write(3, "valid", {"map": 0.5, "loss": 0.125})
    log.close()
    assert _events(tmp_path / "tensorboard") == {("valid/map", 3): 0.5, ("valid/loss", 3): 0.125}
