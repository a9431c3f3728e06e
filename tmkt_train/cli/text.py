"""Runs and comparisons as lines of text, at most 80 columns wide; loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tmkt_data.cli.console import megabytes
from tmkt_data.errors import counted

if TYPE_CHECKING:
    from tmkt_train.experiments.decision import Decision, Tried
    from tmkt_train.experiments.suggest import Suggestion
    from tmkt_train.experiments.table import GroupRow
    from tmkt_train.recipe.recipe import Recipe
    from tmkt_train.report.statistics import Spread
    from tmkt_train.training.estimate import Estimate
    from tmkt_train.training.progress import EpochDone, Started

_NAME = 20


def started_lines(started: Started) -> Iterator[str]:
    """Yield what a run will do, one line per fact."""
    recipe = started.recipe
    train = recipe.train
    rows = [
        ("run", str(started.run)),
        ("method", f"{recipe.method.name} with {recipe.model.backbone}, {started.num_parameters:,} parameters"),
        ("cache", str(started.cache)),
        ("train", f"{started.num_train:,} recordings of {started.num_classes} classes of {recipe.data.dataset}"),
        ("select", _selection(started)),
        ("epochs", f"{_stages(recipe)} of {started.batches_per_epoch} steps of {train.batch_size}"),
        ("learning rate", f"{_rates(recipe)} (effective), {recipe.optim.schedule}"),
        ("device", started.device),
    ]
    if started.first_epoch or started.first_batch:
        rows.append(("resumes", f"after epoch {started.first_epoch}, step {started.first_batch} of the next"))
    if recipe.optimism:
        rows.append(("optimistic", recipe.optimism))
    yield from (f"  {name:<17} {value}" for name, value in rows)
    yield from (f"note: {note}" for note in started.notes)


def _stages(recipe: Recipe) -> str:
    epochs = str(recipe.train.epochs)
    return f"{recipe.image_epochs} on images, then {epochs}" if recipe.image_epochs else epochs


def _rates(recipe: Recipe) -> str:
    first, second = recipe.optim.learning_rate, recipe.optim.second_stage_learning_rate
    return f"{first:g}, then {second:g}" if recipe.image_epochs and second != "auto" else f"{first:g}"


def _selection(started: Started) -> str:
    split = f"{started.num_selection:,} recordings of {started.selection_split}"
    return split if started.recipe.train.select == "best" else f"the last epoch; {split} are only evaluated"


def epoch_line(done: EpochDone, times: Sequence[float]) -> str:
    """Format an epoch as one line, counted from 1; `times` are the seconds per epoch of this session."""
    row = done.row
    left = (done.epochs - row["epoch"] - 1) * sum(times) / len(times)
    name = "val" if "val_accuracy" in row else "test (optimistic)"
    mixed = f"  mixed {row['realised_ratio']:.2f}" if "realised_ratio" in row else ""
    return (
        f"epoch {row['epoch'] + 1:>3}/{done.epochs}  loss {row['train_loss']:.3f}  "
        f"{name} {percent(row[f'{name.split()[0]}_accuracy'])}{'*' if done.is_best else ' '}{mixed}  "
        f"{row['samples_per_s']:.3g}/s  left {duration(left)}"
    )


def estimate_lines(recipe: Recipe, estimate: Estimate) -> Iterator[str]:
    """Yield what a training takes, one line per fact, and a note if it does not fit."""
    yield f"device: {estimate.device}"
    of = f" of {megabytes(estimate.available_bytes)} that are free" if estimate.available_bytes else ""
    yield f"memory: about {megabytes(estimate.memory_bytes)}{of}"
    batch_size, fits = recipe.train.batch_size, estimate.fitting_batch
    if estimate.step_s:
        by = "" if estimate.measured_batch == batch_size else f", measured with {estimate.measured_batch} samples"
        steps = f"{estimate.num_steps:,} steps of {estimate.step_s:.3g} s{by}"
        yield f"time: about {duration(estimate.total_s)}, {steps}, and an evaluation after each epoch"
    if 0 < fits < batch_size:
        yield (
            f"note: train.batch_size = {batch_size} does not fit, about {fits} do: lower it, or set "
            "train.precision=bfloat16 on a GPU"
        )


def comparison_lines(groups: Sequence[GroupRow]) -> Iterator[str]:
    """Yield the table of a comparison, in percent and percentage points; a star marks optimistic accuracies.

    The groups of the baseline come first. The column `test` is the selected epoch, `last epoch` the last one on the
    same test recordings.
    """
    yield f"  {'recipe':<{_NAME}} {'share':>6} {'n':>2} {'test':>12} {'last epoch':>11}  difference, 95 %"
    for group in groups:
        # The end of a name tells the variants of a recipe apart.
        name = group.recipe if len(group.recipe) <= _NAME else f"…{group.recipe[1 - _NAME :]}"
        accuracy, last = _mean(group.spread, "*" if group.optimistic else ""), _mean(group.last_spread)
        cells = f"{name:<{_NAME}} {100 * group.share:>5.3g}% {group.spread.num:>2} {accuracy:>12}"
        yield f"  {cells} {last if group.spread.num else '':>11}  {group.difference_text}"


def _mean(spread: Spread, star: str = "") -> str:
    return spread.in_percent(star) or "failed"


def suggestion_head(planned: Suggestion) -> Iterator[str]:
    """Yield what a suggestion will try, before any training."""
    train = planned.recipe.train
    seeds = ", ".join(map(str, planned.seeds))
    epochs, steps = counted(train.epochs, "epoch"), counted(int(train.steps_per_epoch), "step")
    yield f"{planned.num_runs} runs of {epochs} of {steps}, seeds {seeds}"
    yield f"  recordings     {planned.num_train} of training, {planned.num_val} of validation"
    for stage in planned.stages:
        values = ", ".join(str(value).lower() for value in stage.others)
        yield f"  {stage.title:<14} {str(stage.own).lower()} (the recipe's) or {values}"
    if planned.correlations:
        known = ", ".join(f"{encoder} {own:.2f}" for encoder, own in planned.correlations.items())
        yield f"  correlation    {known}"


def decision_lines(decisions: Sequence[Decision]) -> Iterator[str]:
    """Yield the table of a suggestion, in percent and percentage points; a star marks the chosen values."""
    yield f"    {'setting':<15} {'value':<12} {'n':>2} {'last epoch':>11} {'selected':>11}  difference, 95 %"
    for decision in decisions:
        for one in decision.tried:
            name = decision.stage.title if one is decision.tried[0] else ""
            star = "*" if one.value == decision.chosen.value else " "
            last, best = _mean(one.last_spread), _mean(one.selected_spread)
            yield f"  {star} {name:<15} {one.words:<12} {one.last_spread.num:>2} {last:>11} {best:>11}  {_remark(one)}"
        yield f"    {decision.stage.title}: {decision.chosen.words}: {decision.reason}"


def _remark(one: Tried) -> str:
    return "the recipe's" if one.difference is None else one.difference.text


def percent(share: float) -> str:
    """Format a share in [0, 1] as percent."""
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Format a time in its two largest units.

    Example:
        >>> duration(59.6), duration(3725)
        ('1 min 00 s', '1 h 02 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
