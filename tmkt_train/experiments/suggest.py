"""Plan which settings to suggest for a cache: the stages, the values of each, and the length of the short runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tmkt_data import CacheInfo, PairedFrames, read_cache_info
from tmkt_data.datasets.registry import dataset_info
from tmkt_data.errors import TmktError
from tmkt_data.pairs.encoder_distance import compare_encoders
from tmkt_train.data.cache import choose_cache, open_frames, selection_split
from tmkt_train.data.sampling import count_batches
from tmkt_train.errors import RecipeError, RunError
from tmkt_train.experiments.decision import LEAST_RECORDINGS, Stage
from tmkt_train.experiments.plan import RunOptions, require_writable
from tmkt_train.experiments.search_space import Value, setting_of
from tmkt_train.experiments.sweep import Search, plan_trial, without_test
from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.recipe.recipe import Recipe, toml_value

_ENCODING, _HEADS, _RATIO, _WARM = (
    "data.image_encoding",
    "model.separate_heads",
    "mix.ratio",
    "train.image_epochs",
)
_MOST_EPOCHS, _MOST_STEPS = 10, 20
_ENCODERS, _UNKNOWN_PATH = ("repeat", "gradient", "saccade"), "microsaccade"
_FAR = 0.5
"""Share of the best correlation below which an encoder is not trained: a choice of this project, never measured."""
_SAME_RATIO = 0.02


class Budget(NamedTuple):
    """Epochs of a short run, and batches of an epoch; None for those of the recipe, at most 10 and 20."""

    epochs: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Suggestion(Search):
    """A planned suggestion; trials are named by the values in which they differ from the recipe.

    Attributes:
        stages: The settings to decide on, in this order.
        correlations: Correlation of training recordings with their twins by encoder; empty without twins.
        num_train: Training recordings.
        num_val: Validation recordings.
        full_settings: Settings of a training of full length.
        notes: What is not tried, and why, one line each.
    """

    stages: tuple[Stage, ...]
    correlations: Mapping[str, float]
    num_train: int
    num_val: int
    full_settings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def num_runs(self) -> int:
        """Runs of all stages; the best of one stage is not trained again in the next."""
        return self.num_seeds * (1 + sum(len(stage.others) for stage in self.stages))

    def settings_with(self, changed: Mapping[str, Value]) -> list[str]:
        """Return the settings of a training of full length with the chosen values."""
        epochs = load_recipe(self.source, self.full_settings).train.epochs
        values = {key: epochs if key == _WARM and value != "auto" else value for key, value in changed.items()}
        return [*self.full_settings, *(setting_of(key, value) for key, value in values.items())]


def default_recipe(cache: Path) -> tuple[str, list[str]]:
    """Return the recipe of the dataset of a cache, and the settings that make it fit the cache.

    Raises:
        CacheError: The file is not a readable cache.
        TmktError: The dataset is unknown, or has no recipe.
    """
    info = read_cache_info(cache)
    name = dataset_info(info.dataset).recipe
    needed = load_recipe(find_recipe(name)).data.prepare.to_spec()
    if needed.bake == "none":
        needed = replace(needed, bake=info.spec.bake)
    return name, [f"data.prepare.{key}={text}" for key, text in info.spec.written_differences(needed).items()]


def plan_suggestion(
    name: str, options: RunOptions | None = None, *, budget: Budget | None = None, num_seeds: int = 3
) -> Suggestion:
    """Plan a suggestion; nothing is trained, and no test recording is read.

    With fewer than three `num_seeds`, no difference is beyond noise; the default folder is `runs/suggest-<recipe>`.

    Raises:
        RecipeError: The recipe is invalid.
        RunError: The method uses no images, there is nothing to choose, one class only, no validation split or too few
            recordings in it, or the folder is not writable or holds other runs.
        TmktError: The cache does not fit the recipe, or has no images.
    """
    options = options or RunOptions()
    source = find_recipe(name)
    long = load_recipe(source, options.settings)
    if not long.needs_images:
        raise RunError(
            f"{long.name}: method.name is {long.method.name!r}, which uses no images, so there is nothing to choose; "
            "add --set method.name=tmkt"
        )
    length = list(_length(long, budget or Budget()))
    settings, recipe = without_test(source, replace(options, settings=(*options.settings, *length)), "suggest")
    cache = choose_cache(recipe, options.cache)
    frames = _open_checked(recipe, cache)
    num_val = len(open_frames(recipe, frames.cache, selection_split(recipe)))
    if num_val < LEAST_RECORDINGS:
        raise RunError(
            f"{cache.path}: {num_val} validation recordings, expected at least {LEAST_RECORDINGS}: no difference would "
            "be beyond noise; prepare with a larger --val-share"
        )
    search = Search(
        options.out or Path("runs") / f"suggest-{long.name}", source, settings, recipe, num_seeds, cache.path
    )
    correlations = _correlations(frames)
    notes: list[str] = []
    stages = tuple(_stages(search, frames, correlations, notes))
    if not stages:
        raise RunError(f"{long.name}: nothing to choose with {cache.path}: {'; '.join(notes) or 'one value each'}")
    require_writable(search.out)
    plan_trial(search, 0, {})
    is_longer = _num_batches(recipe, len(frames)) > _num_batches(long, len(frames))
    return Suggestion(
        **vars(search),
        stages=stages,
        correlations=correlations,
        num_train=len(frames),
        num_val=num_val,
        full_settings=(*options.settings, *(length if is_longer else ())),
        notes=tuple(notes),
    )


def _open_checked(recipe: Recipe, cache: CacheInfo) -> PairedFrames:
    frames = open_frames(recipe, cache.path, "train")
    if len(set(frames.labels.tolist())) < 2:
        raise RunError(f"{cache.path}: recordings of one class only, expected two or more; prepare more classes")
    return frames


def _length(recipe: Recipe, budget: Budget) -> Iterator[str]:
    """Yield the settings of a short run; warm-up and steps of the learning rate shrink with the epochs."""
    train, optim = recipe.train, recipe.optim
    epochs = budget.epochs or min(train.epochs, _MOST_EPOCHS)
    steps = budget.steps or (
        _MOST_STEPS if train.steps_per_epoch == "auto" else min(train.steps_per_epoch, _MOST_STEPS)
    )
    warmup = min(optim.warmup_epochs, epochs // 5)
    yield from (f"train.epochs={epochs}", f"train.steps_per_epoch={steps}", f"optim.warmup_epochs={warmup}")
    if optim.schedule == "step":
        places = sorted({max(1, round(place * epochs / train.epochs)) for place in optim.step_epochs})
        yield f"optim.step_epochs={toml_value(places)}"
    if train.image_epochs != "auto":
        yield f"{_WARM}={max(warmup + 1, round(train.image_epochs * epochs / train.epochs))}"


def _num_batches(recipe: Recipe, num_train: int) -> int:
    train = recipe.train
    if train.steps_per_epoch != "auto":
        return train.epochs * train.steps_per_epoch
    return train.epochs * count_batches(num_train, train.batch_size, drop_last=train.drop_last)


def _correlations(frames: PairedFrames) -> dict[str, float]:
    comparison = compare_encoders(frames)
    found = () if comparison is None else comparison.encoders
    return {one.encoder: one.own for one in found if one.encoder in (*_ENCODERS, _UNKNOWN_PATH, frames.encoder)}


def _stages(
    search: Search, frames: PairedFrames, correlations: Mapping[str, float], notes: list[str]
) -> Iterator[Stage]:
    """Yield the stages that have something to choose; what is not tried is added to `notes`."""
    recipe = search.recipe
    own = recipe.data.image_encoding
    encoders = list(_served(search, _ENCODERS, notes))
    if "saccade" not in encoders:
        encoders += _served(search, (_UNKNOWN_PATH,), notes)
    others = _screened([encoder for encoder in encoders if encoder != own], correlations, notes)
    stages = [Stage("image encoder", _ENCODING, own, tuple(others))]
    if recipe.has_two_streams:
        heads = recipe.model.separate_heads
        stages.append(Stage("separate heads", _HEADS, heads, (not heads,)))
    if recipe.mixes_time_steps:
        stages.append(Stage("mix ratio", _RATIO, recipe.mix.ratio, tuple(_ratios(search, frames, notes))))
    if recipe.has_two_streams:
        warm = recipe.train.image_epochs
        stages.append(Stage("image epochs", _WARM, warm, (recipe.train.epochs if warm == "auto" else "auto",)))
    return (stage for stage in stages if stage.others)


def _served(search: Search, encoders: Sequence[str], notes: list[str]) -> Iterator[str]:
    for encoder in encoders:
        recipe = load_recipe(search.source, [*search.settings, setting_of(_ENCODING, encoder)])
        try:
            open_frames(recipe, choose_cache(recipe, search.cache).path, "train")
        except TmktError as problem:
            notes.append(f"{encoder} is not tried: {problem}")
        else:
            yield encoder


def _screened(encoders: list[str], correlations: Mapping[str, float], notes: list[str]) -> Iterator[str]:
    best = max(correlations, key=lambda encoder: correlations[encoder], default="")
    for encoder in encoders:
        if best and correlations.get(encoder, 1.0) < _FAR * correlations[best]:
            notes.append(
                f"{encoder} is not trained: its frames correlate {correlations[encoder]:.2f} with the own recordings, "
                f"less than half of {best}'s {correlations[best]:.2f} (this limit is a choice of this project, not a "
                f"measured one; to train it anyway: --set {_ENCODING}={encoder})"
            )
        else:
            yield encoder


def _ratios(search: Search, frames: PairedFrames, notes: list[str]) -> Iterator[Value]:
    from tmkt_train.training.setup import start_ratio

    known = [start_ratio(search.recipe, frames)]
    values: tuple[Value, ...] = ("by-count", 0.1, 0.5)
    for value in [value for value in values if value != search.recipe.mix.ratio][:2]:
        try:
            ratio = start_ratio(load_recipe(search.source, [*search.settings, setting_of(_RATIO, value)]), frames)
        except RecipeError as error:
            notes.append(f"{_RATIO} = {value} is not tried: {error.problems[0]}")
            continue
        if any(abs(ratio - other) < _SAME_RATIO for other in known):
            notes.append(f"{_RATIO} = {value} is not tried: it gives {ratio:.3g}, as another value")
            continue
        known.append(ratio)
        yield value
