"""A journal file read as it grows: each call gives what has come since the last one, and nothing is read twice."""

from __future__ import annotations

from pathlib import Path

from dhpo import journal
from dhpo._scan import after_header, scan
from dhpo.errors import JournalError


class Tail:
    """Reads a journal that another process may be writing to.

    Args:
        source: the directory of a search, or its journal file.

    Raises:
        JournalError: there is no journal, or it is of a newer version.
    """

    def __init__(self, source: Path | str) -> None:
        self.path = Path(source) / journal.FILE_NAME if Path(source).is_dir() else Path(source)
        self.header, _ = journal.read(self.path)
        with open(self.path, "rb") as file:
            size = len(file.readline())
        self._place = after_header(self.path, size, chained=self.header.chained)  # all before it has been handed out

    def read(self, limit: int = 1 << 20) -> list[bytes]:
        """The batches that have come since the last call, as JSON (see ``dhpo/_codec.py``); [] where there are none.

        Args:
            limit: about how many bytes to read at most; a longer batch is read as a whole.

        Raises:
            JournalError: the file is gone, or a line is damaged that is not the last one.
        """
        bodies: list[bytes] = []
        size = 0
        try:
            for body, place in scan(self.path, self._place, None, _whole, chained=self.header.chained):
                self._place = place
                bodies.append(body)
                size += len(body)
                if size >= limit:
                    break
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be read: {error.strerror}") from error
        return bodies


def _whole(body: bytes) -> bytes:
    if not body:
        raise ValueError("a damaged line")
    return body
