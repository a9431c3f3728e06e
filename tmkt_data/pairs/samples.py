"""One pair, and a batch of pairs: the same fields, the second with a first axis more."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tmkt_data.errors import SpecError


class PairedSample(NamedTuple):
    """One recording and its paired image.

    Attributes:
        image: Frames of the image, shape (T, C, H, W), float32; 0 to 1, or in the units of the event frames where the
            encoder imitates events; zeros with pairing `none`.
        events: Frames of the recording, shape (T, C, H, W), float32.
        label: Class of both.
        position: Index of the recording in the split.
        image_index: Row of the image in the cache; -1 with pairing `none`.
        epoch: Epoch that image and spikes were drawn for.
    """

    image: NDArray[np.float32]
    events: NDArray[np.float32]
    label: int
    position: int
    image_index: int
    epoch: int


class PairedBatch(NamedTuple):
    """A batch of samples.

    Attributes:
        image: Shape (B, T, C, H, W), float32; with `repeat` and `gradient` a read-only view over T and C.
        events: Shape (B, T, C, H, W), float32, owned by the caller.
        label: Shape (B,), int64.
        position: Indices of the recordings in the split, shape (B,), int64.
        image_index: Rows of the images in the cache, shape (B,), int64; -1 with pairing `none`.
        epoch: Epoch that images and spikes were drawn for.
    """

    image: NDArray[np.float32]
    events: NDArray[np.float32]
    label: NDArray[np.int64]
    position: NDArray[np.int64]
    image_index: NDArray[np.int64]
    epoch: int

    @property
    def labels(self) -> NDArray[np.int64]:
        """The earlier name of `label`."""
        return self.label

    @property
    def indices(self) -> NDArray[np.int64]:
        """The earlier name of `position`."""
        return self.position

    @property
    def image_indices(self) -> NDArray[np.int64]:
        """The earlier name of `image_index`."""
        return self.image_index

    def samples(self) -> list[PairedSample]:
        """Return the samples; their frames are writable, and share memory with this batch where it is writable."""
        image = self.image if self.image.flags.writeable else np.array(self.image, order="C")
        columns = (image, self.events, self.label.tolist(), self.position.tolist(), self.image_index.tolist())
        return [PairedSample(*row, self.epoch) for row in zip(*columns, strict=True)]

    def as_arrays(self, *, time_first: bool, dtype: DTypeLike, writable: bool) -> PairedBatch:
        """Return the batch in another layout; see `PairedFrames.read`.

        Raises:
            SpecError: The type is not one of floating point.
        """
        try:
            kind = np.dtype(dtype)
        except TypeError:
            raise SpecError(f"dtype: found {dtype!r}, expected float16, float32 or float64 of NumPy") from None
        if kind.kind != "f":
            raise SpecError(f"dtype: found {kind}, expected float16, float32 or float64; counts do not fit all others")

        def changed(frames: NDArray[Any]) -> NDArray[Any]:
            frames = frames.swapaxes(0, 1) if time_first else frames
            if writable and not (frames.flags.writeable and frames.flags.c_contiguous and frames.dtype == kind):
                return np.array(frames, kind, order="C")
            return frames.astype(kind, copy=False)

        return self._replace(image=changed(self.image), events=changed(self.events))
