"""Convert a block of images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.reader import Cache
from tmkt_data.cache.side_rows import BlockArrays
from tmkt_data.datasets.cameras import UNKNOWN, CameraView, FrameLayout, camera_of
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.image_reader import Archives, read_pixels
from tmkt_data.datasets.recording_reader import canvas_of
from tmkt_data.datasets.source_table import Source
from tmkt_data.files import checksum
from tmkt_data.images.decode import DecodedImage, decode_scaled
from tmkt_data.images.encode import poisson_frames
from tmkt_data.images.frames import ImageTarget, frame_of_pixels, image_frame
from tmkt_data.images.log_intensity import stored_response
from tmkt_data.prepare.blocks import Block, convert_all, empty_block
from tmkt_data.prepare.read_ahead import WINDOW_BYTES, KnownFile, ReadAhead
from tmkt_data.random_keys import Purpose, draw_key, sample_uid
from tmkt_data.spec import PrepareSpec


def convert_images(
    block: Block, catalogue: Catalogue, spec: PrepareSpec, *, archives: Archives, skip_bad: bool
) -> BlockArrays:
    """Decode, place and resize the images of a block, and reduce them to intensity.

    Args:
        block: The block.
        catalogue: Where sensor size and placement are taken from.
        spec: Choices of the cache.
        archives: Archives that were read so far, by path; shared by all blocks.
        skip_bad: Leave unreadable images out instead of raising.

    Returns:
        See `convert_all`.

    Raises:
        UnreadableSourcesError: With every image of the block that could not be read.
    """
    arrays = empty_block("images", spec, len(block.sources))
    converter = ImageConverter(catalogue, spec, archives)
    view = view_of(catalogue, spec)
    ahead = ReadAhead(
        [KnownFile(s.file, s.num_bytes) if s.item < 0 and s.num_bytes <= WINDOW_BYTES else None for s in block.sources]
    )

    def convert(source: Source, at: int) -> dict[str, int]:
        image, num_bytes, digest, frame, fine = converter.convert(source, ahead.bytes_of(at))
        arrays["frames"][at] = frame
        facts = {
            "height_px": image.height,
            "width_px": image.width,
            "source_bytes": num_bytes,
            "source_xxh3": digest,
            "frames_xxh3": checksum(frame),
        }
        if fine is not None:
            arrays["fine"][at] = fine
            facts["fine_xxh3"] = checksum(fine)
        if spec.bake != "none":
            seen = fine if fine is not None and spec.bake == "saccade" else frame
            arrays["spikes"][at] = bake_spikes(seen, source, (image.height, image.width), view)
            facts["spikes_xxh3"] = checksum(arrays["spikes"][at])
        return facts

    return convert_all(block, arrays, convert, skip_bad=skip_bad)


class ImageConverter:
    """Decodes images and resizes them to frames."""

    def __init__(self, catalogue: Catalogue, spec: PrepareSpec, archives: Archives) -> None:
        self._archives, self._spec = archives, spec
        sensor_size, placement = canvas_of(catalogue, spec) if spec.canvas == "fixed" else (None, None)
        sides = (spec.size, spec.size * spec.image_scale)
        self._target, self._fine = (ImageTarget(side, side, sensor_size, placement) for side in sides)
        self._smallest = None if spec.image_decode == "full" else self._fine.smallest_pixels

    def convert(self, source: Source, data: NDArray[np.uint8] | None = None) -> _Converted:
        """Convert an image whose file may have been read already; errors as `read_pixels`."""
        if data is None:
            image, whole = read_pixels(source, self._archives, self._smallest)
            return self._converted(image, len(whole), checksum(whole))
        image = decode_scaled(data, self._smallest, place=source.path.name)
        return self._converted(image, data.size, checksum(data))

    def _converted(self, image: DecodedImage, num_bytes: int, digest: int) -> _Converted:
        fine = self._frame_of(image, self._fine) if self._spec.image_scale > 1 else None
        return _Converted(image, num_bytes, digest, self._frame_of(image, self._target), fine)

    def _frame_of(self, image: DecodedImage, target: ImageTarget) -> NDArray[np.uint8]:
        if self._spec.image_decode == "full":
            return image_frame(image.pixels, target, self._spec.image_channel)
        return frame_of_pixels(image.pixels, image.extent, target, self._spec.image_channel)


class _Converted(NamedTuple):
    image: DecodedImage
    num_bytes: int
    checksum: int
    frame: NDArray[np.uint8]
    fine: NDArray[np.uint8] | None


def bake_spikes(frame: NDArray[np.uint8], source: Source, size: tuple[int, int], view: CameraView) -> NDArray[np.uint8]:
    """Return the stored spike frames of one image, shape (T, C, H, W), uint8.

    `poisson`: 0 or 1, drawn once, with seed 0 and epoch 0. `repeat`: the intensity itself, 0 to 255. `gradient` and
    `saccade`: the root of changes of log intensity, see `stored_response`.

    Args:
        frame: Intensity, shape (H, W), uint8; for `saccade` that of the largest size kept.
        source: The image.
        size: Its height and width, in its own pixels.
        view: Options of the cache, and how its images are seen.
    """
    spec = view.layout.spec
    match spec.bake:
        case "poisson":
            key = draw_key(0, 0, sample_uid(source.id), 0, Purpose.POISSON)
            return poisson_frames(frame, spec.time_bins, spec.num_channels, key=np.uint64(key)).astype(np.uint8)
        case "gradient" | "saccade":
            return bake_changes(frame, size, view)
    return np.broadcast_to(frame, (spec.time_bins, spec.num_channels, *frame.shape))


def bake_changes(frame: NDArray[np.uint8], size: tuple[int, int], view: CameraView) -> NDArray[np.uint8]:
    """Return the stored frames of `gradient` and `saccade`; arguments as in `bake_spikes`."""
    spec, sizes = view.layout.spec, np.array([size], np.int64)
    if spec.bake == "saccade":
        found: NDArray[np.uint8] = view.changes(frame[None], sizes, stored_response())[0]
        return found
    edges = view.edges(frame[None], sizes, stored_response())[0]
    return np.broadcast_to(edges, (spec.time_bins, spec.num_channels, *edges.shape))


def view_in(cache: Cache) -> CameraView:
    """Return how the camera of a dataset saw the images of a cache, as `view_of` its catalogue."""
    return CameraView(camera_of(cache.info.dataset) or UNKNOWN, FrameLayout.of(cache.spec, cache.info.facts))


def view_of(catalogue: Catalogue, spec: PrepareSpec) -> CameraView:
    """Return how the camera of a dataset sees its images."""
    return CameraView(camera_of(catalogue.name) or UNKNOWN, FrameLayout(spec, *canvas_of(catalogue, spec)))
