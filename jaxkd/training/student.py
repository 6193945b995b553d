"""Trains the network of an experiment in its workdir, and keeps it there."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import jax

from jaxkd import config as configs
from jaxkd import students
from jaxkd.files import as_json
from jaxkd.hosts import shared_folder
from jaxkd.parallel import to_host
from jaxkd.training.artefact import save_student
from jaxkd.training.checkpoint import Checkpoints
from jaxkd.training.cost import measured
from jaxkd.training.experiment import SELECTION_METRIC, assemble, validate
from jaxkd.training.loop import train
from jaxkd.training.prepared import Prepared


def train_student(config: Any, workdir: Path, prepared: Prepared, *, network: Any = None, pretrained: Any = None, section: str = "training") -> None:
    """Trains and keeps in `student/` the parameters of the best validation metric, and what rebuilds them; what it cost is in `training.json`.

    Args:
      config: of the experiment.
      workdir: where log and student of this process go, and checkpoints in the folder that all processes share; a run that was stopped goes on.
      prepared: data, inputs and what the teacher said.
      network: a module to train in place of the student that the config names.
      pretrained: parameters that its training starts from: branches of the network's, or None.
      section: of the user's config that `config.training` comes from; for messages.
    """
    assembly = assemble(config, prepared, network=network, pretrained=pretrained, section=section)
    if assembly.experiment.method.warning:
        print(f"Warning: {assembly.experiment.method.warning}", file=sys.stderr)
    trained = sum(leaf.size for leaf in jax.tree.leaves(assembly.state.params))
    with measured(workdir, trained), contextlib.closing(Checkpoints(shared_folder(workdir) / "checkpoints", assembly.state)) as checkpoints:
        train(
            assembly.train,
            lambda state: validate(assembly, state, config, prepared),
            assembly.state,
            assembly.loader,
            checkpoints,
            assembly.devices,
            config.training,
            workdir,
            description="train student" if network is None else "train teacher",
            prefetch=config.parallel.prefetch,
            selection=SELECTION_METRIC[prepared.dataset.task],
            watched=assembly.experiment.method.watched,
            select_after=assembly.experiment.method.teacher_first_steps,
        )
        best = checkpoints.restore_best()
    save_student(
        workdir / "student",
        to_host({"params": best.params["student"], "batch_stats": best.batch_stats}),
        {
            "name": config.student.name,
            "options": {} if network else {"compute_dtype": config.student.compute_dtype} | as_json(students.options(config.student.name, config)),
            "task": prepared.dataset.task,
            "classes": list(prepared.dataset.classes),
            "outputs_per_label": assembly.experiment.method.outputs_per_label,
            "inputs": prepared.inputs.settings,
            "fingerprint": configs.fingerprint(config),
            "teacher": None if prepared.store is None else prepared.store.identity,
            "best_step": int(best.step),
        },
    )
