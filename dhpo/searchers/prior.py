"""Transfer: the density of an earlier search's best configurations, as a prior for the next search.

The method follows Dorier et al. 2022 ("HPC Storage Service Autotuning Using Variational-Autoencoder-Guided
Asynchronous Bayesian Optimization", section III): fit a generative model to the best quantile of the source, and
sample from it in the target. The model here is a kernel density in encoded space, with a regression of all the
source's results beside it; :mod:`dhpo.searchers.transfer` says how a search uses them.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from dhpo.encoding import Column, Encoding
from dhpo.errors import TransferError
from dhpo.objectives import Objectives
from dhpo.pareto import non_dominated_rank
from dhpo.searchers.acquisition import Array
from dhpo.searchers.source import SourceModel
from dhpo.space import HpProblem

if TYPE_CHECKING:
    import pandas as pd

#: Fewer results than this say too little about where the good configurations are.
MIN_ROWS = 10

#: Bandwidths in encoded units (a hyperparameter's range is 1): the least one, and that of a single known value.
MIN_BANDWIDTH = 0.005
LONE_BANDWIDTH = 0.1


@dataclass(frozen=True, eq=False)
class Prior:
    """The density of the source's best configurations, in the target's encoded space.

    It is a kernel density: a sample is one of the best configurations, with every numeric entry perturbed by a
    Gaussian (reflected at the bounds), and every categorical entry now and then redrawn from its own prior.

    Attributes:
        encoding: the target's encoding.
        rows: (m, d) best configurations; NaN where the source says nothing.
        bandwidth: (d,) standard deviations of the perturbations; for a categorical, the rate of redraws.
        weight: how far the prior is trusted at the start, from 0 to 1.
        model: what the source expects of any configuration; None where its results are all equal, or only one.
    """

    encoding: Encoding
    rows: Array
    bandwidth: Array
    weight: float = 1.0
    model: SourceModel | None = None

    @classmethod
    def of(cls, encoding: Encoding, rows: Array) -> Prior:
        """The density of some encoded configurations (m, d), and nothing else."""
        return cls(encoding, rows, _bandwidth(rows, encoding.columns))

    def sample(self, n: int, rng: np.random.Generator, plain: Array | None = None) -> Array:
        """Draw ``n`` configurations, encoded.

        What the source does not know is taken from ``plain`` (n, d), or follows the space's distributions.
        """
        if plain is None:
            plain = self.encoding.sample(n, rng)
        base = self.rows[rng.integers(len(self.rows), size=n)]
        drawn = base + self.bandwidth * rng.standard_normal(plain.shape)
        for j, column in enumerate(self.encoding.columns):
            if column.kind == "categorical":
                drawn[:, j] = np.where(rng.random(n) < self.bandwidth[j], plain[:, j], base[:, j])
            else:
                drawn[:, j] = 1.0 - np.abs(1.0 - np.abs(drawn[:, j]) % 2.0)  # reflected at 0 and 1
        drawn = np.where(np.isnan(drawn), plain, drawn)
        snapped = self.encoding.snap(drawn)
        return np.where(self.encoding.valid(snapped)[:, None], snapped, plain)

    @property
    def digest(self) -> str:
        """Identifies what was learnt from the source: 64 hexadecimal digits."""
        parts = [self.rows] if self.model is None else [self.rows, self.model.x, self.model.y]
        return sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def fit_prior(
    problem: HpProblem,
    rows: Sequence[Mapping[str, Any]],
    objectives: Sequence[Any],
    *,
    q: float = 0.90,
    directions: Objectives | None = None,
    rename: Mapping[str, str] | None = None,
) -> Prior:
    """Fit a prior for ``problem`` to the results of an earlier search.

    Args:
        problem: the target's space. Its hyperparameters that the source lacks keep their own prior.
        rows: the source's configurations.
        objectives: their results, in the same order: a number or, with several objectives, a sequence of numbers;
            "F..." strings, None and values that are not finite are failures, and dropped.
        q: the quantile above which results count as good; lowered so that at least ten rows remain.
        directions: the source's objectives; None means that all are to be maximised.
        rename: source's names to the target's names, where these differ.

    Raises:
        TransferError: there are fewer than ten rows, none succeeded, ``q`` is not within [0, 1), the objectives do not
            go together, or no hyperparameter is shared.
    """
    n = len(rows)
    if not isinstance(q, int | float) or not 0.0 <= q < 1.0:
        raise TransferError(f"q={q!r}: give a quantile from 0 up to, but not including, 1")
    if len(objectives) != n:
        raise TransferError(f"there are {n} configurations, but {len(objectives)} results: give one result for each")
    if n < MIN_ROWS:
        raise TransferError(f"The passed DataFrame contains only {n} results when a minimum of {MIN_ROWS} is required!")
    q_max = 1 - MIN_ROWS / n
    if q_max < q:
        warnings.warn(
            f"The value of q={q} is replaced by q_max={q_max} because a minimum of {MIN_ROWS} samples are required to "
            "perform transfer-learning!",
            UserWarning,
            stacklevel=2,
        )
        q = q_max
    costs = costs_of(objectives, directions)
    succeeded = np.flatnonzero(np.isfinite(costs).all(axis=1))
    costs, encoding = costs[succeeded], problem.encoding
    encoded = encode_source(problem, [rows[i] for i in succeeded.tolist()], dict(rename or {}))
    best = encoded[_best(costs, q)]
    model = SourceModel.fit(encoding, encoded, costs)
    return Prior(encoding, best, _bandwidth(best, encoding.columns), model=model)


def costs_of(objectives: Sequence[Any], directions: Objectives | None) -> Array:
    """The results, as :func:`fit_prior` takes them, as costs (n, m), NaN where one failed.

    Raises:
        TransferError: none succeeded, or they do not go together.
    """
    parsed = [_numbers(value) for value in objectives]
    if not any(parsed):
        raise TransferError(f"all {len(parsed)} results are failures: nothing can be learnt from them")
    width = max(map(len, parsed))
    if directions is not None and width != len(directions):
        raise TransferError(f"the results have {width} objectives, but {list(directions.names)} were named")
    if any(len(p) not in (0, width) for p in parsed):
        raise TransferError("the results do not all have the same number of objectives")
    signs = np.array(directions.signs if directions else (-1.0,) * width)
    return np.array([signs * p if p else np.full(width, np.nan) for p in parsed]).reshape(len(parsed), width)


def _numbers(value: Any) -> list[float]:
    """One result as numbers; empty where it failed."""
    parts = list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else [value]
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        if all(part is None or isinstance(part, int | float | np.number) or str(part)[:1] == "F" for part in parts):
            return []
        raise TransferError(f"the result {value!r} is neither a number nor a failure (a string 'F...')") from None
    return numbers if all(map(math.isfinite, numbers)) else []


def _best(costs: Array, q: float) -> Any:
    """Indices of the best rows: those at or above the quantile ``q``, ties included, and at least ten if there are."""
    n = len(costs)
    rank = costs[:, 0] if costs.shape[1] == 1 else non_dominated_rank(costs).astype(float)
    least = np.sort(rank)[max(min(MIN_ROWS, n), math.ceil((1 - q) * n - 1e-9)) - 1]
    return np.flatnonzero(rank <= least)


def encode_source(problem: HpProblem, rows: Sequence[Mapping[str, Any]], rename: Mapping[str, str]) -> Array:
    """A source's configurations in the target's encoding (n, d); NaN for what it lacks or what the target has not.

    Raises:
        TransferError: no hyperparameter is shared.
    """
    encoding = problem.encoding
    names = list(dict.fromkeys(name for row in rows for name in row))
    target = {name: rename.get(name, name) for name in names}
    known = {column.name for column in encoding.columns}
    for name in names:
        if target[name] not in known:
            warnings.warn(
                f"Skipping hyperparameter: '{name}' as it is not included in the space.", UserWarning, stacklevel=3
            )
    columns = {column.name: column for column in encoding.columns}
    cleaned = [
        {target[name]: value for name in row if target[name] in known
         if (value := _legal(problem, columns[target[name]], row[name])) is not None}
        for row in rows
    ]  # fmt: skip
    # As given: a parent that the source lacks does not make its children inactive.
    encoded = encoding.encode_given(cleaned, clip=True)
    if not any(cleaned):
        raise TransferError(f"the source's hyperparameters {names} say nothing about the space's {sorted(known)}; "
                            "give rename={'source name': 'target name'} where only the names differ")  # fmt: skip
    return encoded


def _legal(problem: HpProblem, column: Column, value: Any) -> Any:
    """The target's form of a source's value; None where it is missing, inactive or unknown to the target.

    A results frame turns integers into floats beside missing values, and a CSV file turns anything into text.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)) or column.kind == "constant":
        return None
    if column.kind in ("float", "int"):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return None
        if not math.isfinite(number):
            return None
        return number if column.kind == "float" else round(number)
    hyperparameter = problem.space[column.name]
    values = hyperparameter.choices if column.kind == "categorical" else hyperparameter.sequence
    for choice in values:
        if type(choice) is type(value) and choice == value:
            return choice
    return next((choice for choice in values if choice == value or str(choice) == str(value)), None)


