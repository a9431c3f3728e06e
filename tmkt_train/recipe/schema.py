"""The tables of a recipe: every key with its meaning, type, range, unit, default and source."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from tmkt_data.spec import (
    DEFAULTS,
    KINDS,
    KT,
    OPTIONS,
    OWN,
    Encoder,
    EventScale,
    ImagePairing,
    ImagePool,
    PrepareSpec,
    Protocol,
)
from tmkt_train import choices

TMKT = "TMKT papers"
INFERRED = "inferred"
KT_INFERRED = "KT; inferred for TMKT"
MAX_SEED = 2**63 - 1

_Px = Annotated[float, Field(ge=-10_000, le=10_000)]
Corner = Annotated[tuple[_Px, _Px], Field(strict=False)]
Share = Annotated[float, Field(gt=0, le=1)]
ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


def key(default: Any = ..., source: str = OWN, *, unit: str = "", expected: str = "", **limits: Any) -> Any:
    """Declare a key of a recipe; the text below it is its meaning.

    Args:
        default: Default; without one, the key is required.
        source: Where the default, or the option itself, comes from; "inferred" if the TMKT papers leave it open.
        unit: Unit of a number.
        expected: Description of the accepted values, if the type does not tell.
        limits: Further arguments of `pydantic.Field`: `ge`, `le`, `min_length`, ...
    """
    remarks: JsonDict = {"source": source, "unit": unit, "expected": expected}
    return Field(default, json_schema_extra=remarks, **limits)


def remark(field: FieldInfo, name: str) -> str:
    """Return what `key` noted about a field: its `source`, or its `unit`."""
    noted = field.json_schema_extra
    return str(noted.get(name, "")) if isinstance(noted, dict) else ""


def meaning(field: FieldInfo) -> str:
    """Return the meaning of a field on one line."""
    return " ".join((field.description or "").split())


class Table(BaseModel):
    """One table of a recipe: unknown keys are refused, values are never converted, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _prepare_keys() -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        kind, default = KINDS[name], DEFAULTS[name]
        absent = f" {'default' if default is None else 0}: {option.absent}." if option.absent else ""
        more: dict[str, Any] = {}
        if kind in (int, float):
            kind = Annotated[kind, Field(ge=min(option.low, 0) if absent else option.low, le=option.high)]
        elif name == "sensor_size":
            more = {
                "pattern": r"^(default|[1-9]\d{0,4}x[1-9]\d{0,4})$",
                "expected": "width and height such as '240x180', or 'default'",
            }
        if default is None:
            kind, default = str if more else kind | choices.Default, "default"
        keys[name] = (kind, key(default, option.source, unit=option.unit, description=option.text + absent, **more))
    return keys


class PrepareTable(create_model("PrepareKeys", __base__=Table, **_prepare_keys())):  # type: ignore[misc]
    """The cache that the recipe needs: the options of `tmkt-data prepare`; "default" stands for None."""

    def to_spec(self) -> PrepareSpec:
        """Return the spec of the cache.

        Raises:
            SpecError: Options that exclude each other.
        """
        written: dict[str, Any] = self.model_dump()
        values = {name: None if value == "default" else value for name, value in written.items()}
        if values["sensor_size"] is not None:
            values["sensor_size"] = tuple(int(side) for side in values["sensor_size"].split("x"))
        return PrepareSpec.from_dict(values)


class CameraTable(Table):
    """The camera of image encodings saccade and microsaccade, as `tmkt-data pairs FILE --fit-motion` prints it."""

    corners: tuple[Corner, ...] = key(
        (), unit="px", expected="rows of dx and dy such as [[0, 0], [3.5, 7]], each at most 10000", strict=False
    )
    """Path of the image on the sensor, to the right and down: one saccade between neighbors. Without any, path and
    polarity are those of the dataset."""
    negative: bool = key(False)
    """Whether ON and OFF events are those of the negative of the images."""
    saccade_us: int = key(100_000, unit="us", ge=1, le=10_000_000)
    """Duration of one saccade including its rest; the whole path is cut into the time bins."""
    rest_us: int = key(15_000, unit="us", ge=0, le=10_000_000)
    """Time of a saccade without motion, half before and half after it."""
    threshold: Annotated[float, Field(ge=1e-3, le=8)] | choices.Default = key("default", unit="log intensity")
    """Change that makes one event: frames of gradient, saccade and microsaccade are whole counts, and those of
    gradient-poisson are drawn with a mean of one for each. default: graded changes, with the mean of the event frames.
    Also applies to the camera of the dataset."""
    background_rate: Annotated[float, Field(ge=0, le=10)] = key(0.0, unit="events")
    """Background activity of saccade and microsaccade: mean noise events of a cell and channel in one time bin, drawn
    anew each time. 0: none. Also applies to the camera of the dataset."""


