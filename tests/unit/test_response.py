"""The response surface predicts what the objective is, in its own values."""

from __future__ import annotations

import numpy as np
import pytest

from dhpo import HpProblem
from dhpo.errors import SettingError
from dhpo.response import Response, places_of
from dhpo.trial import Configuration, Observation, Phase

PROBLEM = HpProblem({"x": (0.0, 1.0), "kind": ["a", "b", "c"], "n": (1, 4)})


def score(config: Configuration, epoch: float) -> float:
    """To be maximised: 100 times a parabola around 0.3, less what is missing at early epochs."""
    return 100.0 * (1.0 - (config.x - 0.3) ** 2 + (0.1 if config.kind == "c" else 0.0)) - 30.0 / epoch


def observations(n: int = 30) -> list[Observation]:
    return [
        Observation(trial, config, Phase.ENDED, epoch, (-score(config, epoch), 1.0))
        for trial, config in enumerate(PROBLEM.sample(n, 5))
        for epoch in (1.0, 3.0, 9.0)
    ]


@pytest.mark.parametrize(("model", "tolerance"), [("auto", 3.0), ("ET", 12.0), ("unknown", 3.0)])
def test_a_slice_is_the_objective_of_complete_trials(model: str, tolerance: float) -> None:
    response = Response(PROBLEM, observations(), sign=-1.0, model=model, max_t=9.0)
    around = Configuration(x=0.5, kind="c", n=2)
    found = response.slice("x", around, n=21)
    wanted = [score(Configuration(x=x, kind="c", n=2), 9.0) for x in found.values]
    np.testing.assert_allclose(found.predicted.mean, wanted, atol=tolerance)
    assert (found.predicted.std >= 0).all()
    assert response.slice("kind", around).values == ["a", "b", "c"]


def test_a_contour_agrees_with_slices() -> None:
    response = Response(PROBLEM, observations(), sign=-1.0, max_t=9.0)
    around = Configuration(x=0.5, kind="a", n=2)
    x, y, predicted = response.contour(("x", "n"), around, n=11)
    assert predicted.mean.shape == (len(y), len(x)) == (4, 11)
    np.testing.assert_allclose(predicted.mean[1], response.slice("x", around, n=11).predicted.mean)


def test_the_check_leaves_whole_configurations_out() -> None:
    found = Response(PROBLEM, observations(), sign=-1.0, max_t=9.0).check()
    assert len(found.observed) == 90
    assert found.correlation > 0.8
    rng = np.random.default_rng(1)
    noise = [o._replace(costs=(float(rng.normal()), 1.0)) for o in observations() if o.resource == 9.0]
    assert abs(Response(PROBLEM, noise, max_t=9.0).check().correlation) < 0.6


def test_what_cannot_be_modelled() -> None:
    with pytest.raises(SettingError, match="at least 5"):
        Response(PROBLEM, observations(1))
    one = [o._replace(config=observations(1)[0].config) for o in observations(4)]
    with pytest.raises(SettingError, match="one configuration"):
        Response(PROBLEM, one).check()
    with pytest.raises(SettingError, match="'speed'"):
        Response(PROBLEM, observations()).column_of("speed")


def test_places_show_all_values_of_a_hyperparameter() -> None:
    columns = {column.name: column for column in PROBLEM.encoding.columns}
    assert columns["n"].decode(places_of(columns["n"], 100)) == [1, 2, 3, 4]
    assert columns["x"].decode(places_of(columns["x"], 3)) == [0.0, 0.5, 1.0]
