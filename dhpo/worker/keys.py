"""The names of a search's tasks at the scheduler, and of the trials in them.

A task is one attempt of a trial, ``trial-<token>-<number>-<attempt>``, or a *pack*: the first attempts of trials with
consecutive numbers, one after the other. A pack is named after its first trial, with their count: the task
``trial-1f-40-1+3`` runs what would be ``trial-1f-40-1``, ``trial-1f-41-1`` and ``trial-1f-42-1``. So whoever sees a
task knows its trials.
"""

from __future__ import annotations

#: Where the metadata of a task, as Dask has them, hold the records with which its last trial ends.
ENDING = "dhpo-ending"


def prefix_of(token: str) -> str:
    """How the keys of a session's tasks begin."""
    return f"trial-{token}-"


def trial_key(token: str, trial: int, attempt: int, again: int = 0) -> str:
    """The key of a trial's attempt. ``again`` tells those apart that are given out another time, unbegun."""
    return f"{prefix_of(token)}{trial}-{attempt}{f'.{again}' if again else ''}"


def pack_key(first: str, n: int) -> str:
    """The key of the task that runs ``n`` trials from that with the key ``first`` on."""
    return f"{first}+{n}" if n > 1 else first


def trial_keys(task: str) -> list[str]:
    """The keys of a task's trials, in the order in which it runs them."""
    first, _, n = task.partition("+")
    if not n:
        return [task]
    head, number, tail = first.rsplit("-", 2)
    return [f"{head}-{int(number) + i}-{tail}" for i in range(int(n))]


def trial_of(key: str) -> int:
    """The number of the trial with this key."""
    return int(key.rsplit("-", 2)[1])
