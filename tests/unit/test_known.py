"""Known results: what a user has of them is read as it is meant, and checked before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import HpProblem
from dhpo.errors import SettingError, SpaceError, TransferError
from dhpo.events import TrialCompleted, TrialTimedOut
from dhpo.known import KnownResult, _all_allowed, admit_known, read_known
from dhpo.objectives import Objectives
from dhpo.stopping.base import NeverStop
from dhpo.study import Study
from dhpo.trial import Proposal, Status

ONE = Objectives.parse({"score": "MAX"})
TWO = Objectives.parse({"score": "MAX", "cost": "MIN"})


def mixed() -> HpProblem:
    """Every kind of hyperparameter, one that is active for some values of another only, and a forbidden clause."""
    problem = HpProblem({"lr": (1e-5, 1.0, "log-uniform"), "n": (1, 100), "opt": ["sgd", "adam"], "k": (0.0, 1.0)})
    problem.add_hyperparameter([1, 2, 4], "o")
    problem.add_hyperparameter([(8, 8), (4,), ("a", 1.5)], "layers")
    problem.add_hyperparameter([None, "balanced"], "weight")
    problem.add_hyperparameter([True, False], "flag")
    problem.add_hyperparameter(7, "c")
    problem.add_condition(ConfigSpace.EqualsCondition(problem.space["k"], problem.space["opt"], "adam"))
    problem.add_forbidden_clause(ConfigSpace.ForbiddenEqualsClause(problem.space["o"], 4))
    return problem


def x_space() -> HpProblem:
    return HpProblem({"x": (0.0, 1.0)})


def read(results: Any, objectives: Objectives = ONE, problem: HpProblem | None = None, **kwargs: Any) -> Any:
    return read_known(problem or x_space(), objectives, results, **kwargs)


def new_study(objectives: Objectives = ONE) -> Study:
    return Study(objectives, NeverStop(), seed=0)


# -- what may be given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "objectives", "expected"),
    [
        (1, ONE, {"score": 1.0}),
        (np.float32(0.5), ONE, {"score": 0.5}),
        ([0.5], ONE, {"score": 0.5}),
        ({"score": 0.5, "note": "of the paper"}, ONE, {"score": 0.5}),
        ((0.5, 2), TWO, {"score": 0.5, "cost": 2.0}),
        (np.array([0.5, 2.0]), TWO, {"score": 0.5, "cost": 2.0}),
        ({"cost": 2, "score": 0.5}, TWO, {"score": 0.5, "cost": 2.0}),
        ("F_oom", TWO, None),
        (("F_oom", "F_oom"), TWO, None),
    ],
)
def test_pairs(values: Any, objectives: Objectives, expected: Any) -> None:
    (result,) = read([({"x": 0.25}, values)], objectives)
    assert result == KnownResult({"x": 0.25}, expected, "" if expected else "F_oom", None)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["frame", "csv", "pairs"]))
def test_any_configuration_comes_back_from_a_table_and_from_pairs(tmp_path_factory: Any, seed: int, form: str) -> None:
    problem = mixed()
    configs = problem.sample(6, seed)
    frame = pd.DataFrame([{f"p:{name}": config.get(name) for name in problem} for config in configs])
    frame["objective"] = [float(i) for i in range(6)]
    given: Any = frame
    if form == "csv":
        given = tmp_path_factory.mktemp("known") / "results.csv"
        frame.to_csv(given, index=False)
    elif form == "pairs":
        given = [({k: list(v) if isinstance(v, tuple) else v for k, v in c.items()}, i) for i, c in enumerate(configs)]
    found = read(given, problem=problem)
    assert [result.config for result in found] == configs
    for result, config in zip(found, configs, strict=True):
        assert list(map(type, result.config.values())) == list(map(type, config.values()))
    assert [result.values["score"] for result in found] == list(range(6))


def test_a_table_leaves_out_what_has_not_ended_and_may_have_failures() -> None:
    statuses = ["DONE", "RUNNING", "CANCELLED", "PAUSED", "DONE"]
    frame = pd.DataFrame({"p:x": [0.1, 0.2, 0.3, 0.4, 0.5], "objective": ["1.5", np.nan, "F_CANCELLED", 2.5, "F_oom"]})
    found = read(frame.assign(job_status=statuses))
    assert [(r.config["x"], r.values, r.error) for r in found] == [
        (0.1, {"score": 1.5}, ""), (0.4, {"score": 2.5}, ""), (0.5, None, "F_oom"),
    ]  # fmt: skip
    assert read([]) == read(frame[:0]) == []


def test_resources_are_those_of_the_table_or_the_one_that_is_given() -> None:
    frame = pd.DataFrame({"p:x": [0.1, 0.2, 0.3], "objective": [1.0, 2.0, "F_oom"], "m:resource": [3.0, np.nan, 2.0]})
    timed = read(frame, time_attr="epoch")
    assert [r.resource for r in timed] == [3, None, None]
    assert [r.values for r in timed] == [{"score": 1.0, "epoch": 3}, {"score": 2.0}, None]
    assert [r.resource for r in read(frame)] == [None, None, None]
    assert [r.resource for r in read(frame, resource=np.int64(9), time_attr="epoch")] == [9, 9, None]
    assert read([({"x": 0.5}, 1)], resource=0.5)[0].values == {"score": 1.0}


class Table:
    """Results of a search, as far as they are read."""

    def __init__(self, objectives: dict[str, str]) -> None:
        self.objectives = Objectives.parse(objectives)

    def to_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"p:x": [0.5], "objective_0": [2.0], "objective_1": [1.0]})


def test_results_that_name_their_objectives_are_read_by_name() -> None:
    assert read(Table({"cost": "MIN", "score": "MAX"}), TWO)[0].values == {"score": 1.0, "cost": 2.0}
    with pytest.raises(TransferError, match=r"\['loss', 'score'\], the search has \['score', 'cost'\]"):
        read(Table({"loss": "MIN", "score": "MAX"}), TWO)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (({"x": 2.0}, 1.0), "'x': 2.0 is not allowed"),
        (({"x": "far"}, 1.0), "'x': 'far' is not allowed"),
        (({"x": float("nan")}, 1.0), "lacks 'x'"),
        (({}, 1.0), "lacks 'x'"),
        (({"x": 0.5, "y": 1}, 1.0), r"\['y'\], which the space lacks"),
        (({"x": 0.5}, float("nan")), "score=nan is no finite number"),
        (({"x": 0.5}, float("inf")), "score=inf is no finite number"),
        (({"x": 0.5}, None), "score=None is no finite number"),
        (({"x": 0.5}, "good"), "score='good' is no finite number"),
        (({"x": 0.5}, True), "score=True is no finite number"),
        (({"x": 0.5}, (1.0, 2.0)), "2 values for the 1 objectives"),
        (({"x": 0.5}, {"loss": 1.0}), r"lack the objectives \['score'\]; they have \['loss'\]"),
    ],
)
def test_what_cannot_be_a_trial_is_refused_by_its_row(wrong: Any, message: str) -> None:
    with pytest.raises(TransferError, match=f"(?s)1 of 3 known results .*row 1: .*{message}"):
        read([({"x": 0.1}, 1.0), wrong, ({"x": 0.2}, 1.0)])


@pytest.mark.parametrize("pair", [{"x": 0.5}, ({"x": 0.5},), (0.5, 1.0), "ab", pd.DataFrame({"p:x": [0.1]})])
def test_what_is_no_pair_is_refused_by_its_place(pair: Any) -> None:
    with pytest.raises(TransferError, match=r"row 1 is .*: give pairs \(configuration, values\)"):
        read([({"x": 0.1}, 1.0), pair])


def test_all_wrong_rows_are_told_up_to_a_limit_by_the_names_of_the_table() -> None:
    frame = pd.DataFrame({"p:x": [0.1, 2.0, 3.0], "objective": [1.0, 1.0, np.nan]}, index=["a", "b", "c"])
    with pytest.raises(TransferError, match=r"(?s)2 of 3.*row b: .*2\.0.*row c: .*3\.0"):
        read(frame)
    with pytest.raises(TransferError, match=r"(?s)15 of 15.*row 9.*and 5 more") as caught:
        read([({"x": 2.0}, 1.0)] * 15)
    assert "row 10" not in str(caught.value)


@pytest.mark.parametrize("resource", [0, -1, float("nan"), float("inf"), "3", True])
def test_a_resource_is_positive_and_finite(resource: Any) -> None:
    with pytest.raises(SettingError, match="resource="):
        read([({"x": 0.1}, 1.0)], resource=resource)
    if not isinstance(resource, bool) and resource == resource:
        frame = pd.DataFrame({"p:x": [0.1], "objective": [1.0], "m:resource": [resource]})
        with pytest.raises(TransferError, match="row 0: the resource"):
            read(frame, time_attr="epoch")


@pytest.mark.parametrize("results", [3, {"x": 1}, "nowhere", Path("none.csv"), pd.DataFrame({"x": [1]})])
def test_what_is_no_table_is_refused(results: Any) -> None:
    with pytest.raises(TransferError):
        read(results)


changes = st.dictionaries(
    st.sampled_from(["lr", "n", "opt", "k", "o", "layers", "c", "other"]),
    st.sampled_from([0.5, 2.0, 3, 4, "adam", "sgd", (4,), 7, None]),
    max_size=2,
)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 50), changes, st.sampled_from([None, "n", "k", "c"]))
def test_checking_all_in_one_go_finds_what_checking_each_does(seed: int, changed: Any, without: str | None) -> None:
    problem = mixed()
    good, other = problem.sample(2, seed)
    config = {name: value for name, value in {**other, **changed}.items() if name != without}
    try:
        problem.check_configuration(config)
        allowed = True
    except SpaceError:
        allowed = False
    assert _all_allowed(problem, [good, config]) == allowed


# -- making trials of them ---------------------------------------------------------------------------------------------


def admit(study: Study, *pairs: Any, **kwargs: Any) -> list[int]:
    problem = x_space()
    events, numbers = admit_known(study, problem, read(list(pairs), study.objectives, problem, **kwargs), 5.0)
    for event in events:
        study.apply(event)
    return numbers


def test_what_is_there_already_is_not_added_again() -> None:
    study = new_study(TWO)
    a, b, failed = ({"x": 0.1}, (1.0, 2.0)), ({"x": 0.1}, (1.0, 3.0)), ({"x": 0.2}, "F_oom")
    assert admit(study, a, b, failed) == [0, 1, 2]
    assert admit(study, failed, a, ({"x": 0.3}, "F_x"), b, a) == [2, 0, 3, 1, 0]
    assert admit(study, a, resource=3) == [4]  # the same values at another resource say something else
    assert admit(study, ({"x": 0.1}, (1.0 + 1e-15, 2.0))) == [0]  # as a text of a table gives it back
    assert len(study.trials) == study.n_known == 5


def test_results_of_runs_are_not_added_again_while_those_that_run_have_none() -> None:
    study = new_study()
    for event in study.admit([Proposal({"x": x}, "random") for x in (0.1, 0.2, 0.3)], 0.0):
        study.apply(event)
    study.apply(TrialCompleted(1.0, 0, 1, {"score": 1.0}, {}, False, 0.0, 1.0, "w"))
    study.apply(TrialTimedOut(1.0, 1, 1, 1.0, 0.0, 1.0, "w"))
    assert admit(study, ({"x": 0.1}, 1.0), ({"x": 0.2}, "F_oom"), ({"x": 0.3}, 1.0)) == [0, 3, 4]
    assert [t.status for t in study.trials[3:]] == [Status.FAILED, Status.COMPLETED]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3) | st.none()), max_size=12),
    st.integers(0, 12),
    st.randoms(use_true_random=False),
)
def test_adding_is_idempotent_and_its_order_does_not_matter(rows: list[Any], cut: int, random: Any) -> None:
    pairs = [({"x": x / 4}, "F" if y is None else float(y)) for x, y in rows]
    once, twice = new_study(), new_study()
    numbers = admit(once, *pairs)
    assert [once.trials[number].config for number in numbers] == [config for config, _ in pairs]
    assert numbers == admit(once, *pairs)
    shuffled = random.sample(pairs, len(pairs))
    for part in (shuffled[:cut], shuffled[cut:], pairs):
        admit(twice, *part)
    assert len(once.trials) == len(twice.trials) == len({(p[0]["x"], p[1]) for p in pairs})
    assert once.front.costs.tolist() == twice.front.costs.tolist()
    assert [t.number for t in twice.trials] == list(range(len(twice.trials)))
