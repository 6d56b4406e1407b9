"""What the README's "Starting ahead" starts from: an earlier search in ``runs/earlier``, and a new one to be run."""

import functools

import dhpo


def train(config):
    return -((config.x - 2) ** 2)


problem = dhpo.HpProblem({"x": (-10.0, 10.0)})
earlier = dhpo.Search(problem, train, searcher="random", cluster="serial", log_dir="runs/earlier")
earlier.run(num_trials=20, progress=False)
Search = functools.partial(dhpo.Search, cluster="serial")
