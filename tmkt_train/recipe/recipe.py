"""The recipe: everything that decides how one experiment runs, in one frozen record."""

from __future__ import annotations

from pydantic import Field, model_validator

from tmkt_train.choices import SlideSchedule
from tmkt_train.recipe.contradictions import contradictions
from tmkt_train.recipe.schema import (
    MAX_SEED,
    DataTable,
    LossTable,
    MethodTable,
    MixTable,
    ModelTable,
    OptimTable,
    Table,
    TrainTable,
)

_IMAGES = ("data.pairing", "data.image_encoding", "data.image_share", "data.image_pool")
_TWO_STREAMS = (
    "mix.slide",
    "model.separate_heads",
    "model.eval_statistics",
    "loss.alignment",
    "loss.cka",
    "loss.coefficient",
)
_MIXUP = ("mix.time_step", "mix.ratio", "mix.end_ratio", "mix.schedule", "mix.law")
_PERCEPTION = ("loss.modality", "loss.ratio")
_TWO_STAGES = ("train.image_epochs",)
_UNUSED: dict[str, tuple[str, ...]] = {
    "event-only": (*_IMAGES, *_TWO_STREAMS, *_MIXUP, *_PERCEPTION, *_TWO_STAGES),
    "fine-tune": (*_TWO_STREAMS, *_MIXUP, *_PERCEPTION),
    "kt": (*_MIXUP, *_PERCEPTION, *_TWO_STAGES),
    "kt+tsm": (*_PERCEPTION, *_TWO_STAGES),
    "tmkt": _TWO_STAGES,
}
"""What each method does not look at, by the first letters of the key."""


class Recipe(Table):
    """One experiment.

    Example:
        >>> recipe = Recipe.model_validate({
        ...     "name": "tiny", "title": "A tiny one", "data": {"dataset": "digits"},
        ...     "model": {"backbone": "scnn"}, "method": {"name": "event-only"},
        ...     "optim": {"learning_rate": 0.001, "warmup_epochs": 0},
        ...     "train": {"epochs": 1, "batch_size": 8},
        ... })
        >>> recipe.needs_images, recipe.data.prepare.time_bins
        (False, 10)
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", description="Short name; names run folders.")
    title: str = Field(min_length=1, description="One line for lists and reports.")
    description: str = Field(default="", description="What the recipe is for and where its numbers come from.")
    seed: int = Field(default=42, ge=0, le=MAX_SEED, description="Seed of weights, order, pairs, mixing and crops.")
    data: DataTable
    model: ModelTable
    method: MethodTable
    mix: MixTable = Field(default_factory=MixTable)
    loss: LossTable = Field(default_factory=LossTable)
    optim: OptimTable
    train: TrainTable

    @property
    def needs_images(self) -> bool:
        """Whether the method trains on images at all."""
        return self.method.name != "event-only"

    @property
    def has_two_streams(self) -> bool:
        """Whether an image stream runs beside the event stream."""
        return self.method.name in ("kt", "kt+tsm", "tmkt")

    @property
    def image_epochs(self) -> int:
        """Epochs on images alone, before those on events."""
        if self.method.name != "fine-tune":
            return 0
        chosen = self.train.image_epochs
        return self.train.epochs if chosen == "auto" else chosen

    @property
    def num_epochs(self) -> int:
        """Epochs in all."""
        return self.image_epochs + self.train.epochs

    @property
    def mixes_time_steps(self) -> bool:
        """Whether single time steps of the image stream are replaced."""
        return self.mix.time_step and self.uses("mix.time_step")

    @property
    def slide(self) -> SlideSchedule:
        """The course of the sliding, `auto` resolved."""
        if not self.uses("mix.slide"):
            return "off"
        if self.mix.slide != "auto":
            return self.mix.slide
        return "off" if self.method.name == "tmkt" else "cubic"

    @property
    def selects_on_test(self) -> bool:
        """Whether the epoch is chosen on the test part, which makes the test accuracy optimistic."""
        return self.data.protocol == "kt-paper"

    @property
    def leaks(self) -> bool:
        """Whether training may draw images of held-out recordings, which makes the test accuracy optimistic."""
        return self.data.image_pool != "split" and self.needs_images

    @property
    def optimism(self) -> str:
        """Why the test accuracy is optimistic, in words; empty where it is not."""
        reasons = []
        if self.selects_on_test:
            reasons.append("the epoch is chosen on test")
        if self.leaks:
            reasons.append("images of held-out recordings are within reach of training")
        return ", and ".join(reasons)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Recipe:
        problems = list(contradictions({name: getattr(self, name) for name in type(self).model_fields}))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def uses(self, key: str) -> bool:
        """Return whether the method looks at the dotted `key`; event-only has no image stream to mix or align."""
        return not key.startswith(_UNUSED[self.method.name])
