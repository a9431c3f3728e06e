"""Every choice that shapes a cache, in one frozen record with a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from tmkt_data.errors import SpecError

Canvas = Literal["fixed", "tight"]
BinRule = Literal["exact", "tonic", "spikingjelly"]
BIN_RULES: tuple[BinRule, ...] = get_args(BinRule)
TimeUnit = Literal["s", "ms", "us", "ns"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
Orientation = Literal[
    "as-is", "flip-x", "flip-y", "rotate-180", "rotate-90", "rotate-270", "transpose", "anti-transpose"
]
ORIENTATIONS: tuple[Orientation, ...] = get_args(Orientation)
Encoder = Literal["repeat", "poisson", "baked"]
ImagePool = Literal["split", "all", "shuffled-prefix"]
Pairing = Literal["same-class", "twin", "none"]
EventScale = Literal["raw", "clip1", "log1p", "max", "step-max", "binary"]
Protocol = Literal["twin-disjoint", "kt-paper"]
Split = Literal["train", "val", "test"]
SplitLayout = Literal["prefix", "drawn", "block", "drawer"]
Motion = Literal["saccade", "none"]
RecordingKind = Literal["files", "slices", "simulated"]
Resize = Literal["sum", "bilinear", "area"]
Representation = Literal["counts", "voxel"]
ImageChannel = Literal["value", "luminance", "blue"]
ImageDecode = Literal["full", "scaled"]
ClassSet = Literal["all", "objects"]
Bake = Literal["none", "repeat", "poisson"]
PolarityRule = Literal["as-is", "inverted"]

_CLOSED: dict[str, tuple[str, ...]] = {
    "bin_rule": BIN_RULES,
    "canvas": get_args(Canvas),
    "resize": get_args(Resize),
    "representation": get_args(Representation),
    "image_channel": get_args(ImageChannel),
    "image_decode": get_args(ImageDecode),
    "class_set": get_args(ClassSet),
    "bake": get_args(Bake),
    "orientation": ORIENTATIONS,
    "polarity": get_args(PolarityRule),
    "time_unit": TIME_UNITS,
}
_RANGES = {
    "time_bins": (1, 1000),
    "size": (4, 1024),
    "split_seed": (0, 2**63 - 1),
    "shift_x": (-65535, 65535),
    "shift_y": (-65535, 65535),
    "time_offset_us": (-(2**53), 2**53),
    "refractory_us": (0, 10**9),
    "background_us": (0, 10**9),
}
FILTERS = ("hot_pixels", "refractory_us", "background_us")
_GEOMETRY = ("sensor_size", "time_unit", "orientation", "polarity", "shift_x", "shift_y", "time_offset_us")
_OPEN = (*_GEOMETRY, *FILTERS, "image_decode")
"""Choices that came later; at their defaults they are left out of the digest, so that caches of before stay."""


@dataclass(frozen=True, kw_only=True)
class PrepareSpec:
    """The choices of one `prepare`; another value of any of them is another cache.

    Attributes:
        time_bins: Time bins of a recording, T; 1 to 1000.
        bin_rule: Where the edges of the bins lie: `exact` (every event in exactly one bin), `tonic`, `spikingjelly`.
        canvas: What is scaled to the frame: `fixed`, the whole sensor with the image placed where the recording saw
            it, or `tight`, the extent of each recording with the image stretched over it (the KT protocol).
        resize: `sum`, coordinates are scaled and every event kept; `bilinear`, corner-aligned sampling of the count
            frames (the KT protocol, loses events when scaling down); `area`, mean count over the area of a cell.
        representation: `counts` per bin and polarity, or `voxel`, signed and bilinear in time.
        image_channel: Intensity of an image: `value` of HSV, `luminance` (ITU-R 601), or `blue`.
        size: Height and width of a frame in cells; 4 to 1024.
        class_set: `all` classes, or `objects` without the background class of N-Caltech101.
        split_seed: Seed of the drawn splits; datasets whose splits are laid down do not use it.
        val_share: Share of the stems of each class in the validation part of drawn splits; 0 to 0.8.
        test_share: Share of the stems of each class in the test part. None: the dataset's own test part where it
            has one, otherwise 0.1.
        bake: Spike frames of the images to store beside their intensity: `none`, `repeat` or `poisson`. Frames are
            drawn on reading without it, afresh every epoch.
        sensor_size: Width and height of the sensor, where the catalogue's is not right; None takes that.
        time_unit: Unit of the times of recordings that do not say theirs (arrays, MATLAB); None takes the catalogue's.
        shift_x: Added to the column of every event, before anything else; -1 for columns counted from 1.
        shift_y: Added to the row of every event.
        orientation: How the recording is turned or flipped to lie as the image does, after the shift, see
            `orientation`. Where it swaps the axes, the canvas is the sensor lying on its side.
        polarity: `inverted` takes OFF for ON.
        time_offset_us: Added to every time, microseconds; moves `t_first_us` and the phase of the saccades.
        hot_pixels: Drop the events of pixels with more than this many times as many events as the 99th percentile of
            the active ones; 0 keeps them, 1 to 1000.
        refractory_us: Drop an event that follows another of its pixel that was kept by less than this; 0 keeps all.
        background_us: Drop an event without another in the eight pixels around within this time before it; 0 keeps
            all. The filters apply in this order, after the orientation.
        image_decode: How an image becomes a frame: `full`, decoded at its full size and resized by Pillow (as KT), or
            `scaled`, where JPEGs far larger than the frame are decoded at 1/2, 1/4 or 1/8 of their size, see
            `encode.frame_of_pixels`; about twice as fast.

    Raises:
        SpecError: A value outside its range, or values that exclude each other.

    Example:
        >>> PrepareSpec(time_bins=6).digest() == PrepareSpec(time_bins=6).digest() != PrepareSpec().digest()
        True
    """

    time_bins: int = 10
    bin_rule: BinRule = "exact"
    canvas: Canvas = "fixed"
    resize: Resize = "sum"
    representation: Representation = "counts"
    image_channel: ImageChannel = "value"
    size: int = 48
    class_set: ClassSet = "all"
    split_seed: int = 0
    val_share: float = 0.1
    test_share: float | None = None
    bake: Bake = "none"
    sensor_size: tuple[int, int] | None = None
    time_unit: TimeUnit | None = None
    shift_x: int = 0
    shift_y: int = 0
    orientation: Orientation = "as-is"
    polarity: PolarityRule = "as-is"
    time_offset_us: int = 0
    hot_pixels: float = 0.0
    refractory_us: int = 0
    background_us: int = 0
    image_decode: ImageDecode = "full"

    def __post_init__(self) -> None:
        for name, choices in _CLOSED.items():
            value = getattr(self, name)
            if value not in choices and not (value is None and name == "time_unit"):
                raise SpecError(f"{name}: found {value!r}, expected one of {', '.join(choices)}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise SpecError(f"{name}: found {value!r}, expected a whole number from {low} to {high}")
        self._check_shares()
        self._check_geometry()
        if self.representation == "voxel" and self.bin_rule != "exact":
            raise SpecError(
                f"bin_rule: found {self.bin_rule!r} with representation 'voxel', which spreads events over bins "
                "by time; leave bin_rule at 'exact'"
            )

    def _check_shares(self) -> None:
        for name in ("val_share", "test_share"):
            value = getattr(self, name)
            if value is None and name == "test_share":
                continue
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 0.8:
                raise SpecError(f"{name}: found {value!r}, expected a number from 0 to 0.8")
            object.__setattr__(self, name, float(value))
        if self.val_share + (self.test_share or 0.0) > 0.9:
            raise SpecError(
                f"val_share, test_share: found {self.val_share} and {self.test_share}, expected a sum up to 0.9; "
                "leave recordings to train on"
            )

    def _check_geometry(self) -> None:
        size: Any = self.sensor_size
        if size is not None:
            sides = list(size) if isinstance(size, (tuple, list)) else []
            if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 65536 for side in sides):
                raise SpecError(f"sensor_size: found {size!r}, expected width and height, 1 to 65536 each")
            object.__setattr__(self, "sensor_size", (sides[0], sides[1]))
        factor: Any = self.hot_pixels
        if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not (factor == 0 or 1 <= factor <= 1000):
            raise SpecError(f"hot_pixels: found {factor!r}, expected 0 to keep them, or a factor from 1 to 1000")
        object.__setattr__(self, "hot_pixels", float(factor))

    @property
    def filters(self) -> tuple[str, ...]:
        """The event filters that are on."""
        return tuple(name for name in FILTERS if getattr(self, name))

    @property
    def num_channels(self) -> int:
        """Channels of an event frame: 2 polarities for counts, 1 signed channel for a voxel grid."""
        return 2 if self.representation == "counts" else 1

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as plain values, ready for JSON or TOML."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the choices as canonical JSON: sorted keys, no spaces, what came later where set."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        values = {k: v for k, v in self.to_dict().items() if k not in _OPEN or v != defaults[k]}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a spec from plain values.

        Raises:
            SpecError: An unknown key, or a value that `PrepareSpec` refuses.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise SpecError(f"prepare spec: unknown {', '.join(unknown)}; written by another version of tmkt?")
        return cls(**values)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that name these choices."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def differences(self, other: PrepareSpec) -> dict[str, tuple[Any, Any]]:
        """Return the choices that differ, as `{name: (here, there)}`."""
        here, there = self.to_dict(), other.to_dict()
        return {name: (here[name], there[name]) for name in here if here[name] != there[name]}

    def command_options(self, defaults: PrepareSpec) -> list[str]:
        """Return the options of `tmkt-data prepare` that lead from `defaults` to this spec."""
        options: list[str] = []
        for name, (here, _) in self.differences(defaults).items():
            text = f"{here[0]}x{here[1]}" if name == "sensor_size" and here else str(here)
            options += [f"--{name.replace('_', '-')}", text]
        return options
