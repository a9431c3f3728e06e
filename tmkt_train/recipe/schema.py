"""The tables of a recipe: every key with its type, range, default and meaning.

A description that says "(inferred)" marks a choice that the papers leave open.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tmkt_data.spec import (
    Bake,
    BinRule,
    Canvas,
    ClassSet,
    ImageChannel,
    ImageDecode,
    Orientation,
    PolarityRule,
    PrepareSpec,
    Representation,
    Resize,
)
from tmkt_train.choices import (
    CkaEstimator,
    Classification,
    LearningRateSchedule,
    MethodName,
    MixDistribution,
    MixSchedule,
    ModalityStreams,
    Sampler,
    SlideSchedule,
)

Share = Annotated[float, Field(gt=0, le=1)]

_SPEC = PrepareSpec()
MAX_SEED = 2**63 - 1


class Table(BaseModel):
    """One table of a recipe: unknown keys are refused, values are never converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PrepareTable(Table):
    """The cache that the recipe needs; the keys and defaults are those of `tmkt_data.spec.PrepareSpec`."""

    time_bins: int = Field(
        default=_SPEC.time_bins, ge=1, le=1000, description="Time bins, T: the steps of the network."
    )
    bin_rule: BinRule = Field(default=_SPEC.bin_rule, description="Where the edges of the time bins lie.")
    canvas: Canvas = Field(default=_SPEC.canvas, description="What is scaled to the frame.")
    resize: Resize = Field(default=_SPEC.resize, description="How events come from sensor pixels to cells.")
    representation: Representation = Field(default=_SPEC.representation, description="What an event frame holds.")
    image_channel: ImageChannel = Field(
        default=_SPEC.image_channel,
        description="Intensity of an image: V of HSV as in KT; for TMKT (inferred).",
    )
    size: int = Field(default=_SPEC.size, ge=4, le=1024, description="Height and width of a frame in cells.")
    class_set: ClassSet = Field(default=_SPEC.class_set, description="All classes, or without the background class.")
    split_seed: int = Field(default=_SPEC.split_seed, ge=0, le=MAX_SEED, description="Seed of drawn splits.")
    val_share: float = Field(default=_SPEC.val_share, ge=0, le=0.8, description="Share of each class in validation.")
    test_share: Annotated[float, Field(ge=0, le=0.8)] | Literal["default"] = Field(
        default="default",
        description="Share of each class in test; default: the dataset's own test part, else 0.1.",
    )

    bake: Bake = Field(
        default=_SPEC.bake, description="Spike frames of images stored in the cache, for encoding baked."
    )

    sensor_size: str = Field(
        default="default",
        pattern=r"^(default|[1-9]\d{0,4}x[1-9]\d{0,4})$",
        description="Width and height of the sensor, such as 240x180; default: the dataset's.",
    )
    time_unit: Literal["default", "s", "ms", "us", "ns"] = Field(
        default="default", description="Unit of times that files leave open; default: the dataset's."
    )
    shift_x: int = Field(default=0, ge=-65535, le=65535, description="Added to every column of a recording.")
    shift_y: int = Field(default=0, ge=-65535, le=65535, description="Added to every row of a recording.")
    orientation: Orientation = Field(default=_SPEC.orientation, description="How recordings are turned or flipped.")
    polarity: PolarityRule = Field(default=_SPEC.polarity, description="Whether OFF is taken for ON.")
    time_offset_us: int = Field(default=0, ge=-(2**53), le=2**53, description="Added to every time, microseconds.")
    hot_pixels: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Drop pixels with so many times the events of the 99th percentile; 0: none.",
    )
    refractory_us: int = Field(default=0, ge=0, le=10**9, description="Refractory period of a pixel; 0: none.")
    background_us: int = Field(
        default=0, ge=0, le=10**9, description="Drop events without a neighbor within this time; 0: none."
    )
    image_decode: ImageDecode = Field(
        default=_SPEC.image_decode, description="Whether large JPEGs are decoded at a part of their size."
    )

    def to_spec(self) -> PrepareSpec:
        """Return the spec of the cache.

        Raises:
            SpecError: Choices that exclude each other.
        """
        values: dict[str, Any] = self.model_dump()
        values = {name: None if value == "default" else value for name, value in values.items()}
        if values["sensor_size"] is not None:
            values["sensor_size"] = tuple(int(side) for side in self.sensor_size.split("x"))
        return PrepareSpec(**values)


