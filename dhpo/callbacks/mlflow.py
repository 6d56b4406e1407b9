"""Runs in MLflow."""

from __future__ import annotations

from typing import Any

from dhpo.callbacks.base import Callback, Ended, Finished, Proposed, Reported, SearchInfo
from dhpo.errors import DhpoError
from dhpo.trial import Status

#: How MLflow calls the end of a trial's run.
_ENDS = {Status.FAILED: "FAILED", Status.TIMED_OUT: "FAILED", Status.STOPPED: "KILLED", Status.CANCELLED: "KILLED"}
_SEARCH, _TRIAL = "dhpo.search", "dhpo.trial"  # tags
_MAX_PARAM = 6000  # characters of a parameter's value


class MLflowCallback(Callback):
    """Keeps the search as a run of MLflow, with a nested run for each trial.

    A trial's run has the hyperparameters as parameters, every number that was reported as a metric (its step is the
    resource, rounded), and the tags ``dhpo.trial``, ``dhpo.status`` and, where it failed, ``dhpo.error``. A trial that
    was stopped ends as KILLED. A search that goes on finds its run again. Needs mlflow (or mlflow-skinny).

    Args:
        experiment: the experiment's name; made where it is not there.
        tracking_uri: of the server, or of a file store or database; what MLflow is set to by default.
        run_name: of the search's run; the name of its directory by default.
        tags: more tags of the search's run.

    Raises:
        DhpoError: mlflow is not installed.
    """

    background = True

    def __init__(
        self,
        experiment: str = "dhpo",
        tracking_uri: str | None = None,
        run_name: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise DhpoError("MLflowCallback needs mlflow: pip install 'dhpo[mlflow]'") from error
        self.experiment = experiment
        self.run_name = run_name
        self.tags = dict(tags or {})
        self._client: Any = MlflowClient(tracking_uri)
        self._experiment_id = ""
        self._search_id = ""
        self._parent = ""
        self._runs: dict[int, str] = {}

    def on_start(self, search: SearchInfo) -> None:
        """Make the search's run, or find it again."""
        client = self._client
        found = client.get_experiment_by_name(self.experiment)
        self._experiment_id = client.create_experiment(self.experiment) if found is None else found.experiment_id
        self._search_id, self._runs = search.id, {}
        self._parent = self._find(f"tags.`{_SEARCH}` = '{search.id}'") or self._make_parent(search)
        client.update_run(self._parent, status="RUNNING")
        for number, config in search.running.items():
            self._begin(number, config)

    def _make_parent(self, search: SearchInfo) -> str:
        name = self.run_name or ("search" if search.directory is None else search.directory.name)
        tags = {_SEARCH: search.id, "mlflow.runName": name, **self.tags}
        run_id: str = self._client.create_run(self._experiment_id, tags=tags).info.run_id
        for key, value in search.objectives.items():
            self._client.log_param(run_id, f"objective.{key}", value)
        self._client.log_param(run_id, "seed", search.settings.get("seed"))
        return run_id

    def _find(self, condition: str) -> str | None:
        runs = self._client.search_runs([self._experiment_id], condition, max_results=1)
        return runs[0].info.run_id if runs else None

    def on_proposal(self, trial: Proposed) -> None:
        """Make the trial's run; that of a paused one goes on."""
        self._begin(trial.trial, trial.config, again=trial.attempt > 1)

    def _begin(self, number: int, config: Any, *, again: bool = True) -> None:
        if again:
            parent = f"tags.`mlflow.parentRunId` = '{self._parent}'"
            if (run := self._find(f"{parent} and tags.`{_TRIAL}` = '{number}'")) is not None:
                self._client.update_run(run, status="RUNNING")
                self._runs[number] = run
                return
        tags = {_TRIAL: str(number), "mlflow.parentRunId": self._parent, "mlflow.runName": f"trial-{number}"}
        run_id = self._client.create_run(self._experiment_id, tags=tags).info.run_id
        for name, value in config.items():
            self._client.log_param(run_id, name, str(value)[:_MAX_PARAM])
        self._runs[number] = run_id

    def on_report(self, report: Reported) -> None:
        """Log the numbers as metrics."""
        if (run := self._runs.get(report.trial)) is not None:
            for name, value in report.values.items():
                if isinstance(value, int | float):
                    self._client.log_metric(run, name, float(value), step=round(report.resource))

    def on_end(self, trial: Ended) -> None:
        """End the trial's run; a paused one is left to go on."""
        run = self._runs.pop(trial.trial, None)
        if run is None:
            return
        if trial.resource is None:
            for name, value in (trial.values or {}).items():
                self._client.log_metric(run, name, value)
        self._client.set_tag(run, "dhpo.status", trial.status.value)
        if trial.error:
            self._client.set_tag(run, "dhpo.error", trial.error)
        self._client.set_terminated(run, _ENDS.get(trial.status, "FINISHED"))

    def on_finish(self, search: Finished) -> None:
        """End the search's run, and those of trials that have not ended."""
        for run in self._runs.values():
            self._client.set_terminated(run, "KILLED")
        self._runs.clear()
        self._client.set_tag(self._parent, "dhpo.reason", search.reason or "interrupted")
        self._client.set_terminated(self._parent, "FINISHED" if search.reason else "KILLED")
