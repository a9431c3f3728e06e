"""The recordings of a cache that a dataset chose, by id: decoded and hashed when they are first asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.splits import split_digest
from tmkt_data.pairs.cache_facts import CacheFacts
from tmkt_data.random_keys import uids_of
from tmkt_data.sample_ids import texts_of
from tmkt_data.spec import Protocol


class ChosenRecordings(CacheFacts):
    """Base of datasets of some recordings of a cache: a million ids take longer to decode than to open.

    Attributes:
        rows: Their rows of the event side, ascending, shape (N,), int64.
        protocol: The split rule.
    """

    rows: NDArray[np.int64]
    protocol: Protocol

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Id of each recording."""
        return tuple(texts_of(self.cache.id_table("events")[self.rows]))

    @cached_property
    def uids(self) -> NDArray[np.uint64]:
        """Hash of the id of each recording, shape (N,), see `sample_uid`."""
        self.uids_at(np.arange(len(self.rows)))
        return self._hashed[0]

    @cached_property
    def split_digest(self) -> str:
        """Digest of the split of every recording of the cache."""
        return split_digest(self.cache.id_table("events"), self.cache.splits("events", self.protocol))

    def uids_at(self, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return some of `uids`; each id is hashed when it is first asked for, and not again."""
        uids, are_known = self._hashed
        missing = positions[~are_known[positions]]
        if len(missing):
            uids[missing] = uids_of(self.cache.id_table("events")[self.rows[missing]])
            are_known[missing] = True
        return uids[positions]

    @cached_property
    def _hashed(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        return np.zeros(len(self.rows), np.uint64), np.zeros(len(self.rows), bool)