class DataTable(Table):
    """The samples to train on, and how images are paired with recordings."""

    dataset: str = key(min_length=1)
    """Name of the dataset, see `tmkt-data datasets`."""
    protocol: Protocol = key("twin-disjoint", "own choice; kt-paper: KT")
    """Split rule. twin-disjoint: no image of a held-out recording is in training; kt-paper: that of KT, without a
    validation split, so that the epoch is selected on test (optimistic)."""
    pairing: ImagePairing = key("same-class", KT_INFERRED)
    """Image paired with a recording. same-class: any of its class, drawn anew each time; twin: the image that the
    recording was made from."""
    image_encoding: Encoder = key("repeat", KT_INFERRED)
    """Image to time steps. repeat: its intensity at every step; poisson: spikes drawn on reading; baked: spike frames
    stored in the cache. Choices of this project (inferred), in the units of the event frames: gradient, edges of log
    intensity at every step; gradient-poisson, counts drawn anew each time with that mean; saccade, changes along the
    path of the camera; microsaccade, along a path drawn anew each time."""
    event_scale: EventScale = key("raw", KT_INFERRED)
    """Scaling of event frames; images are in [0, 1]. raw: counts; clip1: at most 1; log1p: log(1 + count); max: divided
    by the maximum of the sample and channel; step-max: also per time step; binary: 1 where there are events."""
    recordings_per_class: Annotated[int, Field(ge=1)] | choices.All = key("all", unit="recordings")
    """Training recordings kept per class; all images are kept."""
    event_share: Share = key(1.0, unit="share")
    """Share of the training recordings of each class that is kept; all images are kept."""
    shrink_validation: bool = key(False)
    """Keep event_share of the validation recordings of each class too, at least one, so that few recordings are not
    selected on many."""
    image_share: Share = key(1.0, unit="share")
    """Share of the training images of each class that is kept."""
    image_pool: ImagePool = key("split")
    """Images that training may draw. split: those of the training split; all: every image; shuffled-prefix: as many as
    in the training split, drawn from all, like a prefix of an unsorted listing. The last two contain images of
    held-out recordings (optimistic)."""
    held_out_classes: int = key(0, unit="classes", ge=0)
    """Classes left out of every split on both sides for few-shot evaluation, drawn with split_seed."""
    prepare: PrepareTable = Field(default_factory=PrepareTable, description="The cache that is needed.")
    camera: CameraTable = Field(default_factory=CameraTable, description="The camera that encoders imitate.")


class ModelTable(Table):
    """The spiking network."""

    backbone: choices.Backbone | ImportPath = key(
        source=KT, expected="'vgg-snn', 'resnet18', 'scnn' or an import path such as 'mypackage.nets:build'"
    )
    """Network. vgg-snn and resnet18 take 48 x 48 cells, scnn small frames; an import path names a network of your own,
    see docs/how-to/own-network.md."""
    batch_norm: choices.BatchNormMode = key("per-step", KT_INFERRED)
    """Statistics of batch norm. per-step: of each time step and stream; fused: over all time steps; none: no batch
    norm."""
    batch_norm_batch: choices.BatchScope = key("global")
    """Samples behind the statistics of batch norm where several ranks train. global: those of the whole batch; local:
    those of each rank, and the running statistics of the first."""
    eval_statistics: choices.EvalStatistics = key("shared", KT_INFERRED)
    """Running statistics of batch norm. shared: of both streams; event: of the event stream only, for evaluation."""
    surrogate: choices.Surrogate | choices.Auto = key("auto", KT_INFERRED)
    """Surrogate gradient of the spike. auto: rectangle for scnn, triangle for the other networks."""
    separate_heads: bool = key(True, KT_INFERRED)
    """Classification head per stream; event-only has one head anyway."""

    @property
    def is_imported(self) -> bool:
        """Whether the network is named by an import path."""
        return ":" in self.backbone