def _bandwidth(encoded: Array, columns: Sequence[Column]) -> Array:
    """Scott's rule for each numeric column, n^(-1/5) standard deviations; a rate of redraws for each categorical one.

    The floor keeps a source that sampled a single point, or few, from ruling out its neighbourhood.
    """
    bandwidth = np.zeros(encoded.shape[1])
    for j, column in enumerate(columns):
        values = encoded[~np.isnan(encoded[:, j]), j]
        if column.kind == "categorical":
            bandwidth[j] = 1.0 / (1.0 + len(values)) if len(values) else 1.0
        elif column.kind != "constant":
            if len(values) < 2:
                bandwidth[j] = LONE_BANDWIDTH
            else:
                bandwidth[j] = max(float(np.std(values)) * len(values) ** -0.2, MIN_BANDWIDTH)
    return bandwidth


def frame_from(results: Any) -> pd.DataFrame:
    """The results frame of what :func:`rows_from` takes.

    Raises:
        TransferError: it is something else, or the file cannot be read.
    """
    import pandas as pd

    frame = results
    if isinstance(results, str | os.PathLike):
        path = os.fspath(results)
        if not str(path).endswith(".csv"):
            raise TransferError(f"{path!r} does not end in .csv: give a DataFrame, results, or the path of a .csv file")
        try:
            frame = pd.read_csv(path, dtype=None, keep_default_na=True)
        except (OSError, ValueError) as error:
            raise TransferError(f"the results {path!r} cannot be read: {error}") from error
    elif not isinstance(results, pd.DataFrame) and hasattr(results, "to_frame"):
        frame = results.to_frame()
    if not isinstance(frame, pd.DataFrame):
        raise TransferError(
            f"results of type {type(results).__name__} cannot be used: give a DataFrame, results, or the path of a "
            ".csv file"
        )
    if (doubled := frame.columns[frame.columns.duplicated()]).size:
        raise TransferError(f"the results have more than one column {str(doubled[0])!r}: rename or drop the others")
    return frame


