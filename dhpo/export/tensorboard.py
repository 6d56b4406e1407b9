"""A search for TensorBoard's HPARAMS page: a run for each trial, with its learning curves as scalars."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from dhpo.callbacks.tensorboard import plain_hyperparameters
from dhpo.errors import DhpoError
from dhpo.events import SessionOpened
from dhpo.results import Results

_PREFIX = "objective/"


def to_tensorboard(results: Results, directory: Path | str) -> int:
    """Write the trials that showed values into a directory for TensorBoard, one run for each.

    Args:
        results: of a search.
        directory: for ``tensorboard --logdir``; what TensorBoard has in it already stays.

    Returns:
        How many trials were written.

    Raises:
        DhpoError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams
    except ImportError as error:
        raise DhpoError("writing for TensorBoard needs tensorboardX: pip install 'dhpo[tensorboard]'") from error
    values = results.values_by_trial()
    epoch = next((e.epoch for batch in results.events() for e in batch if isinstance(e, SessionOpened)), 0.0)
    written = 0
    for record in results.records():
        if record.number not in values or record.failed:
            continue
        resources, reported = values[record.number]
        written += 1
        with SummaryWriter(str(Path(directory) / f"trial_{record.number:06d}"), write_to_disk=True) as writer:
            metrics = {_PREFIX + name: reported[-1, i] for i, name in enumerate(results.objectives.names)}
            for summary in hparams(plain_hyperparameters(record.config), metrics):
                writer.file_writer.add_summary(summary)
            wall = epoch + (record.ended if isfinite(record.ended) else results.last_time)
            for place, resource in enumerate(resources.tolist()):
                step = int(resource) if isfinite(resource) else place + 1
                for i, name in enumerate(results.objectives.names):
                    writer.add_scalar(_PREFIX + name, reported[place, i], step, walltime=wall)
    return written
