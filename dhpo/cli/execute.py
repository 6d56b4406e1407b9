"""Running a file's search from the command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dhpo.cli.record import RunRecord
from dhpo.cli.script import load_search
from dhpo.cli.status import State, read_status
from dhpo.cli.tables import print_json, say, stdout_to_stderr
from dhpo.cli.views import summary, summary_text
from dhpo.clusters.resolve import check_resources

if TYPE_CHECKING:
    from dhpo.events import Event
    from dhpo.search import Search
    from dhpo.study import Study

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where trials run and what each takes, in the place of what the file says; None leaves that.

    Args:
        cluster: as ``Search(cluster=...)`` takes it as text.
        num_cpus: processors.
        num_gpus: GPUs.
    """

    cluster: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None

    def impose(self, search: Search) -> None:
        """Have a search run there.

        Raises:
            SettingError: an amount cannot be used.
        """
        amounts = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        given = {name: amount for name, amount in amounts.items() if amount is not None}
        search.resources = check_resources({**search.resources, **given})
        if self.cluster is not None:
            search.cluster = self.cluster


def execute(record: RunRecord, log_dir: Path | None, place: Place, *, progress: bool, as_json: bool) -> bool:
    """Run a file's search, in ``log_dir`` where one is given, at a ``place``; print what it found.

    Returns:
        whether the search is finished, or was ended by `dhpo stop`: whether nothing is to go on by itself.

    Raises:
        dhpo.errors.DhpoError: the file or the search cannot be used, or too many trials failed.
    """
    with stdout_to_stderr(as_json), _log(not progress):
        directory = _run(record, log_dir, place, progress)
    status = read_status(directory)
    if as_json:
        print_json(summary(status))
    else:
        say(summary_text(status))
    if status.stopped:
        say(f"dhpo: {status.progress} trials done; ended by dhpo stop; run the same command again to go on", err=True)
    elif status.state is State.INTERRUPTED:
        say(f"dhpo: {status.progress} trials done; resubmit, or run the same command again, to go on", err=True)
    return status.stopped or status.state is not State.INTERRUPTED


@contextmanager
def _log(wanted: bool) -> Iterator[None]:
    """Have dhpo's log on standard error, in the place of a bar: unless the file's script has one of its own."""
    logger = logging.getLogger("dhpo")
    if not wanted or logger.level != logging.NOTSET:
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%F %T"))
    handler.addFilter(lambda record: not logging.root.handlers)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


def parse_stop_at(texts: Sequence[str]) -> float | dict[str, float] | None:
    """Read ``["0.97"]`` or ``["accuracy=0.97", "time=2"]``.

    Raises:
        ValueError: a value is no number, or one without a name is not alone.
    """
    goals: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{text!r}: give VALUE or NAME=VALUE, such as accuracy=0.97") from None
        if not equals and len(texts) == 1:
            return number
        if not name:
            raise ValueError(f"{text!r}: several goals need names, such as accuracy=0.97")
        goals[name] = number
    return goals or None


def _run(record: RunRecord, log_dir: Path | None, place: Place, progress: bool) -> Path:
    search = load_search(Path(record.file), record.name)
    place.impose(search)
    search.move_to(log_dir or search.directory or Path("runs") / Path(record.file).stem)
    directory = search.directory
    assert directory is not None
    written = False

    def keep_record(events: Sequence[Event], study: Study) -> None:
        # Only now is it sure that no other driver works in this directory.
        nonlocal written
        if not written:
            written = True
            try:
                record.write(directory)
            except OSError as error:
                logger.warning("`dhpo resume` will not know this run: %s", error)

    search.run(
        record.num_trials,
        record.time_out,
        stop_at=parse_stop_at(record.stop_at),
        patience=record.patience,
        progress=progress,
        watchers=[keep_record],
    )
    return directory