class DataTable(Table):
    """Which samples are trained on, and what stands beside a recording."""

    dataset: str = Field(min_length=1, description="Name of the dataset, see `tmkt-data datasets`.")
    protocol: Literal["twin-disjoint", "kt-paper"] = Field(
        default="twin-disjoint",
        description="Split rule; kt-paper has no validation part and selects on test (optimistic).",
    )
    pairing: Literal["same-class", "twin"] = Field(
        default="same-class",
        description="Image beside a recording: any of its class, drawn anew each time, or its own; "
        "same-class for TMKT (inferred).",
    )
    image_encoding: Literal["repeat", "poisson", "baked"] = Field(
        default="repeat",
        description="Image to frames: intensity at every step as KT, spikes drawn on reading, or those "
        "stored in the cache; repeat for TMKT (inferred).",
    )
    event_scale: Literal["raw", "clip1", "log1p", "max", "step-max", "binary"] = Field(
        default="raw",
        description="Scale of event frames beside images in [0, 1]; raw counts as KT; for TMKT (inferred).",
    )
    recordings_per_class: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        default="all", description="Training recordings kept per class; all images stay."
    )
    event_share: Share = Field(
        default=1.0, description="Share of the training recordings of each class that is kept; all images stay."
    )
    image_share: Share = Field(default=1.0, description="Share of the training images of each class that is kept.")
    image_pool: Literal["split", "all", "shuffled-prefix"] = Field(
        default="split",
        description="Images that training may draw: those of its part; all; or as many drawn over all, as a prefix "
        "of an unsorted listing. The last two reach the images of held-out recordings (optimistic).",
    )
    held_out_classes: int = Field(
        default=0,
        ge=0,
        description="Classes left out of every part on both sides, drawn by the split seed, for few-shot evaluation.",
    )
    prepare: PrepareTable = Field(default_factory=PrepareTable, description="The cache that is needed.")


class ModelTable(Table):
    """The spiking network."""

    backbone: Literal["vgg-snn", "resnet18", "scnn"] = Field(
        description="Network: VGG-SNN or ResNet-18 for 48 x 48, SCNN for small frames; see docs/method.md."
    )
    batch_norm: Literal["per-step", "fused", "none"] = Field(
        default="per-step",
        description="Statistics per time step and stream as KT, over all steps at once, or no batch norm; per-step "
        "for TMKT (inferred).",
    )
    eval_statistics: Literal["shared", "event"] = Field(
        default="shared",
        description="Running statistics of batch norm: one set for both streams, as KT; for TMKT (inferred); or "
        "those of the event stream apart, which evaluation then takes.",
    )
    surrogate: Literal["auto", "triangle", "rectangle"] = Field(
        default="auto",
        description="Gradient of the spike; auto: as KT, the rectangle for SCNN, the triangle for the others; for TMKT "
        "(inferred).",
    )
    separate_heads: bool = Field(
        default=True,
        description="A class head for each stream, as KT; for TMKT (inferred). One head in event-only.",
    )


class MethodTable(Table):
    """What is trained."""

    name: MethodName = Field(
        description="event-only: the event stream alone; fine-tune: images first, then events; kt: images that "
        "slide into events, sample by sample, aligned with the event stream; kt+tsm: time-step mixup beside the "
        "sliding; tmkt: time-step mixup, with the objectives on modality and ratio."
    )


class MixTable(Table):
    """What becomes of the image stream. Unused by event-only and fine-tune; kt uses `slide` alone."""

    time_step: bool = Field(
        default=True, description="Time-step mixup: image frames first, event frames from a step on."
    )
    ratio: Annotated[float, Field(ge=0, le=1)] | Literal["by-count"] = Field(
        default=0.5,
        description="Expected share of event steps at the start (inferred); by-count: recordings over recordings and "
        "images, an own choice.",
    )
    end_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Expected share at the end; used by the schedules linear and cubic.",
    )
    schedule: MixSchedule = Field(
        default="constant",
        description="Course of the ratio over the iterations of the training (inferred).",
    )
    law: MixDistribution = Field(
        default="sequential",
        description="Distribution of the first event step; sequential allows none at all (inferred).",
    )
    slide: SlideSchedule | Literal["auto"] = Field(
        default="auto",
        description="Probability that a whole image sequence gives way to its recording: cubic rises with the third "
        "power of the progress as KT, step jumps from 0 to 1 half-way; auto: cubic in kt and kt+tsm, off in tmkt "
        "(inferred).",
    )


