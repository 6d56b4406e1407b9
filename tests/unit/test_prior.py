from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.errors import TransferError
from dhpo.objectives import Objectives
from dhpo.searchers import Prior, fit_prior, rows_from
from dhpo.space import HpProblem


def space(**values: Any) -> HpProblem:
    problem = HpProblem()
    for name, value in values.items():
        problem.add_hyperparameter(value, name)
    return problem


def quiet(problem: HpProblem, rows: Any, values: Any, **kwargs: Any) -> Prior:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_prior(problem, rows, values, **kwargs)


def source(n: int = 40, seed: int = 0) -> tuple[list[dict[str, Any]], list[float]]:
    x = np.random.default_rng(seed).uniform(-10, 10, n)
    return [{"x0": float(v)} for v in x], [-(float(v - 4) ** 2) for v in x]


def decoded(problem: HpProblem, prior: Prior, n: int = 500, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(problem.encoding.decode(prior.sample(n, np.random.default_rng(seed))))


def test_samples_lie_where_the_source_was_good_and_new_dimensions_keep_their_prior() -> None:
    problem = space(x0=(-10.0, 10.0), x1=(-10.0, 10.0))
    frame = decoded(problem, quiet(problem, *source()), 3000)
    assert abs(frame.x0.mean() - 4) < 1
    assert frame.x0.std() < 2.5
    assert frame.x1.std() == pytest.approx(20 / np.sqrt(12), rel=0.1)


def test_q_is_lowered_with_the_known_warning() -> None:
    rows, values = source(20)
    text = (
        "The value of q=0.9 is replaced by q_max=0.5 because a minimum of 10 samples are required to perform "
        "transfer-learning!"
    )
    with pytest.warns(UserWarning, match="q_max") as caught:
        prior = fit_prior(space(x0=(-10.0, 10.0)), rows, values)
    assert [str(w.message) for w in caught] == [text]
    assert len(prior.rows) == 10


def test_fewer_than_ten_results_are_refused() -> None:
    text = "The passed DataFrame contains only 9 results when a minimum of 10 is required!"
    with pytest.raises(TransferError, match=text):
        fit_prior(space(x0=(-10.0, 10.0)), *source(9))
    with pytest.raises(ValueError, match="only 0 results"):
        fit_prior(space(x0=(-10.0, 10.0)), [], [])


@pytest.mark.parametrize("q", [1.0, -0.1, "high", None])
def test_a_wrong_quantile_is_refused(q: Any) -> None:
    with pytest.raises(TransferError, match="q="):
        fit_prior(space(x0=(-10.0, 10.0)), *source(), q=q)


def test_equal_objectives_select_everything() -> None:
    rows, _ = source(30)
    assert len(quiet(space(x0=(-10.0, 10.0)), rows, [1.0] * 30).rows) == 30


def test_many_failures_leave_the_few_good_ones() -> None:
    rows, values = source(40)
    results: list[Any] = ["F_oom", float("nan"), None, float("inf")] * 10
    for i in (3, 17, 31):
        results[i] = values[i]
    prior = quiet(space(x0=(-10.0, 10.0)), rows, results)
    assert len(prior.rows) == 3


def test_a_single_success_gives_its_neighbourhood() -> None:
    problem = space(x0=(-10.0, 10.0))
    rows, _ = source(12)
    frame = decoded(problem, quiet(problem, rows, [0.5, *["F"] * 11]))
    assert frame.x0.std() > 0.5
    assert abs(frame.x0 - rows[0]["x0"]).median() < 3


def test_no_success_at_all_is_refused() -> None:
    rows, _ = source(12)
    with pytest.raises(TransferError, match="all 12 results are failures"):
        quiet(space(x0=(-10.0, 10.0)), rows, ["F"] * 12)


def test_a_result_that_is_neither_number_nor_failure_is_refused() -> None:
    rows, values = source(12)
    with pytest.raises(TransferError, match="'good'"):
        quiet(space(x0=(-10.0, 10.0)), rows, [*values[:11], "good"])


def test_unknown_columns_are_skipped_with_a_warning() -> None:
    rows = [{**row, "momentum": 0.9} for row in source(100)[0]]
    text = "Skipping hyperparameter: 'momentum' as it is not included in the space."
    with pytest.warns(UserWarning, match="Skipping") as caught:
        fit_prior(space(x0=(-10.0, 10.0)), rows, source(100)[1])
    assert [str(w.message) for w in caught] == [text]


def test_a_source_that_shares_nothing_is_refused_unless_renamed() -> None:
    rows, values = source()
    with pytest.raises(TransferError, match="rename"):
        quiet(space(lr=(-10.0, 10.0)), rows, values)
    problem = space(lr=(-10.0, 10.0))
    assert abs(decoded(problem, quiet(problem, rows, values, rename={"x0": "lr"})).lr.mean() - 4) < 1


def test_values_outside_a_narrowed_range_are_clipped() -> None:
    problem = space(x0=(-10.0, 2.0))
    frame = decoded(problem, quiet(problem, *source()))
    assert frame.x0.max() <= 2.0
    assert frame.x0.mean() > 0.5


def test_log_ranges_are_perturbed_on_their_own_scale() -> None:
    problem = space(lr=(1e-6, 1.0, "log-uniform"))
    lr = 10.0 ** np.random.default_rng(0).uniform(-6, 0, 100)
    frame = decoded(problem, quiet(problem, [{"lr": v} for v in lr], list(-np.abs(np.log10(lr) + 5))))
    assert abs(np.log10(frame.lr).mean() + 5) < 0.4
    assert (frame.lr < 1e-3).mean() > 0.95


def test_categories_follow_the_source_but_none_dies_out_and_unknown_ones_are_dropped() -> None:
    problem = space(c=["a", "b", "c"], n=[1, 2, 4], k=(1, 9))
    rows = [{"c": "gone" if i % 4 == 0 else "b", "n": "4", "k": 3.0} for i in range(40)]
    frame = decoded(problem, quiet(problem, rows, [1.0] * 40), 2000)
    assert 0.6 < (frame.c == "b").mean() < 0.99
    assert set(frame.c) == {"a", "b", "c"}
    assert (frame.n == 4).mean() > 0.9
    assert (frame.k == 3).mean() > 0.9


def test_inactive_values_stay_inactive() -> None:
    problem = space(kind=["svm", "net"], width=(1, 100))
    configuration_space = problem.space
    problem.add_condition(ConfigSpace.EqualsCondition(configuration_space["width"], configuration_space["kind"], "net"))
    rows = [{"kind": "svm", "width": float("nan")} if i % 2 else {"kind": "net", "width": 50.0} for i in range(40)]
    configs = problem.encoding.decode(quiet(problem, rows, [1.0] * 40).sample(300, np.random.default_rng(0)))
    assert all(("width" in c) == (c["kind"] == "net") for c in configs)
    assert 0.3 < np.mean([c["kind"] == "net" for c in configs]) < 0.7
    for config in configs:
        problem.check_configuration(config)


def test_forbidden_samples_are_replaced() -> None:
    problem = space(x0=(-10.0, 10.0))
    problem.add_constraint(lambda config: config["x0"] < 4)
    assert decoded(problem, quiet(problem, *source())).x0.max() < 4


def test_several_objectives_are_ranked_by_their_front() -> None:
    problem = space(x=(0.0, 1.0))
    x = np.linspace(0, 1, 60)
    results = [[v, v] for v in x]  # the second is to be minimised: no trade-off is better than another
    everything = quiet(problem, [{"x": v} for v in x], results, directions=Objectives.parse({"a": "MAX", "b": "MIN"}))
    assert len(everything.rows) == 60
    best = quiet(problem, [{"x": v} for v in x], results)
    assert best.rows.min() == pytest.approx(x[-10])
    with pytest.raises(TransferError, match="2 objectives"):
        quiet(problem, [{"x": v} for v in x], results, directions=Objectives.parse("a"))


def test_a_minimised_objective_is_minimised() -> None:
    problem = space(x0=(-10.0, 10.0))
    rows, values = source()
    prior = quiet(problem, rows, [-v for v in values], directions=Objectives.parse({"loss": "MIN"}))
    assert abs(decoded(problem, prior).x0.mean() - 4) < 1


def test_a_prior_is_a_value() -> None:
    problem = space(x0=(-10.0, 10.0))
    prior = quiet(problem, *source())
    copy = pickle.loads(pickle.dumps(prior))
    np.testing.assert_array_equal(copy.sample(5, np.random.default_rng(3)), prior.sample(5, np.random.default_rng(3)))
    assert copy.digest == prior.digest
    rows, values = source()
    assert quiet(problem, rows, [*values[:-1], values[-1] - 1.0]).digest != prior.digest


@given(
    n=st.integers(10, 60),
    q=st.floats(0, 0.99),
    levels=st.integers(1, 5),
    failing=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_the_selection_keeps_the_best_with_ties_and_at_least_ten(
    n: int, q: float, levels: int, failing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    problem = space(x=(0.0, 1.0))
    values = rng.integers(levels, size=n).astype(float)
    failed = rng.random(n) < failing
    failed[0] = False
    rows = [{"x": v / levels} for v in values]
    prior = quiet(problem, rows, [None if f else v for v, f in zip(values, failed, strict=True)], q=q)
    good = values[~failed]
    chosen = np.round(prior.rows[:, 0] * levels)
    assert len(chosen) >= min(10, len(good))
    assert sorted(chosen) == sorted(good[good >= chosen.min()])


def frame(n: int = 12) -> pd.DataFrame:
    return pd.DataFrame({"p:x0": np.linspace(-1, 1, n), "p:k": [1, None] * (n // 2), "objective": np.arange(float(n))})


def test_rows_are_read_from_a_frame_a_file_and_an_object(tmp_path: Path) -> None:
    class Results:
        def to_frame(self) -> pd.DataFrame:
            return frame()

    path = tmp_path / "results.csv"
    frame().to_csv(path)
    expected = rows_from(frame())
    assert expected[0][0] == {"x0": -1.0, "k": 1.0}
    assert set(expected[0][1]) == {"x0"}
    assert expected[1][:2] == [0.0, 1.0]
    assert rows_from(Results()) == expected
    for given_path in (path, str(path)):
        rows, values = rows_from(given_path)
        assert values == expected[1]
        assert [set(row) for row in rows] == [set(row) for row in expected[0]]


def test_failures_in_a_file_are_read_as_failures(tmp_path: Path) -> None:
    table = frame().astype({"objective": object})
    table.loc[3, "objective"] = "F_oom"
    table.to_csv(tmp_path / "results.csv", index=False)
    problem = space(x0=(-10.0, 10.0), k=(0, 5))
    assert len(quiet(problem, *rows_from(tmp_path / "results.csv"), q=0.0).rows) == 11


def test_several_objectives_are_read_in_numeric_order() -> None:
    table = frame().drop(columns="objective").assign(**{f"objective_{i}": float(i) for i in (10, 2, 0)})
    assert rows_from(table)[1][0] == [0.0, 2.0, 10.0]


@pytest.mark.parametrize(
    "results", [3, [1, 2], "results.txt", "/nowhere/results.csv", pd.DataFrame({"a": [1]}), pd.DataFrame({"p:x": [1]})]
)
def test_anything_else_is_refused(results: Any) -> None:
    with pytest.raises(TransferError):
        rows_from(results)
