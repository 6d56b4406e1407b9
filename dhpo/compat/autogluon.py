"""AutoGluon's vocabulary, for programs that were written for its multi-objective Hyperband (0.1 to 0.3).

    from dhpo.compat import autogluon as ag
    from dhpo.compat.autogluon import retrieve_pareto_front

take the place of ``import autogluon.core as ag`` and of the import from ``autogluon.core.utils.mo_hbo_utils``; the rest
of the program stays as it is: ``@ag.args``, ``ag.space.Int``, ``ag.scheduler.MOHyperbandScheduler``,
``ag.scheduler.MOASHAScheduler``. Behind the names stands :class:`dhpo.Search`.

What is different:

* What the training function uses of its surroundings (``X_train``, …) goes to each node once, and is read-only there.
* A training function that fails is a failed trial, and the others go on.
* The scalarisations of ``scalarization_options`` are the textbook's; ``"legacy": True`` takes AutoGluon's formulas.
* A ``checkpoint`` is a directory.
"""

from __future__ import annotations

from dhpo.compat import _autogluon_scheduler as scheduler
from dhpo.compat import _autogluon_space as space
from dhpo.compat._autogluon_space import args
from dhpo.results import retrieve_pareto_front

__all__ = ["args", "retrieve_pareto_front", "scheduler", "space"]