class LossTable(Table):
    """Objectives and their weights; a term of weight 0 is not computed."""

    classification: Classification = Field(
        default="tet",
        description="tet: cross-entropy and margin at each step, as KT; for TMKT (inferred); mean-logits: "
        "cross-entropy of the logits averaged over the steps, as KT on N-Omniglot.",
    )
    margin_weight: float = Field(
        default=1e-3, ge=0, le=1, description="Share of the margin term in TET, as KT; for TMKT (inferred)."
    )
    margin: float = Field(default=0.5, description="Logit that the margin term draws to, as KT; for TMKT (inferred).")
    alignment: float = Field(default=0.5, ge=0, description="Weight of CKA alignment, as KT; for TMKT (inferred).")
    cka: CkaEstimator = Field(
        default="biased", description="Estimator of the alignment; biased as KT, debiased is an own choice."
    )
    modality: float = Field(default=0.1, ge=0, description="Weight of modality-aware guidance (inferred).")
    modality_streams: ModalityStreams = Field(
        default="mixed", description="Streams that modality guidance looks at (inferred)."
    )
    ratio: float = Field(default=0.1, ge=0, description="Weight of mixup-ratio perception (inferred).")
    coefficients: Literal["learned", "fixed", "off"] = Field(
        default="learned",
        description="Per-step balance of alignment and event classification, as KT; for TMKT (inferred).",
    )
    coefficient: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share c of alignment at every step, 1 - c of events; used by fixed.",
    )


class OptimTable(Table):
    """AdamW and its learning rate per epoch. The rate is the effective one: no batch size rescales it."""

    name: Literal["adamw"] = Field(default="adamw", description="Optimizer, as KT; for TMKT (inferred).")
    learning_rate: float = Field(
        gt=0,
        le=1e30,
        description="Effective peak rate, used as written; KT: 5e-3 * batch / 1024; for TMKT (inferred).",
    )
    min_learning_rate: float = Field(default=1e-5, ge=0, description="Where the cosine ends (inferred).")
    schedule: LearningRateSchedule = Field(default="cosine", description="Course over the epochs (inferred).")
    step_epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), strict=False, description="Epochs from which one more factor applies; used by step."
    )
    step_factor: float = Field(default=0.1, gt=0, le=1, description="Factor of each step; used by step.")
    warmup_epochs: int = Field(default=5, ge=0, description="Epochs of linear warm-up, 0 for none (inferred).")
    warmup_learning_rate: float = Field(default=1e-6, gt=0, description="Rate of the first warm-up epoch (inferred).")
    weight_decay: float = Field(
        default=0.01, ge=0, description="Decay; parameters of one dimension have none (inferred)."
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.999), strict=False, description="Decay of the running moments, each in [0, 1) (inferred)."
    )


class TrainTable(Table):
    """The loop."""

    epochs: int = Field(ge=1, description="Passes over the training part (inferred).")
    image_epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="Epochs on images before those on events, used by fine-tune; auto: as many as `epochs`.",
    )
    steps_per_epoch: Annotated[int, Field(ge=1, le=10**6)] | Literal["auto"] = Field(
        default="auto",
        description="Steps that make an epoch, however few the recordings; auto: one pass over the training part.",
    )
    batch_size: int = Field(ge=1, description="Samples per step; alignment and batch norm depend on it (inferred).")
    sampler: Sampler = Field(
        default="class-balanced",
        description="class-balanced: with replacement, weight 1 / class size, as KT; shuffled (inferred).",
    )
    drop_last: bool = Field(default=True, description="Leave out a last batch that is not full (inferred).")
    crop_padding: int = Field(
        default=4,
        ge=0,
        description="Cells of zero padding before the random crop of event frames, as KT (inferred); 0: off.",
    )
    flip: bool = Field(
        default=False, description="Mirror half of the event samples left to right; on for CEP-DVS as KT (inferred)."
    )
    rotation: float = Field(
        default=0.0,
        ge=0,
        le=180,
        description="Largest angle by which event frames are turned at random; 15 for CEP-DVS as KT (inferred).",
    )
    eval_batch_size: int = Field(
        default=128, ge=1, description="Samples per step of evaluation; same result up to rounding."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: the GPU where there is one.")
    precision: Literal["float32", "tf32"] = Field(
        default="float32",
        description="tf32 lets GPU convolutions round their inputs to 10 bits: faster, other digits.",
    )
    num_threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        default="auto",
        description="CPU threads; auto: as many as torch takes. Another number may change the last digits.",
    )
