"""What docs/plots.md starts from: three searches that have run."""

import dhpo


def train(config, report):
    for epoch in (1, 2, 3):
        report(epoch=epoch, accuracy=1 - 0.1 * abs(config.layers - 3) - config.learning_rate, seconds=config.layers)


def run(seed):
    search = dhpo.Search(
        {"learning_rate": (1e-4, 1e-1, "log-uniform"), "layers": (1, 5)},
        train,
        objectives={"accuracy": "MAX", "seconds": "MIN"},
        stopper=dhpo.Hyperband(time_attr="epoch", max_t=3),
        searcher="random",
        cluster="serial",
        log_dir=f"runs/{seed}",
        random_state=seed,
    )
    return search.run(num_trials=12, progress=False)


results, repeated, other = run(1), run(2), run(3)
