"""How the tries of a campaign ended: verdicts by name, and the failures among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any


class Tally:
    """Counts tries.

    Args:
        good: Verdicts of tries that are no failures.
    """

    def __init__(self, good: Collection[str]) -> None:
        self._good = frozenset(good)
        self._verdicts: Counter[str] = Counter()
        self._failures: list[dict[str, Any]] = []

    def add(self, verdict: str, said: str, **where: object) -> bool:
        """Count a try; return whether it is a failure, which is kept with what was said and where it was."""
        self._verdicts[verdict] += 1
        if verdict in self._good:
            return False
        self._failures.append(where | {"verdict": verdict, "said": said})
        return True

    def summary(self) -> dict[str, Any]:
        """Return the number of tries, the verdicts by name, and the failures, for a row of a summary."""
        return {"tries": self._verdicts.total(), "verdicts": dict(self._verdicts), "failures": self._failures}
