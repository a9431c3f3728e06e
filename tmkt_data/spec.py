"""The options that determine a cache, as one frozen record with a digest, and every closed choice of this package."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal, Self, get_args, get_type_hints

from tmkt_data.errors import SpecError

Canvas = Literal["fixed", "tight", "max"]
BinRule = Literal["exact", "tonic", "spikingjelly"]
BIN_RULES: tuple[BinRule, ...] = get_args(BinRule)
TimeUnit = Literal["s", "ms", "us", "ns"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
Orientation = Literal[
    "as-is", "flip-x", "flip-y", "rotate-180", "rotate-90", "rotate-270", "transpose", "anti-transpose"
]
ORIENTATIONS: tuple[Orientation, ...] = get_args(Orientation)
EventFormat = Literal["atis", "aedat2", "aedat3", "aedat4", "dat", "evt", "es", "npy", "npz", "mat", "hdf5"]
WrittenSuffix = Literal[".bin", ".bs2", ".npz", ".aedat4"]
WRITTEN_SUFFIXES: tuple[WrittenSuffix, ...] = get_args(WrittenSuffix)
AnimationSuffix = Literal[".webp", ".gif"]
ANIMATION_SUFFIXES: tuple[AnimationSuffix, ...] = get_args(AnimationSuffix)
Aedat2Layout = Literal["raw", "jaer", "cifar10dvs"]
AEDAT2_LAYOUTS: tuple[Aedat2Layout, ...] = get_args(Aedat2Layout)
CACHE_FORMAT = "tmkt-cache"
"""First word of a cache file."""
TONIC_PREFIX = "tonic:"
"""Begins the name of a dataset that a class of tonic reads."""
EvtVersion = Literal["2.0", "2.1", "3.0"]
Encoder = Literal["repeat", "poisson", "baked", "gradient", "gradient-poisson", "saccade", "microsaccade"]
ImagePool = Literal["split", "all", "shuffled-prefix"]
ImagePairing = Literal["same-class", "twin"]
Pairing = Literal[ImagePairing, "none"]
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
Bake = Literal["none", "repeat", "poisson", "gradient", "saccade"]
PolarityRule = Literal["as-is", "inverted"]
TimeRange = Literal["whole", "robust"]
DuplicateRule = Literal["refuse", "together", "keep"]
Side = Literal["recordings", "images", ""]
"""A side of a dataset; empty for neither."""
PrepareStage = Literal["recordings", "images", "writing"]
"""What `prepare` is doing; the unit of its progress."""
Sync = Literal["nothing", "content", "name"]
"""What is forced to disk before a written file counts as written."""
Severity = Literal["warning", "error"]

KT = "KT"
OWN = "own choice"
FILTERS = ("hot_pixels", "refractory_us", "background_us")
_SHARE: dict[str, Any] = {"low": 0, "high": 0.8, "unit": "share"}
_SHIFT: dict[str, Any] = {"low": -65535, "high": 65535, "unit": "pixels"}
_DELAY: dict[str, Any] = {"low": 0, "high": 10**9, "unit": "microseconds", "absent": "off"}


@dataclass(frozen=True)
class Option:
    """What an option of `prepare` means; command line, recipe table and documentation are made from it.

    Attributes:
        text: Meaning, in one or two sentences.
        low: Smallest number, included.
        high: Largest number, included.
        unit: Unit of a number.
        source: Where the default comes from: KT is He et al., AAAI 2024, and its public code.
        absent: What a value of None, or of 0 where that turns the option off, stands for.
    """

    text: str
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    source: str = OWN
    absent: str = ""


def option(default: Any, text: str, **more: Any) -> Any:
    """Declare a field of `PrepareSpec` by its default, its meaning and further attributes of `Option`."""
    return field(default=default, metadata={"option": Option(text, **more)})


@dataclass(frozen=True, kw_only=True)
class PrepareSpec:
    """The options of one `prepare`; another value of any of them is another cache.

    Raises:
        SpecError: A value outside its range, or options that exclude each other.

    Example:
        >>> PrepareSpec(time_bins=6).digest() == PrepareSpec(time_bins=6).digest() != PrepareSpec().digest()
        True
    """

    time_bins: int = option(
        10, "Time bins of a recording, T: the time steps of the network.", low=1, high=1000, unit="bins", source=KT
    )
    bin_rule: BinRule = option(
        "exact",
        "Edges of the time bins. exact: every event is in exactly one bin; tonic, spikingjelly: as those libraries "
        "slice, with the events that they lose.",
        source="own choice; KT: tonic",
    )
    canvas: Canvas = option(
        "fixed",
        "Area that is scaled to the frame. fixed: the whole sensor, with the image where the recording saw it; tight: "
        "the extent of each recording, with the image stretched over it; max: as tight, but from the corner of the "
        "sensor on.",
        source="own choice; KT: tight, on CEP-DVS max",
    )
    resize: Resize = option(
        "sum",
        "From sensor pixels to cells. sum: coordinates are scaled, every event is kept; bilinear: corner-aligned "
        "sampling of the count frames, loses events when scaling down; area: mean count over the area of a cell.",
        source="own choice; KT: bilinear",
    )
    representation: Representation = option(
        "counts",
        "Content of an event frame. counts: events of each bin and polarity; voxel: one channel, signed, bilinear in "
        "time.",
        source=KT,
    )
    image_channel: ImageChannel = option(
        "value",
        "Intensity of an image: value of HSV, luminance (ITU-R 601), or the blue channel.",
        source="KT; inferred for TMKT",
    )
    size: int = option(48, "Height and width of a frame.", low=4, high=1024, unit="cells", source=KT)
    class_set: ClassSet = option("all", "Classes. objects: without the background class of N-Caltech101.", source=KT)
    split_seed: int = option(0, "Seed of drawn splits; not used where the dataset has its own.", low=0, high=2**63 - 1)
    val_share: float = option(0.1, "Share of each class in the validation split, where splits are drawn.", **_SHARE)
    test_share: float | None = option(
        None,
        "Share of each class in the test split.",
        absent="the dataset's own test split, otherwise 0.1",
        **_SHARE,
    )
    bake: Bake = option(
        "none",
        "Spike frames of the images to store beside their intensity. Without them, spikes are drawn on reading, anew "
        "in every epoch. gradient, saccade: as the image encoders of that name, a choice of this project (inferred).",
    )
    sensor_size: tuple[int, int] | None = option(
        None,
        "Width and height of the sensor, such as 240x180, where those of the dataset are wrong.",
        low=1,
        high=65536,
        unit="pixels",
        absent="the dataset's",
    )
    time_unit: TimeUnit | None = option(
        None, "Unit of times in files that do not state it (arrays, MATLAB).", absent="the dataset's"
    )
    shift_x: int = option(
        0, "Added to the column of every event, before the orientation; -1 for columns counted from 1.", **_SHIFT
    )
    shift_y: int = option(0, "Added to the row of every event.", **_SHIFT)
    orientation: Orientation = option(
        "as-is",
        "How recordings are rotated or flipped, after the shift, to lie as the images do. Where it swaps the axes, the "
        "canvas is the sensor on its side.",
    )
    polarity: PolarityRule = option("as-is", "inverted: ON events are read as OFF, and OFF as ON.")
    time_offset_us: int = option(0, "Added to every time.", low=-(2**53), high=2**53, unit="microseconds")
    hot_pixels: float = option(
        0.0,
        "Drop the events of pixels with more than this many times as many events as the 99th percentile of the active "
        "pixels.",
        low=1,
        high=1000,
        absent="off",
    )
    refractory_us: int = option(
        0, "Drop an event that follows the last kept event of its pixel by less than this.", **_DELAY
    )
    background_us: int = option(
        0,
        "Drop an event without another one in the eight neighboring pixels within this time before it. Filters apply "
        "in this order, after the orientation.",
        **_DELAY,
    )
    image_decode: ImageDecode = option(
        "full",
        "full: images are decoded at full size and resized by Pillow; scaled: JPEGs far larger than the frame are "
        "decoded at 1/2, 1/4 or 1/8 of their size, about twice as fast.",
        source="own choice; KT: full",
    )
    time_range: TimeRange = option(
        "whole",
        "Which events are binned. robust: those no farther from the 5th to the 95th percentile of the times than these "
        "are apart, so that a few stray times do not stretch a recording; the others count as outside the bins.",
    )
    duplicates: DuplicateRule | None = option(
        None,
        "Recordings or images of equal content in different splits. refuse: an error; together: they move into one "
        "split with their twins; keep: they stay, and are counted.",
        absent="keep where the splits are published, otherwise refuse",
    )
    image_scale: int = option(
        1,
        "Also keep intensity at this many times the rows and columns of a frame, from which image encoders saccade and "
        "microsaccade take finer shifts. Costs its square times size squared bytes an image; 1: not kept.",
        low=1,
        high=8,
        unit="times",
    )

    def __post_init__(self) -> None:
        for name in OPTIONS:
            object.__setattr__(self, name, _checked(name, getattr(self, name)))
        if self.val_share + (self.test_share or 0.0) > 0.9:
            raise SpecError(
                f"val_share, test_share: found {self.val_share} and {self.test_share}, expected a sum up to 0.9; "
                "leave recordings to train on"
            )
        if self.representation == "voxel" and self.bin_rule != "exact":
            raise SpecError(
                f"bin_rule: found {self.bin_rule!r} with representation 'voxel', which spreads events over bins "
                "by time; leave bin_rule at 'exact'"
            )

        if self.representation == "voxel" and self.bake in ("gradient", "saccade"):
            raise SpecError(
                f"bake: found {self.bake!r} with representation 'voxel', whose frames are signed and take no bytes; "
                f"choose image encoder {self.bake!r} on reading instead"
            )

    @property
    def filters(self) -> tuple[str, ...]:
        """The event filters that are on."""
        return tuple(name for name in FILTERS if getattr(self, name))

    @property
    def num_channels(self) -> int:
        """Channels of an event frame: 2 polarities for counts, 1 signed channel for a voxel grid."""
        return 2 if self.representation == "counts" else 1

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain values, ready for JSON or TOML."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the options as canonical JSON: sorted keys, no spaces, later options only where set."""
        values = {
            name: value for name, value in self.to_dict().items() if name not in _LATER or value != DEFAULTS[name]
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a spec from plain values.

        Raises:
            SpecError: An unknown key, or a value that `PrepareSpec` refuses.
        """
        unknown = sorted(set(values) - set(OPTIONS))
        if unknown:
            raise SpecError(f"prepare spec: unknown {', '.join(unknown)}; written by another version of tmkt?")
        return cls(**values)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that identify these options."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def differences(self, other: PrepareSpec) -> dict[str, tuple[Any, Any]]:
        """Return the options that differ, as `{name: (here, there)}`."""
        here, there = self.to_dict(), other.to_dict()
        return {name: (here[name], there[name]) for name in here if here[name] != there[name]}

    def written_differences(self, other: PrepareSpec) -> dict[str, str]:
        """Return the options that differ from `other` as a command line or a recipe writes them."""
        return {name: _written(value) for name, (value, _) in self.differences(other).items()}

    def command_options(self, defaults: PrepareSpec) -> list[str]:
        """Return the options of `tmkt-data prepare` that lead from `defaults` to this spec."""
        texts = self.written_differences(defaults)
        return [word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", text)]


def _written(value: object) -> str:
    if value is None:
        return "default"
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _kind(hint: Any) -> Any:
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(hint) else hint


OPTIONS: dict[str, Option] = {item.name: item.metadata["option"] for item in dataclasses.fields(PrepareSpec)}
DEFAULTS: dict[str, Any] = {item.name: item.default for item in dataclasses.fields(PrepareSpec)}
KINDS: dict[str, Any] = {name: _kind(hint) for name, hint in get_type_hints(PrepareSpec).items()}
"""What each option takes apart from None: `int`, `float`, a pair of `int`, or a `Literal`."""
_LATER = tuple(OPTIONS)[tuple(OPTIONS).index("sensor_size") :]
"""Options younger than the first caches: the digest leaves them out at their defaults, so that those stay valid."""

PrepareSpec.__doc__ = "\n".join(
    [str(inspect.getdoc(PrepareSpec)), "", "Attributes:", *(f"    {name}: {OPTIONS[name].text}" for name in OPTIONS)]
)


def _checked(name: str, value: Any) -> Any:
    option, kind = OPTIONS[name], KINDS[name]
    low, high = option.low, option.high
    if value is None and DEFAULTS[name] is None:
        return None
    if kind not in (int, float):
        return _checked_choice(name, value) if name != "sensor_size" else _checked_pair(name, value)
    is_number = isinstance(value, Integral if kind is int else (Integral, float)) and not isinstance(value, bool)
    if is_number and (low <= value <= high or (value == 0 and option.absent)):
        return kind(value)
    zero = f"0 ({option.absent}) or " if option.absent and low > 0 else ""
    noun = "a whole number" if kind is int else "a number"
    raise SpecError(f"{name}: found {value!r}, expected {zero}{noun} from {low} to {high}")


def _checked_choice(name: str, value: Any) -> Any:
    choices = get_args(KINDS[name])
    if value not in choices:
        raise SpecError(f"{name}: found {value!r}, expected one of {', '.join(choices)}")
    return value


def _checked_pair(name: str, value: Any) -> tuple[int, int]:
    low, high = OPTIONS[name].low, OPTIONS[name].high
    sides = tuple(value) if isinstance(value, (tuple, list)) else ()
    is_whole = all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not is_whole or not all(low <= side <= high for side in sides):
        raise SpecError(f"{name}: found {value!r}, expected width and height, {low} to {high} each")
    return int(sides[0]), int(sides[1])
