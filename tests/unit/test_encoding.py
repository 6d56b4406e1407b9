"""The encoding: round trips, conditions, forbidden clauses, sampling, neighbours and features."""

from __future__ import annotations

import math
import pickle
from collections import Counter

import ConfigSpace as cs
import numpy as np
import pytest
from ConfigSpace.forbidden import (
    ForbiddenGreaterThanClause,
    ForbiddenLessThanClause,
    ForbiddenLessThanEqualsClause,
    ForbiddenLessThanEqualsRelation,
    ForbiddenOrConjunction,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.encoding import Encoding
from dhpo.errors import SpaceError
from dhpo.space import HpProblem

WORDS = st.characters(min_codepoint=32)  # ConfigSpace loses NUL characters
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(deadline=None, max_examples=60)


@st.composite
def value_forms(draw):
    """A value form of any kind."""
    kind = draw(st.sampled_from(["float", "log", "int", "logint", "ordinal", "categorical", "normal", "constant"]))
    if kind in ("float", "normal"):
        low = draw(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)))
        width = draw(st.floats(1e-3, 1e6).map(lambda x: round(x, 3)))
        if kind == "float":
            return (low, low + width)
        return {"mu": low + width / 2, "sigma": width, "lower": low, "upper": low + width}
    if kind == "log":
        low = 10.0 ** draw(st.integers(-9, 6))
        return (low, low * draw(st.floats(1.5, 1e10)), "log-uniform")
    if kind == "int":
        low = draw(st.integers(-(10**9), 10**9))
        return (low, low + draw(st.integers(1, 10**9)))
    if kind == "logint":
        low = draw(st.integers(1, 1000))
        return (low, low + draw(st.integers(1, 10**9)), "log-uniform")
    if kind == "ordinal":
        return draw(st.lists(st.integers(-50, 50) | st.floats(-5, 5).map(lambda x: x + 0.25), min_size=1, unique=True))
    if kind == "categorical":
        choices = draw(st.lists(st.text(WORDS, max_size=3), min_size=1, max_size=12, unique=True))
        return [*choices, True] if draw(st.booleans()) else choices
    return draw(st.integers() | st.text(WORDS, max_size=4) | st.booleans())


@st.composite
def flat_problems(draw):
    forms = draw(st.lists(value_forms(), min_size=1, max_size=6))
    return HpProblem({f"h{i}": form for i, form in enumerate(forms)})


def _condition(draw, child, parent):
    """A random condition of the child on the parent, of any type that the parent allows."""
    values = list(parent.choices) if isinstance(parent, cs.CategoricalHyperparameter) else list(parent.sequence)
    kinds = [cs.EqualsCondition, cs.NotEqualsCondition, cs.InCondition]
    if isinstance(parent, cs.OrdinalHyperparameter):
        kinds += [cs.GreaterThanCondition, cs.LessThanCondition]
    kind = draw(st.sampled_from(kinds))
    if kind is cs.InCondition:
        return cs.InCondition(child, parent, draw(st.lists(st.sampled_from(values), min_size=1, unique=True)))
    return kind(child, parent, draw(st.sampled_from(values)))


@st.composite
def conditional_problems(draw):
    """A space of finite parents with random, nested conditions that ConfigSpace accepts."""
    problem = HpProblem()
    parents = []
    # Shuffled names, so that ConfigSpace's order (depth, then name) is not the one of insertion.
    names = draw(st.permutations([f"h{i}" for i in range(6)]))
    for name in names:
        form = draw(st.sampled_from([["a", "b", "c"], [1, 2, 4, 8], [True, False], (0.0, 1.0), (1, 5)]))
        child = problem.add_hyperparameter(form, name)
        if parents and draw(st.booleans()):
            chosen = draw(st.lists(st.sampled_from(parents), min_size=1, max_size=2, unique_by=lambda hp: hp.name))
            parts = [_condition(draw, child, parent) for parent in chosen]
            condition = parts[0]
            if len(parts) == 2:
                condition = draw(st.sampled_from([cs.AndConjunction, cs.OrConjunction]))(*parts)
            try:
                problem.add_condition(condition)
            except SpaceError:  # the defaults do not fit: ConfigSpace refuses it, and the space is as before
                assert condition not in problem.space.conditions
        if isinstance(form, list):
            parents.append(child)
    return problem