def rows_from(results: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """Read configurations and results from what a user has of an earlier search.

    Args:
        results: a pandas DataFrame with columns ``p:<name>`` and ``objective``, or ``objective_0``, ``objective_1``,
            …; the path of such a ``.csv`` file; or an object with ``to_frame()``.

    Returns:
        The configurations, missing (inactive) values absent, and the results: one value each, or a list of values with
        several objectives; as :func:`fit_prior` takes them.

    Raises:
        TransferError: it is something else, the file cannot be read, or columns are missing.
    """
    frame = frame_from(results)
    parameters = [c for c in frame.columns if isinstance(c, str) and c.startswith("p:")]
    matches = [c for c in frame.columns if isinstance(c, str) and re.fullmatch(r"objective_\d+", c)]
    numbered = sorted(matches, key=lambda c: int(c.rpartition("_")[2]))
    if not parameters or not (numbered or "objective" in frame.columns):
        raise TransferError(
            f"the results have the columns {list(map(str, frame.columns))}: 'p:<hyperparameter>' and 'objective' "
            "(or 'objective_0', 'objective_1', …) are needed"
        )
    records = frame[parameters].astype(object).where(frame[parameters].notna(), None).to_dict("records")
    rows = [{str(k)[2:]: _plain(v) for k, v in record.items() if v is not None} for record in records]
    if "objective" in frame.columns:
        return rows, [_plain(v) for v in frame["objective"].tolist()]
    return rows, [[_plain(v) for v in values] for values in frame[numbered].to_numpy(dtype=object).tolist()]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
