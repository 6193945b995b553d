"""One process of a job that prepares a folder of recordings, finds it again, and finds it damaged; test_data_in_job.py runs it.

Arguments: folder, address of the job, number of its processes, place of this one. The folder holds `recordings`.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jaxkd import data, hosts
from jaxkd.data import clips, dataset, folder
from jaxkd.data.fewer_labels import fewer_labels
from jaxkd.errors import JaxkdError
from jaxkd.files import sha256_file


def half(data_config: Any, cache_dir: Path) -> dataset.Dataset:
    """A source of one's own that changes in memory what is on disk."""
    return fewer_labels(folder.prepare(data_config, cache_dir), 0.5, 0)


def main() -> None:
    place, process = Path(sys.argv[1]), int(sys.argv[4])
    hosts.join(hosts.Job(sys.argv[2], int(sys.argv[3]), process, join_seconds=120, heartbeat_seconds=60))
    hashed: list[str] = []
    for module in (clips, dataset, folder):
        vars(module)["sha256_file"] = lambda file: [hashed.append(Path(file).name), sha256_file(file)][1]

    def prepared(cache: str = "cache", source: str = "audio_folder", recordings: str = "recordings") -> dict[str, Any]:
        """What comes of it, once all processes are there, and which files were read whole for it."""
        hosts.wait_for_all()
        hashed.clear()
        settings = SimpleNamespace(source=source, folder=recordings and str(place / recordings), clip_seconds=0.5, sample_rate=16_000)
        try:
            found = data.prepare(settings, place / cache)
        except JaxkdError as error:
            return {"error": type(error).__name__, "status": error.exit_status, "says": str(error)}
        ids = [example for split in found.splits.values() for example in split]
        values = [found.gather(ids).sum(axis=1).tolist(), found.labels(ids).tolist(), found.label_mask(ids).tolist()]
        return {"path": str(found.path), "fingerprint": found.fingerprint, "ids": ids, "values": values, "hashed": sorted(hashed)}

    def damage(file: Path, *, by: int = 0) -> None:
        if process == by:
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)

    said = {"made": prepared(), "again": prepared(), "changed in memory": prepared(source="tests.data.data_in_job:half"), "refused": prepared(recordings="")}
    hosts.SHARED_SECONDS = 0
    own = prepared(cache=f"disk-{process}")
    said |= {"made on own disks": own, "again on own disks": prepared(cache=f"disk-{process}")}
    damage(Path(own["path"]) / "valid.inputs.npy", by=1)
    said["damaged on an own disk"] = prepared(cache=f"disk-{process}")
    damage(Path(said["made"]["path"]) / "train.inputs.npy")
    said["damaged"] = prepared()
    if process == 0:
        (place / "recordings" / "c.wav").write_bytes(b"no audio")
    said["not audio"] = prepared()
    (place / f"{process}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