def rows_in_unit_cube(problem: HpProblem, seed: int, n: int = 30) -> np.ndarray:
    """Arbitrary rows: beyond the bounds, off the grid, with NaN."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-0.2, 1.2, (n, len(problem)))
    for j, column in enumerate(problem.encoding.columns):
        if column.kind == "categorical":
            rows[:, j] = rng.uniform(-1, column.n_choices + 1, n)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[0], rows[1] = 0.0, 1.0
    return rows


class TestRoundTrip:
    @quick
    @given(flat_problems(), SEEDS)
    def test_decoded_configurations_survive_exactly(self, problem, seed):
        encoding = problem.encoding
        configs = encoding.decode(rows_in_unit_cube(problem, seed))
        again = encoding.decode(encoding.encode(configs))
        assert again == configs
        assert [[type(v) for v in config.values()] for config in again] == [
            [type(v) for v in config.values()] for config in configs
        ]

    @quick
    @given(flat_problems() | conditional_problems(), SEEDS)
    def test_encoding_a_decoded_row_snaps_it(self, problem, seed):
        encoding = problem.encoding
        rows = rows_in_unit_cube(problem, seed)
        snapped = encoding.snap(rows)
        np.testing.assert_array_equal(encoding.encode(encoding.decode(rows)), snapped)
        np.testing.assert_array_equal(encoding.snap(snapped), snapped)

    @quick
    @given(flat_problems(), SEEDS)
    def test_values_are_plain_and_legal_in_configspace(self, problem, seed):
        for config in problem.encoding.decode(rows_in_unit_cube(problem, seed)):
            for name, value in config.items():
                assert type(value) in (int, float, str, bool)
                assert problem.space[name].legal_value(value)

    def test_bounds_are_reached_exactly_on_a_log_scale(self):
        encoding = HpProblem({"lr": (3e-7, 0.7, "log-uniform"), "n": (3, 977, "log-uniform")}).encoding
        assert encoding.decode([[0.0, 0.0], [1.0, 1.0]]) == [{"lr": 3e-7, "n": 3}, {"lr": 0.7, "n": 977}]

    @pytest.mark.parametrize("value", [0.1, -9.99, 1e-9, 3.141592653589, -10.0, 10.0, 0.0])
    def test_numbers_as_people_write_them_survive(self, value):
        encoding = HpProblem({"x": (-10.0, 10.0)}).encoding
        assert encoding.decode(encoding.encode([{"x": value}])) == [{"x": value}]

    @pytest.mark.parametrize("value", [1e-13, 2.5e-12, 1e-10, 3e-4, 0.001, 0.12345, 1.0])
    def test_small_numbers_survive_on_a_log_scale(self, value):
        encoding = HpProblem({"x": (1e-13, 1.0, "log-uniform")}).encoding
        assert encoding.decode(encoding.encode([{"x": value}])) == [{"x": value}]

    @pytest.mark.parametrize(
        "form",
        [(-9.9, 9.9), (-10.0, 10.0), (0.0, 1.0), (1e6, 1e6 + 1e-3), (-999.0, 0.5), (1e-13, 9e5, "log-uniform"),
         (0.97, 0.99, "log-uniform"), (0.1, 1e15, "log-uniform")],
    )  # fmt: skip
    def test_many_floats_of_a_range_survive(self, form):
        encoding = HpProblem({"x": form}).encoding
        configs = encoding.decode(np.random.default_rng(0).random((5000, 1)))
        assert encoding.decode(encoding.encode(configs)) == configs

    def test_every_integer_of_a_range_survives(self):
        encoding = HpProblem({"a": (-7, 1000), "b": (1, 1008, "log-uniform")}).encoding
        configs = [{"a": i - 7, "b": i + 1} for i in range(1008)]
        assert encoding.decode(encoding.encode(configs)) == configs

    def test_numpy_values_and_tuples_are_understood(self):
        encoding = HpProblem({"n": (1, 9), "layers": [(64,), (64, 32)], "s": ["a", "b"]}).encoding
        rows = encoding.encode([{"n": np.int32(3), "layers": [64, 32], "s": np.str_("b")}])
        assert encoding.decode(rows) == [{"n": 3, "layers": (64, 32), "s": "b"}]

    def test_the_empty_space(self):
        encoding = HpProblem().encoding
        assert encoding.sample(3, np.random.default_rng(0)).shape == (3, 0)
        assert encoding.decode(np.empty((2, 0))) == [{}, {}]
        assert encoding.n_distinct == 1
        assert len(encoding.keys(np.empty((2, 0)))) == 2


class TestEncode:
    def test_codes(self):
        encoding = HpProblem(
            {"x": (0.0, 4.0), "lr": (1e-4, 1.0, "log-uniform"), "o": [1, 5, 7], "c": ["a", "b", "d"], "k": "v"}
        ).encoding
        row = encoding.encode([{"x": 1.0, "lr": 1e-3, "o": 5, "c": "d", "k": "v"}])[0]
        np.testing.assert_allclose(row, [0.25, 0.25, 0.5, 2.0, 0.0])
        assert [column.kind for column in encoding.columns] == ["float", "float", "ordinal", "categorical", "constant"]
        assert [column.n_choices for column in encoding.columns] == [0, 0, 3, 3, 1]
        assert [column.log for column in encoding.columns] == [False, True, False, False, False]

    def test_absent_is_nan_and_unknown_names_are_ignored(self):
        row = HpProblem({"x": (0.0, 1.0), "c": ["a", "b"]}).encoding.encode([{"other": 1, "c": math.nan}])[0]
        assert np.isnan(row).all()

    @pytest.mark.parametrize(
        ("config", "word"),
        [
            ({"x": 3.0}, "x"),
            ({"n": 11}, "n"),
            ({"n": 2.5}, "n"),
            ({"o": 3}, "o"),
            ({"x": "1.0"}, "x"),
            ({"n": True}, "n"),
        ],
    )
    def test_illegal_numbers_are_refused(self, config, word):
        encoding = HpProblem({"x": (0.0, 1.0), "n": (1, 10), "o": [1, 2, 8]}).encoding
        with pytest.raises(SpaceError, match=f"'{word}'.*must be"):
            encoding.encode([config])

    def test_clip_takes_the_nearest_legal_number(self):
        encoding = HpProblem({"x": (0.0, 1.0), "n": (1, 10), "o": [1, 2, 8]}).encoding
        configs = [{"x": 3.0, "n": -4, "o": 6}, {"x": -1.0, "n": 2.6, "o": 100}]
        assert encoding.decode(encoding.encode(configs, clip=True)) == [
            {"x": 1.0, "n": 1, "o": 8},
            {"x": 0.0, "n": 3, "o": 8},
        ]

    def test_clip_does_not_guess_categories(self):
        with pytest.raises(SpaceError, match="'rmsprop' is not allowed; it must be one of \\['sgd', 'adam'\\]"):
            HpProblem({"opt": ["sgd", "adam"]}).encoding.encode([{"opt": "rmsprop"}], clip=True)

    def test_a_matrix_of_another_width_is_refused(self):
        with pytest.raises(SpaceError, match=r"\(n, 1\)"):
            HpProblem({"x": (0.0, 1.0)}).encoding.snap(np.zeros((3, 2)))


class TestConditions:
    @quick
    @given(conditional_problems(), SEEDS)
    def test_activity_is_configspaces(self, problem, seed):
        encoding = problem.encoding
        rows = encoding.sample(40, np.random.default_rng(seed))
        np.testing.assert_array_equal(encoding.active(rows), ~np.isnan(rows))
        for config in encoding.decode(rows):
            # ConfigSpace raises where an active value is missing or an inactive one is given.
            theirs = cs.Configuration(problem.space, values=dict(config))
            assert set(theirs) == set(config)

    @quick
    @given(conditional_problems(), SEEDS)
    def test_single_conditions_agree_with_configspaces_samples(self, problem, seed):
        problem.space.seed(seed % 2**31)
        for theirs in problem.space.sample_configuration(10):
            values = {k: v.item() if isinstance(v, np.generic) else v for k, v in dict(theirs).items()}
            try:
                theirs.check_valid_configuration()
            except ValueError:  # its sampler applies some nested conditions too early
                continue
            problem.check_configuration(values)

    def test_what_becomes_active_takes_its_default(self):
        problem = HpProblem({"opt": ["adam", "sgd"], "momentum": (0.0, 1.0)})
        problem.add_condition(cs.EqualsCondition(problem.space["momentum"], problem.space["opt"], "sgd"))
        encoding = problem.encoding
        assert encoding.decode([[1.0, np.nan], [0.0, 0.7], [1.0, 0.25]]) == [
            {"opt": "sgd", "momentum": 0.5},
            {"opt": "adam"},
            {"opt": "sgd", "momentum": 0.25},
        ]
        assert np.isnan(encoding.encode([{"opt": "adam", "momentum": 0.3}])[0, 1])

    def test_chains_are_followed_whatever_the_order_of_insertion(self):
        problem = HpProblem({"z": (0.0, 1.0), "m": ["p", "q"], "a": ["x", "y"]})
        space = problem.space
        problem.add_conditions(
            [cs.EqualsCondition(space["z"], space["m"], "q"), cs.EqualsCondition(space["m"], space["a"], "y")]
        )
        assert problem.hyperparameter_names == ["z", "m", "a"]
        assert problem.encoding.decode([[0.5, 1, 0], [0.5, 1, 1], [0.5, 0, 1]]) == [
            {"a": "x"},
            {"z": 0.5, "m": "q", "a": "y"},
            {"m": "p", "a": "y"},
        ]

    def test_conditions_on_numbers_compare_values(self):
        problem = HpProblem({"depth": (1, 10), "lr": (1e-5, 1e-1, "log-uniform"), "child": (0.0, 1.0)})
        space = problem.space
        deep = cs.GreaterThanCondition(space["child"], space["depth"], 4)
        slow = cs.LessThanCondition(space["child"], space["lr"], 1e-3)
        problem.add_condition(cs.AndConjunction(deep, slow))
        configs = [{"depth": d, "lr": lr} for d, lr in [(5, 9.99e-4), (4, 1e-4), (5, 1e-3), (10, 1e-5)]]
        assert ["child" in c for c in problem.encoding.decode(problem.encoding.encode(configs))] == [
            True,
            False,
            False,
            True,
        ]


class TestForbidden:
    def make(self) -> HpProblem:
        problem = HpProblem({"a": ["x", "y", "z"], "n": (1, 9), "m": [9, 5, 1], "f": (0.0, 10.0)})
        a, n, m, f = (problem.space[name] for name in "anmf")
        problem.add_forbidden_clauses(
            [
                cs.ForbiddenAndConjunction(cs.ForbiddenEqualsClause(a, "y"), cs.ForbiddenInClause(n, [1, 2, 3])),
                ForbiddenGreaterThanClause(f, 8.0),
                ForbiddenOrConjunction(ForbiddenLessThanEqualsClause(f, 1.0), cs.ForbiddenEqualsClause(a, "z")),
                ForbiddenLessThanEqualsRelation(m, n),
            ]
        )
        return problem

    @staticmethod
    def allowed(config) -> bool:
        return not (
            (config["a"] == "y" and config["n"] in (1, 2, 3))
            or config["f"] > 8.0
            or config["f"] <= 1.0
            or config["a"] == "z"
            or config["m"] <= config["n"]
        )

    @quick
    @given(SEEDS)
    def test_valid_follows_the_values(self, seed):
        encoding = self.make().encoding
        rows = rows_in_unit_cube(self.make(), seed, 100)
        assert encoding.valid(rows).tolist() == [self.allowed(config) for config in encoding.decode(rows)]

    @quick
    @given(SEEDS)
    def test_what_is_forbidden_is_never_sampled(self, seed):
        problem = self.make()
        configs = problem.sample(50, seed)
        assert len(configs) == 50
        assert all(self.allowed(config) for config in configs)

    def test_comparisons_are_exact_at_their_limit(self):
        problem = HpProblem({"a": (1, 9), "b": (1, 9), "lr": (1e-5, 1.0, "log-uniform"), "x": (-1.0, 1.0)})
        a, b, lr, x = (problem.space[name] for name in ("a", "b", "lr", "x"))
        problem.add_forbidden_clauses(
            [
                ForbiddenLessThanEqualsClause(a, 2),
                cs.ForbiddenGreaterThanRelation(b, a),
                ForbiddenGreaterThanClause(lr, 0.1),
                ForbiddenLessThanClause(x, -0.3),
            ]
        )
        legal = {"a": 3, "b": 3, "lr": 0.1, "x": -0.3}
        changes = [{}, {"a": 2, "b": 1}, {"b": 4}, {"lr": 0.1000001}, {"x": -0.3000001}]
        rows = problem.encoding.encode([legal | change for change in changes])
        assert problem.encoding.valid(rows).tolist() == [True, False, False, False, False]

    def test_equal_values_of_different_scales_are_equal(self):
        problem = HpProblem({"n": (1, 8), "o": [2, 4], "lr": (1, 8, "log-uniform")})
        problem.add_forbidden_clause(cs.ForbiddenEqualsRelation(problem.space["n"], problem.space["lr"]))
        problem.add_forbidden_clause(cs.ForbiddenEqualsRelation(problem.space["n"], problem.space["o"]))
        rows = problem.encoding.encode(
            [{"n": 4, "o": 2, "lr": 4}, {"n": 4, "o": 4, "lr": 3}, {"n": 4, "o": 2, "lr": 3}]
        )
        assert problem.encoding.valid(rows).tolist() == [False, False, True]

    def test_inactive_values_break_no_clause(self):
        problem = HpProblem({"a": ["x", "y"], "b": ["p", "q"]})
        a, b = problem.space["a"], problem.space["b"]
        problem.add_condition(cs.EqualsCondition(b, a, "y"))
        problem.add_forbidden_clause(cs.ForbiddenEqualsRelation(a, b))
        problem.add_forbidden_clause(cs.ForbiddenInClause(b, ["q"]))
        assert problem.encoding.valid([[0, 1], [1, 1], [1, 0]]).tolist() == [True, False, True]

    def test_constraints_are_asked_about_allowed_configurations_only(self):
        problem = self.make()
        asked = []
        problem.add_constraint(lambda config: asked.append(dict(config)) or config["n"] % 2 == 0)
        problem.add_constraint(lambda config: config.f < 5)
        configs = problem.sample(20, 0)
        assert all(config.n % 2 == 0 and config.f < 5 for config in configs)
        assert all(self.allowed(config) for config in asked)

    def test_nothing_allowed_is_said_within_a_bounded_budget(self):
        problem = HpProblem({"x": (0.0, 1.0)})
        calls = []
        problem.add_constraint(lambda config: bool(calls.append(1)))
        with pytest.raises(SpaceError, match="allow 0, and 3 are wanted; loosen"):
            problem.sample(3, 0)
        assert 10_000 < len(calls) < 200_000

    def test_a_rare_region_is_still_found(self):
        problem = HpProblem({"x": (0.0, 1.0)})
        problem.add_constraint(lambda config: config["x"] < 0.002)
        assert all(config["x"] < 0.002 for config in problem.sample(5, 1))

    def test_a_constraint_that_raises_is_named(self):
        problem = HpProblem({"x": (0.0, 1.0)})
        problem.add_constraint(needs_y)
        with pytest.raises(SpaceError, match=r"needs_y raised KeyError\('y'\)"):
            problem.sample(1, 0)


def needs_y(config):
    return config["y"] > 0


class TestSample:
    def test_the_rng_alone_decides(self):
        encoding = HpProblem({"x": (0.0, 1.0), "n": {"mu": 5, "sigma": 2}, "c": ["a", "b"]}).encoding
        first, again, other = (encoding.sample(20, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_integers_are_uniform_up_to_both_ends(self):
        encoding = HpProblem({"n": (1, 5)}).encoding
        counts = Counter(config["n"] for config in encoding.decode(encoding.sample(20_000, np.random.default_rng(0))))
        assert sorted(counts) == [1, 2, 3, 4, 5]
        assert all(abs(count - 4000) < 300 for count in counts.values())

    def test_log_ranges_have_as_much_in_each_decade(self):
        encoding = HpProblem({"lr": (1e-4, 1.0, "log-uniform"), "n": (1, 9999, "log-uniform")}).encoding
        configs = encoding.decode(encoding.sample(20_000, np.random.default_rng(0)))
        for low, n_low in [(1e-4, 1), (1e-3, 10), (1e-2, 100), (1e-1, 1000)]:
            assert abs(sum(low <= config["lr"] < 10 * low for config in configs) - 5000) < 350
            assert abs(sum(n_low <= config["n"] < 10 * n_low for config in configs) - 5000) < 350

    def test_no_integer_of_a_log_range_is_cut_short(self):
        encoding = HpProblem({"n": (1, 4, "log-uniform")}).encoding
        counts = Counter(config["n"] for config in encoding.decode(encoding.sample(20_000, np.random.default_rng(0))))
        for k in (1, 2, 3, 4):
            assert counts[k] / 20_000 == pytest.approx(math.log((k + 1) / k) / math.log(5), abs=0.02)

    def test_weights_normal_and_beta_are_honoured(self):
        problem = HpProblem()
        problem.add(cs.CategoricalHyperparameter("c", ["a", "b", "d"], weights=[1, 3, 0]))
        problem.add({"mu": 2.0, "sigma": 0.5}, "f")
        problem.add({"mu": 10, "sigma": 2, "lower": 0, "upper": 12}, "n")
        problem.add(cs.BetaFloatHyperparameter("b", alpha=2, beta=6, lower=0.0, upper=4.0))
        configs = problem.sample(20_000, 0)
        counts = Counter(config["c"] for config in configs)
        assert counts["d"] == 0
        assert abs(counts["b"] - 15_000) < 400
        assert np.mean([config["f"] for config in configs]) == pytest.approx(2.0, abs=0.02)
        assert np.std([config["f"] for config in configs]) == pytest.approx(0.5, abs=0.02)
        assert Counter(config["n"] for config in configs).most_common(1)[0][0] in (9, 10, 11)
        assert all(0 <= config["n"] <= 12 for config in configs)
        assert np.mean([config["b"] for config in configs]) == pytest.approx(1.0, abs=0.03)


class TestKeysAndEnumeration:
    @quick
    @given(conditional_problems(), SEEDS)
    def test_keys_are_equal_where_configurations_are(self, problem, seed):
        encoding = problem.encoding
        rows = np.concatenate([rows_in_unit_cube(problem, seed, 15)] * 2)
        by_key = {}
        for key, config in zip(encoding.keys(rows), encoding.decode(rows), strict=True):
            assert by_key.setdefault(key, config) == config
        configs = {tuple(config.items()) for config in by_key.values()}
        assert len(configs) == len(by_key)

    @quick
    @given(conditional_problems())
    def test_enumeration_has_every_configuration_once(self, problem):
        encoding = problem.encoding
        if encoding.n_distinct is None:
            assert any(column.kind == "float" for column in encoding.columns)
            with pytest.raises(SpaceError, match="cannot be enumerated"):
                next(encoding.enumerate())
            return
        rows = np.array(list(encoding.enumerate()))
        keys = encoding.keys(rows)
        assert len(set(keys)) == len(keys) <= encoding.n_distinct
        assert set(encoding.keys(encoding.sample(200, np.random.default_rng(0)))) <= set(keys)

    def test_enumeration_leaves_out_what_is_forbidden_or_merely_inactive(self):
        problem = HpProblem({"a": ["x", "y", "z"], "b": [1, 2, 3]})
        a, b = problem.space["a"], problem.space["b"]
        problem.add_condition(cs.NotEqualsCondition(b, a, "x"))
        problem.add_forbidden_clause(cs.ForbiddenEqualsClause(a, "z"))
        problem.add_constraint(lambda config: config.get("b") != 2)
        encoding = problem.encoding
        assert encoding.n_distinct == 9
        assert encoding.decode(np.array(list(encoding.enumerate()))) == [
            {"a": "x"},
            {"a": "y", "b": 1},
            {"a": "y", "b": 3},
        ]

    def test_a_huge_space_is_enumerated_lazily(self):
        encoding = HpProblem({f"n{i}": (0, 10**9) for i in range(4)}).encoding
        assert encoding.n_distinct == (10**9 + 1) ** 4
        rows = encoding.enumerate()
        assert encoding.decode([next(rows), next(rows)])[1] == {"n0": 0, "n1": 0, "n2": 0, "n3": 1}


class TestNeighbours:
    @quick
    @given(flat_problems() | conditional_problems(), SEEDS)
    def test_one_hyperparameter_changes_and_children_follow(self, problem, seed):
        encoding, rng = problem.encoding, np.random.default_rng(seed)
        row = encoding.sample(1, rng)[0]
        neighbours = encoding.neighbours(row, rng, 12)
        np.testing.assert_array_equal(encoding.snap(neighbours), neighbours)
        if any(column.n_choices > 1 for column, entry in zip(encoding.columns, row, strict=True) if entry == entry):
            assert len(neighbours) == 12
        for neighbour in neighbours:
            differs = [
                j
                for j in range(len(row))
                if neighbour[j] != row[j] and not (np.isnan(neighbour[j]) and np.isnan(row[j]))
            ]
            assert differs
            # Changed by the exchange itself: active before and after. What else differs has changed its activity.
            assert sum(not np.isnan(neighbour[j]) and not np.isnan(row[j]) for j in differs) == 1

    def test_steps_are_small_and_integers_always_move(self):
        encoding = HpProblem({"x": (0.0, 1.0), "n": (0, 4), "o": [1, 2, 3]}).encoding
        rng = np.random.default_rng(0)
        neighbours = encoding.neighbours([0.0, 0.0, 1.0], rng, 600, scale=0.01)
        moved = neighbours != np.array([0.0, 0.0, 1.0])
        assert (moved.sum(axis=1) == 1).all()
        assert (moved.sum(axis=0) > 120).all()
        assert neighbours[moved[:, 0], 0].max() < 0.06
        assert set(neighbours[moved[:, 1], 1]) == {0.25}
        assert set(neighbours[moved[:, 2], 2]) == {0.5}

    def test_forbidden_neighbours_are_left_out(self):
        problem = HpProblem({"a": ["x", "y", "z"], "k": 1})
        problem.add_forbidden_clause(cs.ForbiddenEqualsClause(problem.space["a"], "y"))
        neighbours = problem.encoding.neighbours([0.0, 0.0], np.random.default_rng(0), 10)
        assert {config["a"] for config in problem.encoding.decode(neighbours)} == {"z"}

    def test_a_space_of_one_configuration_has_none(self):
        encoding = HpProblem({"k": 1, "c": ["only"]}).encoding
        assert encoding.neighbours([0.0, 0.0], np.random.default_rng(0), 5).shape == (0, 2)


class TestFeatures:
    def test_layout(self):
        problem = HpProblem(
            {"x": (0.0, 1.0), "k": 3, "b": [True, False], "c": ["p", "q", "r"], "many": list("abcdefghijk")}
        )
        problem.add_condition(cs.EqualsCondition(problem.space["c"], problem.space["b"], True))
        rows = problem.encoding.snap([[0.25, 0, 0, 2, 5], [1.0, 0, 1, 2, 10]])
        np.testing.assert_array_equal(
            problem.encoding.features(rows), [[0.25, 0, 0, 0, 1, 0.5], [1.0, 1, 0, 0, 0, 1.0]]
        )

    @quick
    @given(conditional_problems(), SEEDS)
    def test_they_are_finite_and_tell_configurations_apart(self, problem, seed):
        rows = problem.encoding.sample(30, np.random.default_rng(seed))
        features = problem.encoding.features(rows)
        assert np.isfinite(features).all()
        assert len(np.unique(features, axis=0)) == len(set(problem.encoding.keys(rows)))


def test_an_encoding_can_be_pickled():
    problem = HpProblem({"a": ["x", "y"], "b": (0.0, 1.0)})
    problem.add_condition(cs.EqualsCondition(problem.space["b"], problem.space["a"], "y"))
    problem.encoding.decode(problem.encoding.encode([{"a": "x"}]))  # so that what is cached is pickled along
    copied: Encoding = pickle.loads(pickle.dumps(problem.encoding))
    rows = problem.encoding.sample(10, np.random.default_rng(0))
    assert copied.decode(rows) == problem.encoding.decode(rows)
    np.testing.assert_array_equal(copied.encode([{"b": 0.5}, {"a": "y", "b": 0.5}]), [[np.nan, np.nan], [1.0, 0.5]])
