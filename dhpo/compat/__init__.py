"""The vocabularies of two other libraries, for programs that were written for them.

* :mod:`dhpo.compat.deephyper`: ``HpProblem``, ``CBO``, ``Evaluator``, … of DeepHyper;
* :mod:`dhpo.compat.autogluon`: ``args``, ``space`` and ``scheduler`` of AutoGluon's multi-objective Hyperband.

Such a program runs with only its imports changed. These modules translate to :class:`dhpo.Search` and decide nothing
themselves.
"""
