"""A network for scikit-learn's digits, tuned for accuracy and for speed: a first search, of half a minute.

    dhpo run examples/digits.py --num-trials 20

runs it and prints the front; ``dhpo watch runs/digits`` in another terminal shows it meanwhile.
"""

from __future__ import annotations

import time

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import dhpo


def train(config, report, data):
    """Train a network epoch by epoch; weak ones end at a rung."""
    model = MLPClassifier([config.width] * config.depth, alpha=config.alpha, learning_rate_init=config.lr)
    for epoch in range(1, 28):
        model.partial_fit(data["X"], data["y"], classes=range(10))
        start = time.perf_counter()
        score = model.score(data["X_test"], data["y_test"])
        report(epoch=epoch, test_score=score, prediction_time=time.perf_counter() - start)


problem = dhpo.HpProblem()
problem.add_hyperparameter((1, 4), "depth")
problem.add_hyperparameter((4, 64, "log-uniform"), "width")
problem.add_hyperparameter((1e-6, 1e-1, "log-uniform"), "alpha")
problem.add_hyperparameter((1e-5, 1e-1, "log-uniform"), "lr")

X, X_test, y, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
search = dhpo.Search(
    problem,
    train,
    objectives={"test_score": "MAX", "prediction_time": "MIN"},
    stopper=dhpo.Hyperband(time_attr="epoch", max_t=27, adaptive=True),
    data={"X": X, "y": y, "X_test": X_test, "y_test": y_test},
    random_state=42,
)
