"""The live dashboard of a search: on the Dask scheduler's own dashboard at ``/dhpo``, or served alone over a journal.

The pure part folds events into a :class:`~dhpo.dashboard.view.View` and draws up what is shown of it
(:mod:`~dhpo.dashboard.frame`). Around it are the page, the routes, and the two places that they are served from.
"""
