"""The chunks of a training store that are held in memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np

from halocline.io.training_store import TrainingStore

__all__ = ["ChunkCache"]


class ChunkCache:
    """Keeps the decoded chunks that were used last, up to a number of bytes. Threads may share it.

    Arguments:
        store: Where chunks are read.
        limit: Bytes to hold; 0 keeps nothing.

    Attributes:
        held: Bytes held.
        read_bytes: Decoded bytes read so far.
    """

    def __init__(self, store: TrainingStore, limit: int) -> None:
        self.held = self.read_bytes = 0
        self._store, self._limit = store, limit
        self._chunks: OrderedDict[tuple[int, int, int, int], np.ndarray] = OrderedDict()
        self._lock = Lock()

    def chunk(self, scale: int, record: int, J: int, I: int) -> np.ndarray:
        """Returns a chunk, shape (channel, rows, columns); not to be written to.

        Raises:
            ValueError, OSError: The store cannot read it.
        """
        key = scale, record, J, I
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
        chunk = self._store.block(scale, record, J, I)
        with self._lock:
            self.read_bytes += chunk.nbytes
            if key not in self._chunks and chunk.nbytes <= self._limit:
                while self.held + chunk.nbytes > self._limit:
                    self.held -= self._chunks.popitem(last=False)[1].nbytes
                self._chunks[key] = chunk
                self.held += chunk.nbytes
        return chunk
