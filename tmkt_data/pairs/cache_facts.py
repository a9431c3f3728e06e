"""What a dataset tells of the cache that it reads, under the names of this project and those of others."""

from __future__ import annotations

from tmkt_data.cache.reader import Cache
from tmkt_data.spec import PrepareSpec


class CacheFacts:
    """Base of datasets that read a cache.

    Attributes:
        cache: The open cache.
    """

    cache: Cache

    @property
    def spec(self) -> PrepareSpec:
        """Options that the cache was prepared with."""
        return self.cache.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, indexed by label."""
        return self.cache.class_names

    @property
    def classes(self) -> list[str]:
        """Names of the classes, as datasets of torchvision and tonic name them."""
        return list(self.class_names)

    @property
    def sensor_size(self) -> tuple[int, int, int]:
        """Width, height and channels of a frame, as datasets of tonic name them."""
        return self.spec.size, self.spec.size, self.num_channels

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return len(self.cache.class_names)

    @property
    def num_time_bins(self) -> int:
        """Number of time bins, T."""
        return self.spec.time_bins

    @property
    def num_steps(self) -> int:
        """The earlier name of `num_time_bins`."""
        return self.num_time_bins

    @property
    def num_channels(self) -> int:
        """Number of channels, C."""
        return self.spec.num_channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.spec.size, self.spec.size

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.cache.info.dataset

    @property
    def cache_digest(self) -> str:
        """SHA-256 of the content of the cache, 64 hexadecimal digits."""
        return self.cache.info.digest
