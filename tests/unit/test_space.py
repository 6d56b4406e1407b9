"""HpProblem: value forms, checks, sampling and the JSON form."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from functools import partial

import ConfigSpace as cs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.errors import SpaceError
from dhpo.space import HpProblem
from dhpo.trial import Configuration


def positive(config, name="x"):
    return config[name] > 0


def make_rich() -> HpProblem:
    """Every value form, conditions of all kinds, forbidden clauses."""
    problem = HpProblem()
    lr = problem.add_hyperparameter((1e-5, 1e-1, "log-uniform"), "lr", 1e-3)
    width = problem.add_hyperparameter((8, 512, "log-uniform"), "width")
    batch = problem.add_hyperparameter([16, 32, 64], "batch", default_value=32)
    optimizer = problem.add_hyperparameter(["sgd", "adam", "lamb"], "optimizer")
    momentum = problem.add_hyperparameter((0, 0.99), "momentum")
    layers = problem.add_hyperparameter([(64,), (64, 32), (128, 64, 32)], "layers", default_value=(64, 32))
    nesterov = problem.add_hyperparameter([True, False], "nesterov")
    problem.add_hyperparameter({"mu": 3, "sigma": 1, "lower": 1, "upper": 9}, "depth")
    problem.add_hyperparameter({"mu": 0.0, "sigma": 2.0}, "shift")
    problem.add_hyperparameter(50, "epochs")
    problem.add_condition(cs.InCondition(momentum, optimizer, ["sgd", "lamb"]))
    problem.add_condition(
        cs.AndConjunction(
            cs.EqualsCondition(nesterov, optimizer, "sgd"), cs.GreaterThanCondition(nesterov, momentum, 0.2)
        )
    )
    problem.add_forbidden_clause(
        cs.ForbiddenAndConjunction(
            cs.ForbiddenInClause(layers, [(64,), (128, 64, 32)]), cs.ForbiddenEqualsClause(batch, 16)
        )
    )
    problem.add_forbidden_clause(cs.ForbiddenEqualsRelation(width, batch))
    assert isinstance(lr, cs.UniformFloatHyperparameter)
    return problem


class TestValueForms:
    @pytest.mark.parametrize(
        ("value", "kind", "attributes"),
        [
            ((-10.0, 10.0), cs.UniformFloatHyperparameter, {"lower": -10.0, "upper": 10.0, "log": False}),
            ((0, 1.5), cs.UniformFloatHyperparameter, {"lower": 0.0, "upper": 1.5}),
            ((1, 8), cs.UniformIntegerHyperparameter, {"lower": 1, "upper": 8, "log": False}),
            ((np.int64(1), np.int32(8)), cs.UniformIntegerHyperparameter, {"lower": 1, "upper": 8}),
            ((np.float32(0.5), 1), cs.UniformFloatHyperparameter, {"lower": 0.5, "upper": 1.0}),
            ((1, 8, "uniform"), cs.UniformIntegerHyperparameter, {"log": False}),
            ((1, 8, "log-uniform"), cs.UniformIntegerHyperparameter, {"log": True}),
            ((1e-5, 1.0, "log-uniform"), cs.UniformFloatHyperparameter, {"log": True, "lower": 1e-5}),
            (["a", 1, 2.5], cs.CategoricalHyperparameter, {"choices": ("a", 1, 2.5)}),
            ([True, False], cs.CategoricalHyperparameter, {"choices": (True, False)}),
            ([0, 2, True], cs.CategoricalHyperparameter, {"choices": (0, 2, True)}),
            ([None, "relu"], cs.CategoricalHyperparameter, {"choices": (None, "relu")}),
            ([[64], [64, 32]], cs.CategoricalHyperparameter, {"choices": ((64,), (64, 32))}),
            ([3, 1, 2.5], cs.OrdinalHyperparameter, {"sequence": (3, 1, 2.5)}),
            ({"mu": 5, "sigma": 2}, cs.NormalIntegerHyperparameter, {"mu": 5.0, "lower": -3, "upper": 13}),
            ({"mu": 5.0, "sigma": 2}, cs.NormalFloatHyperparameter, {"mu": 5.0, "lower": -3.0, "upper": 13.0}),
            (
                {"mu": 5.0, "sigma": 2, "lower": 4, "upper": 6},
                cs.NormalFloatHyperparameter,
                {"lower": 4.0, "upper": 6.0},
            ),
            (3, cs.Constant, {"value": 3}),
            (0.5, cs.Constant, {"value": 0.5}),
            ("adam", cs.Constant, {"value": "adam"}),
            (True, cs.Constant, {"value": True}),
        ],
    )
    def test_forms(self, value, kind, attributes):
        hyperparameter = HpProblem().add_hyperparameter(value, "h")
        assert type(hyperparameter) is kind
        assert hyperparameter.name == "h"
        for name, expected in attributes.items():
            actual = getattr(hyperparameter, name)
            assert (actual, type(actual)) == (expected, type(expected))

    def test_a_configspace_object_is_used_as_it_is(self):
        problem = HpProblem()
        hyperparameter = cs.BetaIntegerHyperparameter("b", alpha=2, beta=3, lower=1, upper=9)
        assert problem.add(hyperparameter, name="ignored") is hyperparameter
        assert problem.hyperparameter_names == ["b"]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ([], "'h': the list of values is empty"),
            ((3, 3), "lower bound 3 is not below the upper bound 3"),
            ((3.0, -1), "lower bound 3.0 is not below the upper bound -1"),
            ((0.0, 1.0, "log-uniform"), "lower bound 0.0 of a log-uniform range must be above 0"),
            ((-4, 8, "log-uniform"), "must be above 0"),
            ((1, 8, "log"), "third element 'log' is not known; write 'uniform' or 'log-uniform'"),
            ((1,), "has 1 elements; write \\(lower, upper\\)"),
            ((1, 2, 3, 4), "has 4 elements"),
            (("a", "b"), "lower bound is 'a', not a number"),
            ((False, True), "lower bound is False, not a number"),
            ((math.nan, 1.0), "nan cannot be used; give finite values"),
            ((0.0, math.inf), "inf cannot be used"),
            ((-1e308, 1e308), "not finite"),
            ((1e-20, 1e-3, "log-uniform"), "1e-20 is too small.*search over its exponent"),
            ((0, 2**60), "too wide"),
            ([1, math.nan], "nan cannot be used"),
            ([1, 2, 1], "1 occurs more than once"),
            (["a", object()], "cannot be used as a value; use numbers, strings"),
            ({"mu": 1.0}, "write {'mu': ..., 'sigma': ..., 'lower': ..., 'upper': ...}"),
            ({"mu": 1.0, "sigma": 1.0, "mean": 2}, "write {'mu'"),
            ({"mu": 1.0, "sigma": 0}, "sigma=0 must be above 0"),
            ({"mu": 1.0, "sigma": 1, "lower": 2, "upper": 1}, "not below"),
            (math.nan, "nan cannot be used"),
            (None, "None is no value form; allowed forms are"),
            ({1, 2}, "is no value form"),
            (np.arange(3), "is no value form"),
        ],
    )
    def test_mistakes_are_told_what_to_write(self, value, message):
        problem = HpProblem()
        with pytest.raises(SpaceError, match=message) as caught:
            problem.add_hyperparameter(value, "h")
        assert "'h'" in str(caught.value)
        assert len(problem) == 0

    @pytest.mark.parametrize("name", [None, "", 3])
    def test_a_name_is_needed(self, name):
        with pytest.raises(SpaceError, match=r"needs a name.*add_hyperparameter"):
            HpProblem().add_hyperparameter((0, 1), name)

    def test_a_name_is_used_once(self):
        problem = HpProblem({"x": (0, 1)})
        with pytest.raises(SpaceError, match=r"already has a hyperparameter 'x'.*another name"):
            problem.add_hyperparameter((0.0, 1.0), "x")
        assert problem.space["x"].upper == 1

    @pytest.mark.parametrize(
        ("value", "default", "message"),
        [
            ((0, 10), 11, "default_value=11 is outside \\[0, 10\\]"),
            ((0, 10), 2.5, "no integer"),
            ((0.0, 10.0), "a", "default_value is 'a', not a number"),
            (["a", "b"], "c", "default_value='c' is none of"),
            ([1, 2], 3, "default_value=3 is none of"),
            (3, 4, "default_value=4 differs from the constant 3"),
            ({"mu": 0.0, "sigma": 1.0}, 9, "outside"),
            (cs.Constant("k", 1), 1, "default_value=1 was given beside"),
        ],
    )
    def test_defaults_must_fit(self, value, default, message):
        with pytest.raises(SpaceError, match=message):
            HpProblem().add_hyperparameter(value, "h", default)

    def test_defaults(self):
        problem = HpProblem()
        problem.add((0, 10), "i", 3.0)
        problem.add((0.0, 10.0), "f", 1)
        problem.add(["a", "b"], "c", "b")
        problem.add([4, 2], "o")
        problem.add((1e-4, 1e-2, "log-uniform"), "lr")
        config = problem.default_configuration
        assert config == {"i": 3, "f": 1.0, "c": "b", "o": 4, "lr": 1e-3}
        assert [type(value) for value in config.values()] == [int, float, str, int, float]


class TestProblem:
    def test_repr_is_configspaces(self):
        problem = HpProblem()
        problem.add_hyperparameter((-10.0, 10.0), "x0")
        assert repr(problem) == (
            "Configuration space object:\n  Hyperparameters:\n"
            "    x0, Type: UniformFloat, Range: [-10.0, 10.0], Default: 0.0\n"
        )

    def test_names_keep_the_order_of_insertion(self):
        problem = make_rich()
        names = ["lr", "width", "batch", "optimizer", "momentum", "layers", "nesterov", "depth", "shift", "epochs"]
        assert problem.hyperparameter_names == names == list(problem)
        assert list(problem.default_configuration) == names
        assert len(problem) == 10
        assert problem.constants == {"epochs": 50}
        assert "lr" in problem
        assert "nope" not in problem

    def test_a_configspace_may_be_given_and_grow_outside(self):
        space = cs.ConfigurationSpace({"b": (0, 5)})
        problem = HpProblem(space)
        assert problem.space is space
        assert problem.encoding is problem.encoding
        before = problem.encoding
        space.add(cs.UniformFloatHyperparameter("a", 0, 1))
        assert problem.hyperparameter_names == ["b", "a"]
        assert problem.encoding is not before
        assert set(problem.sample(rng=0)) == {"a", "b"}

    def test_what_is_no_space_is_refused(self):
        with pytest.raises(SpaceError, match="config_space is a list"):
            HpProblem([1, 2])

    def test_configspace_objects_with_odd_values_are_refused(self):
        space = cs.ConfigurationSpace()
        space.add(cs.CategoricalHyperparameter("c", [print, len]))
        with pytest.raises(SpaceError, match=r"'c'.*look the object up by its name"):
            HpProblem(space)

    def test_a_refused_clause_leaves_the_space_as_it_was(self):
        problem = HpProblem({"a": ["x", "y"], "b": (0, 1)})
        a, b = problem.space["a"], problem.space["b"]
        before = problem.hash
        with pytest.raises(SpaceError, match=r"Forbidden: a == 'x' cannot be added.*default_value"):
            problem.add_forbidden_clause(cs.ForbiddenEqualsClause(a, "x"))
        problem.add_condition(cs.EqualsCondition(b, a, "x"))
        with pytest.raises(SpaceError, match="AmbiguousCondition"):
            problem.add_condition(cs.EqualsCondition(b, a, "y"))
        stranger = cs.Constant("k", 1)
        with pytest.raises(SpaceError, match="must name hyperparameters of the space"):
            problem.add_forbidden_clause(cs.ForbiddenEqualsClause(stranger, 1))
        assert len(problem.space.conditions) == 1
        assert problem.hash != before
        assert problem.sample(50, 0)

    def test_pickling_keeps_everything(self):
        problem = make_rich()
        problem.add_constraint(partial(positive, name="lr"))
        copied = pickle.loads(pickle.dumps(problem))
        assert copied == problem
        assert copied.sample(20, 3) == problem.sample(20, 3)
        assert len(copied.constraints) == 1

    def test_sample(self):
        problem = make_rich()
        one = problem.sample(rng=5)
        assert isinstance(one, Configuration)
        assert problem.sample(1, 5) == [one]
        assert problem.sample(3, np.random.default_rng(5)) == problem.sample(3, 5)
        assert problem.sample(0) == []
        assert problem.sample() in problem
        with pytest.raises(SpaceError, match="n=-1"):
            problem.sample(-1)

    @given(st.integers(0, 2**32 - 1))
    @settings(deadline=None, max_examples=30)
    def test_samples_pass_every_check(self, seed):
        problem = make_rich()
        for config in problem.sample(20, seed):
            problem.check_configuration(config)
            cs.Configuration(problem.space, values=dict(config))
            assert {type(value) for value in config.values()} <= {int, float, str, bool, tuple}


class TestCheck:
    def legal(self, **changes):
        config = {
            "lr": 1e-3, "width": 128, "batch": 32, "optimizer": "adam", "layers": (64,), "depth": 3, "shift": 0.5,
            "epochs": 50,
        }  # fmt: skip
        config.update(changes)
        return config

    def test_legal_ones_pass(self):
        problem = make_rich()
        assert self.legal() in problem
        assert self.legal(width=np.int64(128), lr=np.float64(1e-3), layers=[64]) in problem
        assert self.legal(optimizer="sgd", momentum=0.5, nesterov=True) in problem
        assert self.legal(optimizer="sgd", momentum=0.1) in problem

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"lr": 1.0}, r"'lr': 1.0 is not allowed; it must be a number in \[1e-05, 0.1\]"),
            ({"lr": "fast"}, "'lr': 'fast' is not allowed"),
            ({"width": 1.5}, r"'width': 1.5 is not allowed; it must be an integer in \[8, 512\]"),
            ({"width": True}, "'width': True is not allowed"),
            ({"batch": 17}, r"'batch': 17 is not allowed; it must be one of \[16, 32, 64\]"),
            ({"optimizer": "rmsprop"}, r"'optimizer': 'rmsprop' is not allowed; it must be one of \['sgd', 'adam'"),
            ({"epochs": 51}, "'epochs': 51 is not allowed; it must be 50"),
            ({"learning_rate": 1}, r"has \['learning_rate'\], which the space lacks; its hyperparameters are \['lr'"),
            (
                {"momentum": 0.5},
                "gives 'momentum' = 0.5, which is inactive there .*momentum | optimizer in.*leave it out",
            ),
            ({"optimizer": "sgd"}, r"lacks 'momentum'; give a number in \[0.0, 0.99\]"),
            ({"optimizer": "sgd", "momentum": 0.5}, r"lacks 'nesterov'; give one of \[True, False\]"),
            ({"batch": 16}, "not allowed by the space .*layers in"),
            ({"width": 32}, "not allowed by the space .*width == batch"),
            ({"depth": math.nan}, "lacks 'depth'"),
        ],
    )
    def test_illegal_ones_are_named(self, changes, message):
        problem, config = make_rich(), self.legal(**changes)
        with pytest.raises(SpaceError, match=message):
            problem.check_configuration(config)
        assert config not in problem

    def test_what_is_no_mapping_is_refused(self):
        with pytest.raises(SpaceError, match="no mapping"):
            make_rich().check_configuration([1, 2])

    def test_constraints(self):
        problem = HpProblem({"x": (-1.0, 1.0), "y": (-1.0, 1.0)})
        problem.add_constraint(positive)
        problem.add_constraint(partial(positive, name="y"))
        problem.check_configuration({"x": 0.5, "y": 0.5})
        with pytest.raises(SpaceError, match=r"Constraint: .*positive"):
            problem.check_configuration({"x": 0.5, "y": -0.5})
        assert "Constraints:" in repr(problem)
        problem.set_constraint_fn(positive)
        problem.check_configuration({"x": 0.5, "y": -0.5})
        assert all(config.x > 0 for config in problem.sample(20, 0))
        with pytest.raises(SpaceError, match="3 is not callable"):
            problem.add_constraint(3)


class TestJson:
    def test_round_trip_through_text(self):
        problem = make_rich()
        again = HpProblem.from_json(json.loads(json.dumps(problem.to_json(), allow_nan=False)))
        assert again == problem
        assert again.hash == problem.hash
        assert repr(again) == repr(problem)
        assert again.hyperparameter_names == problem.hyperparameter_names
        assert again.sample(50, 1) == problem.sample(50, 1)
        assert again.default_configuration == problem.default_configuration

    def test_the_data_are_left_as_they_are(self):
        data = make_rich().to_json()
        text = json.dumps(data)
        HpProblem.from_json(data)
        assert json.dumps(data) == text

    def test_constraints_are_kept_by_name(self):
        problem = HpProblem({"x": (-1.0, 1.0)})
        problem.add_constraint(positive)
        again = HpProblem.from_json(problem.to_json())
        assert again.constraints == ()
        assert again.missing_constraints == (f"{__name__}.positive",)
        assert again.hash == problem.hash
        assert {"x": -0.5} in again
        again.add_constraint(positive)
        assert again.missing_constraints == ()
        assert again.hash == problem.hash
        assert {"x": -0.5} not in again

    def test_the_hash_tells_spaces_apart(self):
        problems = [
            HpProblem({"x": (0, 1)}),
            HpProblem({"x": (0.0, 1.0)}),
            HpProblem({"x": (0, 2)}),
            HpProblem({"x": (0, 1), "y": 1}),
            HpProblem({"y": 1, "x": (0, 1)}),
            make_rich(),
        ]
        assert len({problem.hash for problem in problems}) == len(problems)

    def test_the_hash_is_the_same_in_another_process(self):
        code = "from dhpo.space import HpProblem; print(HpProblem({'x': (0.0, 1.0), 'c': ['a', 'b']}).hash)"
        hashes = {
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
            for _ in range(2)
        }
        assert hashes == {HpProblem({"x": (0.0, 1.0), "c": ["a", "b"]}).hash}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 99}, "format 99"),
            ({"names": ["x"]}, "not those of the space"),
            ({"space": {"hyperparameters": [{"type": "odd"}]}}, "not the JSON form of a space"),
            ({"space": None}, "not the JSON form of a space"),
        ],
    )
    def test_other_data_are_refused(self, change, message):
        with pytest.raises(SpaceError, match=message):
            HpProblem.from_json({**make_rich().to_json(), **change})

    def test_meta_must_be_plain(self):
        problem = HpProblem()
        problem.add(cs.UniformFloatHyperparameter("x", 0, 1, meta={"unit": "s"}))
        assert HpProblem.from_json(problem.to_json()).space["x"].meta == {"unit": "s"}
        problem.add(cs.UniformFloatHyperparameter("y", 0, 1, meta={"f": print}))
        with pytest.raises(SpaceError, match="which JSON cannot"):
            problem.to_json()


def test_importing_it_loads_no_heavy_library():
    code = "import sys, dhpo.space; print([m for m in ('pandas', 'sklearn', 'distributed') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
