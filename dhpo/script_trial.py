"""Any program as a trial: :class:`ScriptTrial`."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dhpo._script_arguments import arguments_of, command_of, named_in, template_of
from dhpo._script_process import Program
from dhpo.errors import ReportError, SettingError
from dhpo.worker.reporter import Reporter

#: The names of a command's placeholders that are no hyperparameters.
PLACES = ("config_json", "config_file", "trial", "checkpoint_dir")


class ScriptTrial:
    """A run function that runs a program, in any language, for each trial.

    The program runs in the trial's directory (``report.checkpoint_dir``), in a process group of its own. It gets its
    configuration

    * as arguments: ``--name value`` for each active hyperparameter (``--name=value`` where the value begins with a
      "-"). Or in the places that the command names: ``"--lr={lr}"``, ``"{lr:.3g}"``, ``"{config_json}"`` (all of it as
      JSON text), ``"{config_file}"`` (the path of that), ``"{trial}"`` (the number), ``"{checkpoint_dir}"``; then
      nothing is added. An argument that names an inactive hyperparameter is left out; so is the option before it where
      the argument is nothing else. Write ``{{`` and ``}}`` for braces.
    * by its environment: ``DHPO_CONFIG`` (the path of a JSON file), ``DHPO_TRIAL``, ``DHPO_ATTEMPT``,
      ``DHPO_RESUME_FROM``, ``DHPO_CHECKPOINT_DIR``, and ``DHPO_START_DIR``, the directory in which
      this object was made.

    What it writes to its standard output line by line (flush each line) is read: a JSON object with the stopper's
    ``time_attr`` (without one: with all the objectives) is a report; ``{"result": ...}``, or an object with all
    objectives and without the ``time_attr``, is the result, and the last one counts. All else goes to the file
    ``stdout.log`` in the trial's directory; its standard error goes to ``stderr.log``. A program that ends with another
    code than 0 is a failed trial, with the last lines of its standard error.

    A program whose trial is to end, as after its report at ``max_t`` or at the search's ``trial_timeout``, gets
    SIGTERM, and after ``grace`` seconds all that it has started is killed; so it is, without the grace, when the worker
    dies.

    Args:
        command: the program and its arguments; or a text, which is split as a shell would, and still runs without one.
            Arguments that name a file here are made absolute, so that ``["python", "train.py"]`` finds its script.
        shell: give the text to ``/bin/sh -c`` as it is; values are quoted.
        env: what the program's environment has besides.
        grace: seconds between SIGTERM and SIGKILL.

    Raises:
        SettingError: the command is unusable.

    Example:
        >>> trial = ScriptTrial(["./train.sh", "--rate={lr}", "--config", "{config_file}"])
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        shell: bool = False,
        env: Mapping[str, str] | None = None,
        grace: float = 5.0,
    ) -> None:
        if shell and not isinstance(command, str):
            raise SettingError(f"command={command!r}: with shell=True give one text, or a list without shell=True")
        self.words: tuple[str, ...] = (
            (str(command),) if shell else tuple(_absolute(word) for word in command_of(command))
        )
        for word in self.words:
            template_of(word)
        if not isinstance(grace, int | float) or not 0 <= grace < float("inf"):
            raise SettingError(f"grace={grace!r}: give seconds, 0 or more")
        self.shell = shell
        self.env = {str(name): str(value) for name, value in (env or {}).items()}
        self.grace = float(grace)
        self.start_dir = os.getcwd()

    def check(self, names: Iterable[str]) -> None:
        """Make sure that the command's places are hyperparameters of the space.

        Raises:
            SettingError: one is not.
        """
        known = [*names, *PLACES]
        for word in self.words:
            if strange := [name for name in named_in(word) if name not in known]:
                raise SettingError(
                    f"the command has the place {{{strange[0]}}} in {word!r}; there are {known}. "
                    "Write {{ and }} for braces"
                )

    def __call__(self, config: Mapping[str, Any], report: Reporter) -> Any:
        """Run the program for one trial; return its result.

        Raises:
            ReportError: it failed, or what it reported is unusable.
            StopTrial: the trial was to end, and the program has been ended.
        """
        directory = report.checkpoint_dir.resolve()
        file = directory / "config.json"
        text = json.dumps(dict(config))
        file.write_text(text, encoding="utf-8")
        places = {
            "config_json": text, "config_file": str(file),
            "trial": str(report.trial), "checkpoint_dir": str(directory),
        }  # fmt: skip
        own = {
            "DHPO_CONFIG": str(file),
            "DHPO_TRIAL": str(report.trial),
            "DHPO_ATTEMPT": str(report.attempt),
            "DHPO_RESUME_FROM": f"{report.resume_from:.15g}",
            "DHPO_CHECKPOINT_DIR": str(directory),
            "DHPO_START_DIR": self.start_dir,
        }
        argv = self._argv(config, places)
        reading = _Reading(report)
        with Program(argv, directory, {**os.environ, **own, **self.env}, self.grace) as program:
            for line in program.lines(report.check):
                if not reading.take(line):
                    program.log(line)
            program.check_code()
        return reading.result()

    def _argv(self, config: Mapping[str, Any], places: Mapping[str, str]) -> list[str]:
        if not self.shell:
            return arguments_of(self.words, config, places)
        return ["/bin/sh", "-c", " ".join(arguments_of(self.words, config, places, quote=shlex.quote))]

    def __repr__(self) -> str:
        return f"ScriptTrial({self.words[0] if self.shell else list(self.words)!r})"


class _Reading:
    """Tells reports and results from all else that a program writes."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._result: Any = None

    def take(self, line: str) -> bool:
        """Take a line in; False where it is meant for somebody else."""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            return False
        if not isinstance(values, dict):
            return False
        time_attr, names = self._report.time_attr, self._report.objectives.names
        if "result" in values:
            self._result = values["result"]
        elif time_attr in values if time_attr is not None else all(name in values for name in names):
            self._report(values)
        elif all(name in values for name in names):
            self._result = values
        else:
            return False
        return True

    def result(self) -> Any:
        """What the program said last; None where its last report counts."""
        if self._result is None and not self._report.index and self._report.attempt == 1:
            expected = {self._report.time_attr or "result": 1, **dict.fromkeys(self._report.objectives.names, 0.5)}
            raise ReportError(
                f"the program ended without a report or a result on its standard output, such as {json.dumps(expected)}"
            )
        return self._result


def _absolute(word: str) -> str:
    """A file of the directory in which the command is written, by its full path: trials run elsewhere."""
    return str(Path(word).absolute()) if word and not word.startswith("-") and Path(word).is_file() else word