class MethodTable(Table):
    """What is trained."""

    name: choices.MethodName = key(source=TMKT)
    """event-only: the event stream only; images-only: images only, evaluated on events; fine-tune: images first, then
    events; kt: image sequences slide into events, sample by sample, aligned with the event stream; kt+tsm: kt with
    time-step mixup; tmkt: time-step mixup with modality guidance and ratio perception."""


class MixTable(Table):
    """How the image stream is mixed. Unused by event-only, images-only and fine-tune; kt uses only `slide`."""

    time_step: bool = key(True, TMKT)
    """Time-step mixup: image frames first, event frames from a step on."""
    ratio: Annotated[float, Field(ge=0, le=1)] | choices.ByCount = key(
        0.5, "inferred; by-count: own choice", unit="share"
    )
    """Expected share of event steps at the start. by-count: recordings / (recordings + images)."""
    end_ratio: float = key(1.0, unit="share", ge=0, le=1)
    """Expected share of event steps at the end; used by the schedules linear and cubic."""
    schedule: choices.MixSchedule = key("constant", INFERRED)
    """Schedule of the ratio over the training iterations."""
    law: choices.MixDistribution = key("sequential", INFERRED)
    """Distribution of the replacement point t*, the first event step. sequential: as stated, may replace no step;
    renormalised: replaces at least the last step."""
    slide: choices.SlideSchedule | choices.Auto = key("auto", KT_INFERRED)
    """Probability that a recording replaces the whole image sequence. cubic: third power of the progress; step: 0,
    then 1 from halfway on; late-step: 1 from one epoch later on, as in the KT code; auto: cubic in kt and kt+tsm, off
    in tmkt."""


class LossTable(Table):
    """Objectives and their weights; a term of weight 0 is not computed."""

    classification: choices.Classification = key("tet", KT_INFERRED)
    """tet: cross-entropy and margin at every time step; mean-logits: cross-entropy of the logits averaged over time,
    as in KT on N-Omniglot."""
    margin_weight: float = key(1e-3, KT_INFERRED, unit="share", ge=0, le=1)
    """Share of the margin term in TET."""
    margin: float = key(0.5, KT_INFERRED)
    """Logit that the margin term pulls to."""
    alignment: float = key(0.5, KT_INFERRED, ge=0)
    """Weight of CKA alignment."""
    cka: choices.CkaEstimator = key("biased", "biased: KT; debiased: own choice")
    """Estimator of CKA."""
    cka_batch: choices.BatchScope = key("global")
    """Samples that CKA compares where several ranks train. global: those of the whole batch; local: those of each
    rank."""
    modality: float = key(0.1, INFERRED, ge=0)
    """Weight of modality guidance."""
    modality_streams: choices.ModalityStreams = key("mixed", INFERRED)
    """Streams whose frames modality guidance classifies."""
    ratio: float = key(0.1, INFERRED, ge=0)
    """Weight of mix-ratio perception."""
    distillation: float = key(0.0, ge=0)
    """Weight of distilling the logits of the mixed stream into the event stream, in the manner of CKD; 0: off. That the
    teacher is the same network, best after image_epochs, is inferred."""
    temperature: float = key(4.0, gt=0, le=1000)
    """Temperature of the distilled logits."""
    coefficients: choices.CoefficientMode = key("learned", KT_INFERRED)
    """Coefficients that balance alignment and event classification at each time step."""
    coefficient: float = key(0.5, unit="share", ge=0, le=1)
    """Share c of alignment at every time step, 1 - c of event classification; used by fixed."""


