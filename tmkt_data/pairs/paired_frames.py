"""`PairedFrames`: a map-style dataset of recordings paired with images, as NumPy arrays without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from pathlib import Path
from typing import Any, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tmkt_data.cache.fetched import local_path
from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.cameras import Camera
from tmkt_data.datasets.splits import SPLIT_CODES
from tmkt_data.errors import PairingError, SpecError
from tmkt_data.pairs.arguments import require_count, require_counter, require_labels, sample_at, samples_at
from tmkt_data.pairs.chosen_recordings import ChosenRecordings
from tmkt_data.pairs.epoch import SharedEpoch
from tmkt_data.pairs.event_scale import EVENT_SCALES, scale_events
from tmkt_data.pairs.image_side import GainRows, ImageSide
from tmkt_data.pairs.pools import (
    IMAGE_POOLS,
    PAIRINGS,
    ImagePools,
    choose_images,
    draw_same_class,
    require_images,
    require_twins,
)
from tmkt_data.pairs.samples import PairedBatch, PairedSample
from tmkt_data.pairs.subsets import keep_images, keep_recordings
from tmkt_data.simulate.saccade import DrawnKeys
from tmkt_data.spec import Encoder, EventScale, ImagePool, Pairing, Protocol, Split

ENCODERS: tuple[Encoder, ...] = get_args(Encoder)
_SHOWN = 3


@dataclass(eq=False, repr=False)
class PairedFrames(ChosenRecordings):
    """Recordings of one split, each paired with an image of its class: a map-style dataset of NumPy arrays.

    `frames[i]` depends only on the cache, the arguments, the epoch and i: not on workers, batch size or order. It can
    be used directly in a torch `DataLoader`, with forked or spawned workers, which see every `set_epoch`.

    Args:
        path: A cache made by `tmkt-data prepare`, or an open one; a URL as text is copied once, see `local_copy`.
        split: `train`, `val` or `test`.
        pairing: `same-class`: an image of the same class, drawn each epoch from the images that the split may
            use; `twin`: the image that the recording was made from; `none`: no image.
        seed: Seed of all draws, 0 or more.
        encoder: `repeat`: intensity at every step; `poisson`: spikes drawn on reading; `baked`: stored spikes.
            A choice of this project (inferred), in units and scale of the event frames of the training split:
            `gradient`: edges of log intensity at every step; `gradient-poisson`: counts drawn with that mean;
            `saccade`: changes along the camera's path; `microsaccade`: a path drawn anew.
        protocol: `twin-disjoint` or `kt-paper`.
        scale: Scale of event counts, see `scale_events`.
        per_class: Keep this many recordings of each class, drawn by `seed`; None keeps all. Images are kept.
        event_share: Keep only this share of the recordings of each class, drawn by `seed`, at least one.
        image_share: Keep only this share of the images of each class, drawn by `seed`, at least one.
        image_pool: Images that may be drawn for the train split: `split`, its own images; `all` and `shuffled-prefix`
            include images of held-out recordings, to measure the effect of a leak, see `choose_images`.
        keep_classes: Keep only recordings and images of these labels; None keeps all. Labels do not change.
        camera: Camera of `saccade` and `microsaccade`, see `pairs.motion.fit_motion`; None: that of the dataset.
        transform: Applied to the frames of each side of a sample, [T, C, H, W].
        target_transform: Applied to the label of a sample.
        transforms: Applied to the frames of both sides together after that, `transforms(image, events)`, and returns
            both: a random crop that must be the same. Samples are transformed, batches of `read` are not.

    Raises:
        CacheError: The cache cannot be opened, or lacks the protocol or the baked frames.
        PairingError: The split is empty, or a recording has no image to pair with.
        SpecError: An unknown choice, a number out of range, incompatible arguments, or an unknown camera path.

    Example:
        >>> frames = PairedFrames("digits.h5", split="train", seed=1)  # doctest: +SKIP
        >>> frames.set_epoch(3)  # doctest: +SKIP
        >>> frames[0].image.shape  # doctest: +SKIP
        (10, 2, 34, 34)
    """

    path: InitVar[str | Path | Cache]
    split: Split = "train"
    _: KW_ONLY
    pairing: Pairing = "same-class"
    seed: int = 0
    encoder: Encoder = "repeat"
    protocol: Protocol = "twin-disjoint"
    scale: EventScale = "raw"
    per_class: int | None = None
    event_share: float = 1.0
    image_share: float = 1.0
    image_pool: ImagePool = "split"
    keep_classes: ArrayLike | None = None
    camera: Camera | None = None
    transform: Callable[[Any], Any] | None = None
    target_transform: Callable[[Any], Any] | None = None
    transforms: Callable[[Any, Any], tuple[Any, Any]] | None = None

    def __post_init__(self, path: str | Path | Cache) -> None:
        self._check_choices()
        self.cache = path if isinstance(path, Cache) else Cache(local_path(path))
        self._epoch = SharedEpoch()
        self._choose_recordings()
        self._choose_images()
        self._check()
        self.image_side = None if self.pairing == "none" else self._open_image_side()

    def _check_choices(self) -> None:
        _require_choice("split", self.split, tuple(SPLIT_CODES))
        _require_choice("pairing", self.pairing, PAIRINGS)
        _require_choice("encoder", self.encoder, ENCODERS)
        _require_choice("event scale", self.scale, EVENT_SCALES)
        _require_choice("image pool", self.image_pool, IMAGE_POOLS)
        if self.image_pool != "split" and (self.split != "train" or self.pairing == "twin"):
            raise SpecError(
                f"image pool: found {self.image_pool!r} with split {self.split!r} and pairing {self.pairing!r}, "
                "expected 'split'; other pools need the train split and pairing 'same-class'"
            )
        self.seed = require_counter("seed", self.seed)
        if self.per_class is not None:
            self.per_class = require_count("recordings per class", self.per_class)
        if not isinstance(self.camera, Camera | None):
            raise SpecError(f"camera: found {self.camera!r}, expected a Camera, or None for that of the dataset")
        if self.pairing == "twin" and self.image_share != 1:
            raise SpecError(
                f"image share: found {self.image_share} with pairing 'twin', which needs the image of each recording"
            )

    def _choose_recordings(self) -> None:
        self.rows = self._recordings_of(self.split)
        self.labels: NDArray[np.int64] = self.cache.tables["events/label"].astype(np.int64)[self.rows]
        self.twins: NDArray[np.int64] = self.cache.tables["events/twin"][self.rows]

    def _recordings_of(self, split: Split) -> NDArray[np.int64]:
        cache = self.cache
        codes, labels = cache.splits("events", self.protocol), cache.tables["events/label"].astype(np.int64)
        candidates = np.flatnonzero((codes == SPLIT_CODES[split]) & np.isin(labels, self._kept_labels()))
        return keep_recordings(
            candidates,
            labels,
            cache.id_table("events"),
            seed=self.seed,
            per_class=self.per_class,
            share=self.event_share,
        )

    def _choose_images(self) -> None:
        labels = self.cache.tables["images/label"].astype(np.int64)
        self.pools = ImagePools.of(labels, self._images_of(self.split), len(self.cache.class_names))

    def _images_of(self, split: Split) -> NDArray[np.int64]:
        ids, labels = self.cache.id_table("images"), self.cache.tables["images/label"].astype(np.int64)
        kept = self._kept_labels()
        in_split = (self.cache.splits("images", self.protocol) == SPLIT_CODES[split]) & np.isin(labels, kept)
        allowed = choose_images(self.image_pool, in_split, labels, ids, seed=self.seed, classes=kept)
        return keep_images(allowed, labels, ids, seed=self.seed, share=self.image_share)

    def _kept_labels(self) -> NDArray[np.int64]:
        return (
            np.arange(len(self.cache.class_names))
            if self.keep_classes is None
            else require_labels(self.keep_classes, len(self.cache.class_names))
        )

    def _check(self) -> None:
        place = self.cache.info.path.name
        if not len(self.rows):
            raise PairingError(
                f"{place}: no recording in split {self.split!r} of {self.protocol}; "
                "prepare more recordings, or use another split or protocol"
            )
        if self.pairing == "same-class":
            require_images(self.pools, self.labels, self.class_names, place=place, split=self.split)
        elif self.pairing == "twin" and (self.twins < 0).any():
            require_twins(self.twins, self.ids, place=place, split=self.split)

    def _open_image_side(self) -> ImageSide:
        # The gain of an encoder must not depend on what is held out, and is the same for training and evaluation.
        is_training = self.split == "train"
        events = self.rows if is_training else self._recordings_of("train")
        if self.pairing == "twin":
            twins = self.cache.tables["events/twin"][events]
            images = np.unique(twins[twins >= 0])
        else:
            images = np.sort(self.pools.rows) if is_training else self._images_of("train")
        return ImageSide(self.cache, self.encoder, self.scale, GainRows(events, images), self.camera)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int | tuple[int, int]) -> PairedSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[PairedSample]: ...
    def __getitem__(self, index: int | tuple[int, int] | slice) -> PairedSample | list[PairedSample]:
        """Return one sample, or those of a slice; `(index, occurrence)` draws again for one repeated in an epoch.

        Raises:
            IndexError: The index is out of range, or not a whole number.
        """
        if isinstance(index, slice):
            return self.__getitems__(range(len(self))[index])
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | tuple[int, int]]) -> list[PairedSample]:
        """Return samples, read together; a torch `DataLoader` calls this for a batch."""
        pairs = np.array([sample_at(index, len(self)) for index in indices], np.int64).reshape(-1, 2)
        batch = self._read(pairs[:, 0], pairs[:, 1], self.epoch)
        return [self._transformed(sample) for sample in batch.samples()]

    def _transformed(self, sample: PairedSample) -> PairedSample:
        image, events, label = sample.image, sample.events, sample.label
        if self.transform is not None:
            image, events = self.transform(image), self.transform(events)
        if self.transforms is not None:
            image, events = self.transforms(image, events)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return sample._replace(image=image, events=events, label=label)

    @property
    def epoch(self) -> int:
        """Epoch that images and spikes are drawn for."""
        return self._epoch.get()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that images and spikes are drawn for; 0 or more.

        Worker processes see it at once, persistent ones too. Set it before a pass begins: a DataLoader reads ahead, so
        samples of a pass that has begun may be of either epoch; `PairedSample.epoch` says of which.

        Raises:
            SpecError: The epoch is not a whole number, or out of range.
        """
        self._epoch.set(require_counter("epoch", epoch))

    def __copy__(self) -> PairedFrames:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__, _epoch=SharedEpoch(self.epoch))
        return copied

    def read(
        self,
        indices: ArrayLike,
        occurrences: ArrayLike | None = None,
        *,
        time_first: bool = False,
        dtype: DTypeLike = np.float32,
        writable: bool = False,
    ) -> PairedBatch:
        """Read a batch of samples, each equal to `frames[i]` without transforms.

        Args:
            indices: Indices in the split, shape (B,).
            occurrences: Number of earlier draws of each in this epoch, shape (B,); zeros by default.
            time_first: Return frames as [T, B, C, H, W], as most spiking networks take them.
            dtype: Type of the frames: float16, float32 or float64.
            writable: Return contiguous arrays that the caller owns, as `torch.from_numpy` wants them, also where the
                image repeats over steps and channels; otherwise those are read-only views, which cost nothing.

        Raises:
            IndexError: An index or occurrence is out of range or not a whole number, or their shapes do not fit.
            CacheError: A frame was modified after it was written.
            SpecError: The type is not one of floating point.
        """
        positions, repeats = samples_at(indices, occurrences, len(self))
        batch = self._read(positions, repeats, self.epoch)
        return batch.as_arrays(time_first=time_first, dtype=dtype, writable=writable)

    def _read(self, positions: NDArray[np.int64], repeats: NDArray[np.int64], epoch: int) -> PairedBatch:
        # One epoch for the whole batch: another process or thread may set the next one meanwhile.
        image_rows = self._image_rows(positions, repeats, epoch)
        # Looking at the file takes longer than reading a small row of it.
        with self.cache.checked_once():
            events = self.cache.event_frames(self.rows[positions])
            image = self._images(positions, repeats, image_rows, epoch)
        events = scale_events(events, self.scale)
        return PairedBatch(image, events, self.labels[positions], positions, image_rows, epoch)

    def image_rows(self, positions: NDArray[np.int64], occurrences: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the image paired with each sample in this epoch: rows of the image side, shape (B,), int64."""
        return self._image_rows(positions, occurrences, self.epoch)

    def _image_rows(
        self, positions: NDArray[np.int64], occurrences: NDArray[np.int64], epoch: int
    ) -> NDArray[np.int64]:
        match self.pairing:
            case "none":
                return np.full(len(positions), -1, np.int64)
            case "twin":
                return self.twins[positions]
            case "same-class":
                return draw_same_class(
                    self.pools,
                    self.labels[positions],
                    self.uids_at(positions),
                    occurrences,
                    seed=self.seed,
                    epoch=epoch,
                )

    def _images(
        self, positions: NDArray[np.int64], occurrences: NDArray[np.int64], image_rows: NDArray[np.int64], epoch: int
    ) -> NDArray[np.float32]:
        if self.image_side is None:
            shape = (len(positions), self.num_time_bins, self.num_channels, *self.size)
            return np.broadcast_to(np.zeros((), np.float32), shape)
        return self.image_side.frames(image_rows, DrawnKeys(self.seed, epoch, self.uids_at(positions), occurrences))

    @property
    def targets(self) -> NDArray[np.int64]:
        """Label of each recording, as datasets of torchvision and tonic name them; shape (N,), int64."""
        return self.labels

    def __repr__(self) -> str:
        drawn = "" if self.pairing == "none" else f", encoder={self.encoder!r}, {len(self.pools.rows)} images"
        axes = ", ".join(map(str, (self.num_time_bins, self.num_channels, *self.size)))
        return (
            f"PairedFrames({self.cache.info.path.name!r}, {self.split!r}, pairing={self.pairing!r}{drawn}: "
            f"{len(self)} recordings, {self.num_classes} classes, frames [{axes}], epoch {self.epoch})"
        )

    def _repr_html_(self) -> str:
        from tmkt_data.pairs.notebook import describe

        shown = np.unique(self.labels, return_index=True)[1][:_SHOWN]
        return describe(repr(self), self.read(shown).samples(), self.class_names)


def _require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SpecError(f"{name}: found {value!r}, expected one of {', '.join(choices)}")
