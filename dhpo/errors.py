"""Every exception that dhpo raises on purpose."""

from __future__ import annotations


class DhpoError(Exception):
    """The base of all of dhpo's own exceptions."""


class SpaceError(DhpoError, ValueError):
    """A search space, or a configuration of it, is not usable."""


class ObjectiveError(DhpoError, ValueError):
    """An objective's name or direction is not usable."""


class SettingError(DhpoError, ValueError):
    """An argument of a search, a searcher, a stopper or a budget is not usable."""


class RunFunctionError(DhpoError):
    """The run function cannot be called, shipped to the workers or loaded there."""


class DataError(DhpoError):
    """The data of a search cannot be packed, shipped or mapped."""


class ClusterError(DhpoError):
    """The cluster cannot be reached, or cannot run dhpo's trials."""


class JournalError(DhpoError):
    """A journal cannot be read or written."""


class JournalLockedError(JournalError):
    """Another driver is writing to this journal."""


class ResumeError(JournalError):
    """A journal belongs to a search with other settings than the one that wants to go on with it."""


class TransferError(DhpoError, ValueError):
    """Results of an earlier search cannot be used to start this one ahead."""


class ReportError(DhpoError, ValueError):
    """A report or a return value of the run function is not usable: the trial fails."""


class ExhaustedFailuresError(DhpoError):
    """More trials failed than the search tolerates."""


class StopSearch(DhpoError):
    """Raised by a callback (:mod:`dhpo.callbacks`) to end the search; its text is the reason, which is journalled."""


class StopTrial(BaseException):
    """Raised by ``report`` inside the run function when its trial is to end now.

    It is no ``Exception``, so that a training function's ``except Exception`` does not swallow it.
    """


class AbandonedTrial(StopTrial):
    """This run of the trial no longer counts: it was cancelled, or its worker was given up."""