class OptimTable(Table):
    """The optimizer and its learning rate per epoch."""

    name: choices.OptimizerName = key("adamw", f"{KT_INFERRED}; sgd, adam: own choice")
    """Optimizer. adamw: decoupled weight decay; sgd, adam: weight decay added to the gradient."""
    learning_rate: float = key(source=KT_INFERRED, gt=0, le=1e30)
    """Peak learning rate, not rescaled by the batch size. KT: 5e-3 * batch / 1024."""
    second_stage_learning_rate: Annotated[float, Field(gt=0, le=1e30)] | choices.Auto = key("auto")
    """Peak learning rate of the epochs after image_epochs; auto: learning_rate."""
    min_learning_rate: float = key(1e-5, KT_INFERRED, ge=0)
    """Learning rate at the end of the cosine."""
    schedule: choices.LearningRateSchedule = key("cosine", KT_INFERRED)
    """Schedule of the learning rate over the epochs."""
    step_epochs: tuple[Annotated[int, Field(ge=1)], ...] = key(
        (), KT, unit="epochs", expected="a list of whole numbers of 1 or more", strict=False
    )
    """Epochs at which the learning rate is multiplied by step_factor; used by step."""
    step_factor: float = key(0.1, KT, gt=0, le=1)
    """Factor of each step; used by step."""
    warmup_epochs: int = key(5, KT_INFERRED, unit="epochs", ge=0)
    """Epochs of linear warm-up; 0: none."""
    warmup_learning_rate: float = key(1e-6, KT_INFERRED, gt=0)
    """Learning rate of the first warm-up epoch."""
    weight_decay: float = key(0.01, KT_INFERRED, ge=0)
    """Weight decay; not applied to one-dimensional parameters."""
    betas: tuple[float, float] = key((0.9, 0.999), KT_INFERRED, strict=False)
    """Decay rates of the moment estimates, each in [0, 1); used by adamw and adam."""
    momentum: float = key(0.9, ge=0, lt=1)
    """Momentum; used by sgd."""


class TrainTable(Table):
    """The training loop."""

    epochs: int = key(source=KT_INFERRED, unit="epochs", ge=1)
    """Passes over the training split."""
    image_epochs: Annotated[int, Field(ge=1)] | choices.Auto = key("auto", unit="epochs")
    """Epochs on images before those of the method, with an optimizer and a schedule of their own; auto: as many as
    `epochs` in fine-tune, none in kt, kt+tsm and tmkt."""
    steps_per_epoch: Annotated[int, Field(ge=1, le=10**6)] | choices.Auto = key("auto", unit="batches")
    """Batches per epoch, regardless of the number of recordings; auto: one pass over the training split."""
    batch_size: int = key(source=KT_INFERRED, unit="samples", ge=1)
    """Samples per batch; alignment and batch norm depend on it."""
    sampler: choices.Sampler = key("class-balanced", KT_INFERRED)
    """class-balanced: with replacement, weight 1 / class size; shuffled: each sample once per pass."""
    drop_last: bool = key(True, KT_INFERRED)
    """Drop the last batch if it is smaller."""
    crop_padding: int = key(4, KT_INFERRED, unit="cells", ge=0)
    """Zero padding of event frames before the random crop; 0: off."""
    flip: bool = key(False, KT_INFERRED)
    """Mirror half of the event samples left to right; KT: on for CEP-DVS."""
    rotation: float = key(0.0, KT_INFERRED, unit="degrees", ge=0, le=180)
    """Largest angle of a random rotation of event frames; KT: 15 for CEP-DVS."""
    select: choices.SelectedEpoch = key("best", KT_INFERRED)
    """Epoch whose weights are kept. best: highest accuracy on the validation split (kt-paper: on test), then lowest
    loss; last: the last epoch, whatever its accuracy."""
    final_split: choices.FinalSplit = key("test")
    """Split of the evaluation after training. val: no test recording is read, as in the trials of a sweep."""
    eval_batch_size: int = key(128, unit="samples", ge=1)
    """Samples per batch of evaluation; results agree up to rounding."""
    device: choices.Device = key("auto")
    """auto: the GPU if there is one."""
    precision: choices.Precision = key("auto")
    """auto: float32 on a CPU, tf32 on a GPU, as the references. tf32: convolutions round their inputs to 10 mantissa
    bits; float16, bfloat16: activations between layers have 10 or 7 mantissa bits and half the size, on a GPU only."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | choices.Auto = key("auto", unit="threads")
    """CPU threads; auto: torch's default. Another number may change the last digits."""
