"""Which keys of a recipe a method uses."""

from __future__ import annotations

_IMAGES = ("data.pairing", "data.image_encoding", "data.image_share", "data.image_pool", "data.camera")
_TWO_STREAMS = (
    "mix.slide",
    "model.separate_heads",
    "model.eval_statistics",
    "loss.alignment",
    "loss.cka",
    "loss.coefficient",
    "loss.distillation",
    "loss.temperature",
)
_MIXUP = ("mix.time_step", "mix.ratio", "mix.end_ratio", "mix.schedule", "mix.law")
_PERCEPTION = ("loss.modality", "loss.ratio")
_TWO_STAGES = ("train.image_epochs", "optim.second_stage_learning_rate")
_AUGMENTATION = ("train.crop_padding", "train.flip", "train.rotation")
_UNUSED: dict[str, tuple[str, ...]] = {
    "event-only": (*_IMAGES, *_TWO_STREAMS, *_MIXUP, *_PERCEPTION, *_TWO_STAGES),
    "images-only": (*_TWO_STREAMS, *_MIXUP, *_PERCEPTION, *_TWO_STAGES, *_AUGMENTATION),
    "fine-tune": (*_TWO_STREAMS, *_MIXUP, *_PERCEPTION),
    "kt": (*_MIXUP, *_PERCEPTION),
    "kt+tsm": _PERCEPTION,
    "tmkt": (),
}
"""Prefixes of the keys that a method does not use."""


def method_uses(name: str, key: str) -> bool:
    """Return whether the method `name` uses the dotted `key`; a name that is no method uses all of them."""
    return not key.startswith(_UNUSED.get(name, ()))
