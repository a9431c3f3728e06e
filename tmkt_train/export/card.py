"""The model card of an exported run, as the Hugging Face hub reads it: YAML for machines, then Markdown for readers.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tmkt_data.spec import PrepareSpec
from tmkt_train.recipe.recipe import Recipe, recipe_text
from tmkt_train.training.exported import ExportedNetwork

RESULTS = (
    *("dataset", "method", "protocol", "pairing", "seed", "epochs", "best_epoch", "selected_on", "optimistic"),
    *("test_accuracy", "last_epoch_test_accuracy", "val_accuracy", "last_epoch_val_accuracy", "num_test", "num_val"),
    *("num_train", "num_classes", "num_parameters", "cache_digest", "split_digest"),
)
"""What a card says of a result."""
_ACCURACIES = (
    ("test_accuracy", "test", "selected"),
    ("last_epoch_test_accuracy", "test", "last"),
    ("val_accuracy", "val", "selected"),
    ("last_epoch_val_accuracy", "val", "last"),
)
_MOST_NAMES = 100
_VERSIONS = ("tmkt", "torch", "spikingjelly", "python", "device", "precision")


def model_card(network: ExportedNetwork, result: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Return README.md of an exported run.

    Args:
        network: The network.
        result: Its result, see `RunFolder.read_result`.
        environment: Where it was trained.
    """
    parts = (
        *_front_matter(network.recipe, result),
        *_about(network.recipe, result),
        *_accuracies(network.recipe, result),
        *_use(network),
        *_data(network.spec, result),
        *_classes(network.class_names),
        *_training(network.recipe, result, environment),
    )
    return "\n".join(parts) + "\n"


def _front_matter(recipe: Recipe, result: Mapping[str, Any]) -> Iterator[str]:
    # JSON is YAML: any text is quoted as YAML reads it.
    quote = json.dumps
    yield from ("---", "library_name: tmkt", "license: other")
    yield "license_name: see-the-license-of-the-training-data"
    yield "tags: [spiking-neural-network, event-camera, neuromorphic, image-classification]"
    yield from ("model-index:", f"- name: {quote(recipe.name)}", "  results:")
    yield from ("  - task:", "      type: image-classification", "      name: Classification of event recordings")
    yield from (
        "    dataset:",
        f"      type: {quote(recipe.data.dataset)}",
        f"      name: {quote(recipe.data.dataset)}",
    )
    yield f"      split: {'test' if result.get('test_accuracy') is not None else 'validation'}"
    yield "    metrics:"
    for key, split, epoch in _ACCURACIES:
        if result.get(key) is not None:
            yield f"    - {{type: accuracy, value: {result[key]!r}, name: {quote(f'{split} accuracy, {epoch} epoch')}}}"
    yield from ("---", "")


def _about(recipe: Recipe, result: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"# {recipe.name}", "", f"{recipe.title}.", "")
    yield (
        f"A spiking network, `{recipe.model.backbone}` with {result['num_parameters']:,} parameters, that classifies "
        f"recordings of an event camera. It was trained on {result['num_train']:,} recordings of "
        f"{recipe.data.dataset} with method `{recipe.method.name}` and recipe `{recipe.name}` (seed {recipe.seed})."
    )
    yield ""


def _accuracies(recipe: Recipe, result: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Accuracy", "", "| split | epoch | accuracy | recordings |", "|---|---|---:|---:|")
    numbers = {"selected": result["best_epoch"] + 1, "last": result["epochs"]}
    for key, split, epoch in _ACCURACIES:
        if result.get(key) is not None:
            count = result.get(f"num_{split}")
            yield f"| {split} | {numbers[epoch]} ({epoch}) | {100 * result[key]:.2f} % | {count} |"
    on = "the last one is taken" if recipe.selected_on == "none" else f"selected by accuracy on {recipe.selected_on}"
    yield from ("", f"Epoch {numbers['selected']} of {numbers['last']}: {on}. Its weights are those of this card.")
    if recipe.optimism:
        yield f"The test accuracy is optimistic: {recipe.optimism}."
    yield ""


def _use(network: ExportedNetwork) -> Iterator[str]:
    spec = network.spec
    yield from ("## Use", "", "`pip install 'tmkt[train,safetensors]'`, then in the folder above this one:", "")
    yield from ("```python", "from tmkt_train import load_run", "")
    yield from ('run = load_run("NAME-OF-THIS-FOLDER")', 'print(run.predict("recording.bin").class_name)', "```", "")
    yield (
        f"`run.network` is a PyTorch module: frames [T={spec.time_bins}, B, C={spec.num_channels}, H={spec.size}, "
        f"W={spec.size}] to logits [T, B, K={len(network.class_names)}], whose mean over T decides. `run.frames(path)` "
        f"makes the frames of a recording, scaled with `{network.recipe.data.event_scale}`."
    )
    if network.recipe.model.is_imported:
        name = network.recipe.model.backbone
        yield f"Its code, `{name}`, is not part of tmkt or of this folder: it has to be importable."
    yield ""


def _data(spec: PrepareSpec, result: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Data", "")
    yield (
        f"Protocol `{result['protocol']}`, pairing `{result['pairing']}`, cache digest `{result['cache_digest']}`. The "
        f"license of {result['dataset']} holds for what was learned from it; it is not known to tmkt: enter it above "
        "before you publish this card."
    )
    yield from ("", *_alignment(result.get("pair_report") or {}))
    yield from ("How recordings and images were prepared:", "", "```json")
    yield from (json.dumps(spec.to_dict(), indent=2, sort_keys=True), "```", "")


def _alignment(report: Mapping[str, Any]) -> Iterator[str]:
    found = report.get("alignment") or {}
    if found.get("own") is None:
        return
    others = ((name.replace("_", " "), found.get(name)) for name in ("same_class", "other_class"))
    beside = ", ".join(f"{value:.3f} with images of the {name}" for name, value in others if value is not None)
    yield (
        f"Recordings correlate {found['own']:.3f} with the gradient of their own image"
        f"{f', {beside}' if beside else ''} ({found['num_recordings']} recordings compared)."
    )
    yield ""


def _classes(names: tuple[str, ...]) -> Iterator[str]:
    shown = ", ".join(f"`{name}`" for name in names[:_MOST_NAMES])
    more = f", and {len(names) - _MOST_NAMES} more in config.json" if len(names) > _MOST_NAMES else ""
    yield from (f"## {len(names)} classes", "", f"{shown}{more}", "")


def _training(recipe: Recipe, result: Mapping[str, Any], environment: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Training", "")
    known = (f"{name} {environment[name]}" for name in _VERSIONS if name in environment)
    yield f"{', '.join(known)}. recipe.toml, with every setting:"
    yield from ("", "```toml", recipe_text(recipe).strip(), "```")
    if result["warnings"]:
        yield from ("", "Warnings of the training:", "", *(f"- {text}" for text in result["warnings"]))
