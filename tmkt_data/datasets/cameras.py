"""How the camera of a dataset saw the images: the path it moved on, its polarity, and its scale on a frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tmkt_data.datasets.shown import NCALTECH101_CAMERA, NMNIST_CAMERA
from tmkt_data.errors import SpecError
from tmkt_data.images.frames import Placement
from tmkt_data.images.log_intensity import Motion, Scene, gradient_frames, motion_of, saccade_frames
from tmkt_data.simulate.camera import CameraSettings
from tmkt_data.simulate.saccade import (
    NO_KEYS,
    DrawnKeys,
    SaccadePath,
    paths_in_cells,
    published_path,
    random_paths,
)
from tmkt_data.spec import Bake, Encoder, PrepareSpec

Value = TypeVar("Value", np.float32, np.int16, np.uint8)


class Camera(NamedTuple):
    """What encoder `saccade` needs to know of a camera.

    Attributes:
        path: Motion of the image on the sensor.
        is_negative: Whether ON and OFF events are those of the negative of the images, as in N-MNIST.
        threshold: Change of log intensity that makes one event; None for graded changes.
        background_rate: Background activity: mean noise events of a cell and channel in one time bin, 0 for none.
    """

    path: SaccadePath
    is_negative: bool = False
    threshold: float | None = None
    background_rate: float = 0.0


THRESHOLDS = 1e-3, 8.0
"""Smallest and largest threshold: gray values are farther apart, and larger changes of log intensity are cut off."""
BACKGROUND_RATES = 1e-4, 10.0
"""Smallest and largest rate of background activity: a draw has 16 bits."""
_KEYS = "negative", "corners", "saccade_us", "rest_us", "threshold", "background_rate"
_FARTHEST = 10_000
"""Largest displacement in a table, sensor pixels; what leaves the frame shows the edge of the image."""
UNKNOWN = Camera(SaccadePath())
"""Stands for a camera that nothing is known of: the published path is varied."""


def camera_of(dataset: str) -> Camera | None:
    """Return the camera of a dataset by its name; None where its motion is unknown or is none.

    N-MNIST: negative, 0.8 of the published path; N-Caltech101: as published (both inferred, see docs/method.md). The
    simulated datasets have the path of their simulated camera.
    """
    match dataset:
        case "nmnist" | "digits" | "fashion":
            return _of_simulated(NMNIST_CAMERA)
        case "ncaltech101":
            return Camera(SaccadePath())
        case "caltech101-twins":
            return _of_simulated(NCALTECH101_CAMERA)
        case _:
            return None


def _of_simulated(camera: CameraSettings) -> Camera:
    return Camera(published_path(camera.path.scale), camera.pixels.negative)


def camera_from(values: Mapping[str, Any]) -> Camera:
    """Return the camera that a TOML table describes, as `tmkt-data pairs --fit-motion` prints it.

    Args:
        values: `corners`, rows of dx and dy in sensor pixels, positive to the right and down, one saccade between
            neighbors; and where they are not the published ones `negative`, whether ON and OFF events are those of
            the negative of the images, `saccade_us`, `rest_us`, `threshold` and `background_rate`, see `Camera`.

    Raises:
        SpecError: Unknown keys, or values of another kind or out of range.

    Example:
        >>> camera_from({"corners": [[0, 0], [2.5, 0]], "negative": True}).is_negative
        True
    """
    unknown = sorted(set(values) - set(_KEYS))
    if unknown:
        raise SpecError(f"camera: unknown {unknown[0]!r}, expected {', '.join(_KEYS)}")
    known = SaccadePath()
    negative = values.get("negative", False)
    durations = [values.get(name, getattr(known, name)) for name in ("saccade_us", "rest_us")]
    if not isinstance(negative, bool):
        raise SpecError(f"camera: found negative {negative!r}, expected true or false")
    if not all(type(duration) is int for duration in durations):
        raise SpecError(f"camera: found saccade_us, rest_us {durations}, expected whole numbers of microseconds")
    corners = values.get("corners")
    if not isinstance(corners, (list, tuple)) or not all(map(_is_place, corners)):
        raise SpecError(
            f"camera: found corners {corners!r}, expected rows of dx and dy of at most {_FARTHEST} px, such as "
            "[[0, 0], [3.5, 7]]"
        )
    path = SaccadePath(tuple((float(dx), float(dy)) for dx, dy in corners), *durations)
    camera = with_threshold(Camera(path, negative), values.get("threshold"))
    return with_background(camera, values.get("background_rate", 0.0))


def with_threshold(camera: Camera, threshold: object) -> Camera:
    """Return a camera with a threshold; None for none.

    Raises:
        SpecError: It is not a number within `THRESHOLDS`.
    """
    if threshold is None:
        return camera._replace(threshold=None)
    low, high = THRESHOLDS
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not low <= threshold <= high:
        raise SpecError(
            f"camera: found threshold {threshold!r}, expected a change of log intensity from {low:g} to {high:g}, "
            "such as 0.2"
        )
    return camera._replace(threshold=float(threshold))


def with_background(camera: Camera, rate: object) -> Camera:
    """Return a camera with background activity; 0 for none.

    Raises:
        SpecError: It is neither 0 nor within `BACKGROUND_RATES`.
    """
    low, high = BACKGROUND_RATES
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not (rate == 0 or low <= rate <= high):
        raise SpecError(
            f"camera: found background_rate {rate!r}, expected 0 or mean events of a cell in a time bin from {low:g} "
            f"to {high:g}"
        )
    return camera._replace(background_rate=float(rate))


def camera_for(encoder: Encoder | Bake, dataset: str, spec: PrepareSpec) -> Camera:
    """Return the camera that an encoder imitates: of the dataset; where it is not needed, it may be unknown.

    Raises:
        SpecError: See `require_camera`; for encoder `saccade`.
    """
    return require_camera(dataset, spec) if encoder == "saccade" else camera_of(dataset) or UNKNOWN


def _is_place(corner: object) -> bool:
    return (
        isinstance(corner, (list, tuple))
        and len(corner) == 2
        and all(isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= _FARTHEST for x in corner)
    )


def require_camera(dataset: str, spec: PrepareSpec) -> Camera:
    """Return the camera of a dataset as its recordings show it.

    Raises:
        SpecError: Its path is unknown, or recordings were rotated or flipped, and the path was not.
    """
    camera = camera_of(dataset)
    if camera is None:
        raise SpecError(
            f"image encoder: found 'saccade' for {dataset}, whose camera path is unknown; use 'microsaccade' (a path "
            "drawn anew each time) or 'gradient'"
        )
    if spec.orientation != "as-is":
        raise SpecError(
            f"image encoder: found 'saccade' with orientation {spec.orientation!r}, expected 'as-is', the orientation "
            "of the known path; use 'microsaccade' or 'gradient'"
        )
    return camera


class FrameLayout(NamedTuple):
    """How the images of a cache lie on their frames.

    Attributes:
        spec: Canvas and size of the frames.
        sensor_size: Width and height of the canvas, in sensor pixels.
        placement: Where images lie on it.
        pooled: Cells of the images along each side of a cell of a frame, where intensity is kept at a larger size.
    """

    spec: PrepareSpec
    sensor_size: tuple[int, int]
    placement: Placement
    pooled: int = 1

    @property
    def num_cells(self) -> int:
        """Rows and columns of the images on their canvas."""
        return self.spec.size * self.pooled

    @classmethod
    def of(cls, spec: PrepareSpec, facts: Mapping[str, Any]) -> FrameLayout:
        """Return the layout that the facts of a cache state."""
        width, height = facts["sensor_size"]
        return cls(spec, (width, height), Placement(*facts["placement"]))

    def boxes(self, sizes: NDArray[np.int64]) -> NDArray[np.int32] | None:
        """Return the cells that show nothing but the image, whose resize reached no pixel beside it.

        Args:
            sizes: Height and width of each image, shape (B, 2), in its own pixels.

        Returns:
            Top, bottom, left, right, shape (B, 4), bottom and right exclusive; None where every image fills its frame.
        """
        if self.spec.canvas != "fixed":
            return None
        left, top, right, bottom = self._pixels(sizes)
        width, height = self.sensor_size
        rows, columns = self._inner_cells(top, bottom, height), self._inner_cells(left, right, width)
        return np.stack([*rows, *columns], axis=1).astype(np.int32)

    def _inner_cells(
        self, first: NDArray[np.int64], end: NDArray[np.int64], canvas: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the cells between whose first and end a resize reaches pixels from `first` to `end` alone."""
        num_cells = self.num_cells
        step = canvas / num_cells
        # A cell is made of the pixels whose middles lie less than `reach` from its own.
        reach = max(step, 1.0)
        low = np.where(first <= 0, 0, np.ceil((first - 0.5 + reach) / step - 0.5))
        high = np.where(end >= canvas, num_cells, np.floor((end + 0.5 - reach) / step + 0.5))
        # A small image fills no cell; the one in its middle shows most of it.
        middle = np.clip(np.floor((first + end) / 2 / step), 0, num_cells - 1)
        is_small = low >= high
        return np.where(is_small, middle, low), np.where(is_small, middle + 1, high)

    def cells_per_px(self, sizes: NDArray[np.int64], path: SaccadePath) -> NDArray[np.float64]:
        """Return the columns and rows that one sensor pixel covers, shape (B, 2).

        A tight canvas is the extent of a recording: the image as it was shown, and its motion around it; one up to the
        largest coordinates also has what is above and left of it. Where recordings were cropped, see `Placement`, it is
        what the crop left of the image.
        """
        if self.spec.canvas == "fixed":
            scale = self.num_cells / np.array(self.sensor_size, np.float64)
            return np.broadcast_to(scale, (len(sizes), 2))
        left, top, right, bottom = self._pixels(sizes)
        first, last = np.stack([left, top], axis=1), np.stack([right, bottom], axis=1)
        corners = np.asarray(path.corners, np.float64)
        motion = corners.max(axis=0) - corners.min(axis=0)
        whole = last - (0 if self.spec.canvas == "max" else first) + motion
        return np.asarray(self.num_cells / np.where(first < 0, np.maximum(last + first, 1), whole), np.float64)

    def _pixels(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return left, top, right and bottom of each image on the sensor, shape (4, B)."""
        found = [self.placement.box_of(int(width), int(height)) for height, width in sizes.tolist()]
        return np.array(found, np.int64).reshape(-1, 4).T


class CameraView(NamedTuple):
    """Images of a cache as a camera sees them.

    Attributes:
        camera: The camera.
        layout: How the images lie on their frames.
    """

    camera: Camera
    layout: FrameLayout

    def edges(
        self, intensities: NDArray[np.uint8], sizes: NDArray[np.int64], response: NDArray[Value]
    ) -> NDArray[Value]:
        """Return values for the gradient of log intensity, shape (B, H, W); see `gradient_frames`.

        Args:
            intensities: Frames of the images, shape (B, H, W), uint8.
            sizes: Height and width of each image, shape (B, 2), in its own pixels.
            response: As in `changes`; for one channel, the half of brightening is used.
        """
        edges = response[len(response) // 2 :] if self.layout.spec.num_channels == 1 else response
        scene = Scene(self.layout.boxes(sizes), self.camera.is_negative)
        return gradient_frames(intensities, response=edges, scene=scene)

    def changes(
        self,
        intensities: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        response: NDArray[Value],
        keys: DrawnKeys = NO_KEYS,
    ) -> NDArray[Value]:
        """Return values for the changes along a path, shape (B, T, C, H, W); see `saccade_frames`.

        Args:
            intensities: As in `edges`, or at a multiple K of that size, shape (B, K H, K W): shifts are finer, and
                changes are averaged over K x K cells.
            sizes: As in `edges`.
            response: Value for each change, see `unit_response`.
            keys: Draws a path for each image; without samples, all are seen along the path of the camera.
        """
        spec = self.layout.spec
        paths, scene = self._paths(sizes, keys, intensities.shape[1] // spec.size)
        is_swapped = spec.polarity == "inverted"
        if is_swapped and spec.num_channels == 1:
            response = np.ascontiguousarray(response[::-1])
        found = saccade_frames(intensities, paths, spec.time_bins, spec.num_channels, response=response, scene=scene)
        return np.ascontiguousarray(found[:, :, ::-1]) if is_swapped and spec.num_channels == 2 else found

    def motion(self, sizes: NDArray[np.int64], pooled: int, keys: DrawnKeys = NO_KEYS) -> Motion:
        """Return how images at `pooled` times the size of their frames move; arguments as in `changes`."""
        paths, scene = self._paths(sizes, keys, pooled)
        num_cells = self.layout.spec.size * pooled
        return motion_of(paths, scene, (num_cells, num_cells))

    def _paths(self, sizes: NDArray[np.int64], keys: DrawnKeys, pooled: int) -> tuple[NDArray[np.float32], Scene]:
        layout, path = self.layout._replace(pooled=pooled), self.camera.path
        cells_per_px, num_bins = layout.cells_per_px(sizes, path), layout.spec.time_bins
        drawn = len(keys.uids) > 0
        paths = (
            random_paths(path, num_bins, cells_per_px, keys) if drawn else paths_in_cells(path, num_bins, cells_per_px)
        )
        return paths, Scene(layout.boxes(sizes), self.camera.is_negative, pooled)
