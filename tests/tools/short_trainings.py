"""Short trainings: each method, network and option once, on small caches, in seconds."""

from __future__ import annotations

from pathlib import Path

SMALL = {
    "train.epochs": "2",
    "optim.warmup_epochs": "0",
    "optim.learning_rate": "0.01",
    "train.steps_per_epoch": "20",
    "train.batch_size": "16",
    "train.num_threads": "1",
    "train.device": "cpu",
}
TINY_SETTINGS = {
    "data.prepare.time_bins": "4",
    "data.prepare.size": "16",
    "data.prepare.val_share": "0.05",
    "data.prepare.test_share": "0.05",
}
FITTING = {
    "tiny": TINY_SETTINGS,
    "tiny-voxel": TINY_SETTINGS | {"data.prepare.representation": "voxel"},
    "digits-poisson": TINY_SETTINGS | {"data.prepare.bake": "poisson"},
    "made-folder-other": {
        "data.prepare.time_bins": "3",
        "data.prepare.size": "32",
        "train.batch_size": "4",
        "train.epochs": "1",
        "train.steps_per_epoch": "2",
    },
    "nmnist-real": {"train.steps_per_epoch": "8"},
    "caltech101-twins": {"train.steps_per_epoch": "5"},
}
"""Settings that a recipe needs for a cache."""
VGG, RESNET = {"model.backbone": "vgg-snn"}, {"model.backbone": "resnet18"}
RENORMALISED = {"mix.law": "renormalised", "mix.ratio": "0.7"}
TRAININGS: dict[str, tuple[str, str, dict[str, str]]] = {
    # Methods.
    "tmkt": ("tiny", "scnn_digits", {}),
    "event-only": ("tiny", "scnn_digits_event_only", {}),
    "fine-tune": ("tiny", "scnn_digits_fine_tune", {"train.image_epochs": "1"}),
    "kt": ("tiny", "scnn_digits_kt", {}),
    "kt-tsm": ("tiny", "scnn_digits_kt_tsm", {}),
    # The ratio, its course and its distribution.
    "mix-by-count": ("tiny", "scnn_digits", {"mix.ratio": "by-count", "data.recordings_per_class": "40"}),
    "mix-linear": ("tiny", "scnn_digits", {"mix.schedule": "linear", "mix.ratio": "0.2", "mix.end_ratio": "0.9"}),
    "mix-cubic": ("tiny", "scnn_digits", {"mix.schedule": "cubic", "mix.ratio": "0.1"}),
    "mix-self-setting": ("tiny", "scnn_digits", {"mix.schedule": "self-setting"}),
    "mix-renormalised": ("tiny", "scnn_digits", RENORMALISED),
    "mix-renormalised-linear": ("tiny", "scnn_digits", RENORMALISED | {"mix.schedule": "linear"}),
    "mix-none": ("tiny", "scnn_digits", {"mix.time_step": "false"}),
    "mix-all-events": ("tiny", "scnn_digits", {"mix.ratio": "1.0"}),
    "mix-slide-step": ("tiny", "scnn_digits_kt", {"mix.slide": "step"}),
    "mix-slide-cubic": ("tiny", "scnn_digits", {"mix.slide": "cubic"}),
    "mix-slide-off": ("tiny", "scnn_digits_kt_tsm", {"mix.slide": "off"}),
    # The network.
    "norm-fused": ("tiny", "scnn_digits", {"model.batch_norm": "fused"}),
    "norm-none": ("tiny", "scnn_digits", {"model.batch_norm": "none"}),
    "statistics-event": ("tiny", "scnn_digits", {"model.eval_statistics": "event"}),
    "statistics-event-fused": (
        "tiny",
        "scnn_digits_kt",
        {"model.eval_statistics": "event", "model.batch_norm": "fused"},
    ),
    "surrogate-triangle": ("tiny", "scnn_digits", {"model.surrogate": "triangle"}),
    "heads-separate": ("tiny", "scnn_digits", {"model.separate_heads": "true"}),
    "vggsnn": ("made-folder-other", "scnn_folder", VGG),
    "vggsnn-fused": ("made-folder-other", "scnn_folder_kt", VGG | {"model.batch_norm": "fused"}),
    "vggsnn-event-only": ("made-folder-other", "scnn_folder_event_only", VGG),
    "resnet18": ("made-folder-other", "scnn_folder", RESNET),
    "resnet18-rectangle": (
        "made-folder-other",
        "scnn_folder_kt",
        RESNET | {"model.surrogate": "rectangle", "model.eval_statistics": "event"},
    ),
    "scnn-large": ("made-folder-other", "scnn_folder", {"train.batch_size": "8"}),
    # Objectives.
    "loss-mean-logits": (
        "tiny",
        "scnn_digits",
        {"loss.classification": "mean-logits", "loss.coefficients": "off"},
    ),
    "loss-debiased": ("tiny", "scnn_digits", {"loss.cka": "debiased"}),
    "loss-modality-both": ("tiny", "scnn_digits", {"loss.modality_streams": "both", "loss.modality": "0.5"}),
    "loss-fixed": ("tiny", "scnn_digits", {"loss.coefficients": "fixed", "loss.coefficient": "0.3"}),
    "loss-off": ("tiny", "scnn_digits", {"loss.coefficients": "off", "loss.alignment": "0.0"}),
    "loss-events-alone": ("tiny", "scnn_digits", {"loss.modality": "0.0", "loss.ratio": "0.0", "loss.margin": "1.0"}),
    # The loop.
    "train-augmented": ("tiny", "scnn_digits", {"train.flip": "true", "train.rotation": "15.0"}),
    "train-plain": ("tiny", "scnn_digits", {"train.crop_padding": "0"}),
    "train-balanced": (
        "tiny",
        "scnn_digits",
        {"train.sampler": "class-balanced", "train.steps_per_epoch": "auto", "data.recordings_per_class": "5"},
    ),
    "train-drop-last": (
        "tiny",
        "scnn_digits_event_only",
        {"train.drop_last": "true", "train.steps_per_epoch": "auto", "data.event_share": "0.05"},
    ),
    "optim-step": (
        "tiny",
        "scnn_digits",
        {"optim.schedule": "step", "optim.step_epochs": "[1]", "optim.weight_decay": "0.1"},
    ),
    "optim-constant": ("tiny", "scnn_digits", {"optim.schedule": "constant", "optim.warmup_epochs": "1"}),
    # The data.
    "data-twin": ("tiny", "scnn_digits", {"data.pairing": "twin"}),
    "data-poisson": ("tiny", "scnn_digits", {"data.image_encoding": "poisson", "data.event_scale": "binary"}),
    "data-baked": ("digits-poisson", "scnn_digits", {"data.image_encoding": "baked", "data.event_scale": "raw"}),
    "data-voxel": ("tiny-voxel", "scnn_digits", {"data.event_scale": "max"}),
    "data-shares": ("tiny", "scnn_digits", {"data.event_share": "0.1", "data.image_share": "0.3"}),
    "data-pool-all": ("tiny", "scnn_digits", {"data.image_pool": "all", "data.event_scale": "step-max"}),
    "data-pool-prefix": ("tiny", "scnn_digits", {"data.image_pool": "shuffled-prefix", "data.event_scale": "clip1"}),
    "data-kt-paper": ("tiny", "scnn_digits", {"data.protocol": "kt-paper", "seed": "7"}),
    "data-held-out": ("tiny", "scnn_digits", {"data.held_out_classes": "4"}),
    "nmnist": ("nmnist-real", "scnn_nmnist", {}),
    "caltech-twins": ("caltech101-twins", "scnn_caltech_twins", {}),
}
"""A cache, a recipe, and settings of it, by name."""


def training_arguments(name: str, caches: Path, **more: str) -> list[str | Path]:
    """Return the arguments of `tmkt-train recipe` for a short training.

    Args:
        name: Its name in `TRAININGS`.
        caches: Folder of the caches.
        more: Further settings, over the others.
    """
    cache, recipe, settings = TRAININGS[name]
    found = SMALL | FITTING[cache] | settings | more
    words = [word for key, value in found.items() for word in ("--set", f"{key}={value}")]
    return [recipe, "--cache", caches / f"{cache}.h5", *words]
