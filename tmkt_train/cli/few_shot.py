"""The command `tmkt-train few-shot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tmkt_data.cli.console import print_rows
from tmkt_data.cli.reporting import put_json
from tmkt_train.cli.display import RUN, RUN_CACHE
from tmkt_train.cli.early import require_run


def _parse_numbers(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 0 < int(word) <= 10_000 for word in words):
        raise click.BadParameter(f"found {text!r}, expected whole numbers from 1 to 10000, such as 1,5")
    return tuple(dict.fromkeys(int(word) for word in words))


@click.command("few-shot")
@RUN
@click.option("--ways", callback=_parse_numbers, help="Classes per episode.  [default: 5,20, or as many as there are]")
@click.option("--shots", callback=_parse_numbers, help="Labeled examples per class.  [default: those of 1,5 that fit]")
@click.option("--queries", default=5, show_default=True, type=click.IntRange(1, 1000), help="Queries per class.")
@click.option(
    "--episodes", "num", default=1000, show_default=True, type=click.IntRange(2, 10**6), help="Number of episodes."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Seed of the episodes.")
@RUN_CACHE
def few_shot(run: Path, cache: Path | None, **options: Any) -> None:
    """Evaluate a finished run on few-shot episodes.

    Each query is assigned to the nearest class prototype, the mean feature of the labeled examples. For classes that
    the network has never seen, train with --set data.held_out_classes=N.
    """
    require_run(run, cache)
    from tmkt_train.experiments.few_shot import Episodes, evaluate_few_shot
    from tmkt_train.training.folder import RunFolder

    sizes = {name: options.pop(name) for name in ("ways", "shots")}
    record = evaluate_few_shot(run, **sizes, episodes=Episodes(**options), cache=cache)
    put_json(record)
    rows = [
        ("classes", f"{record['num_classes']}, {record['classes']}"),
        ("recordings", str(record["num_recordings"])),
    ]
    for found in record["accuracies"]:
        accuracy = f"{100 * found['accuracy']:.1f} ± {100 * found['interval']:.1f} %"
        rows.append((f"{found['ways']}-way {found['shots']}-shot", f"{accuracy} over {found['episodes']} episodes"))
    print_rows([*rows, ("written", str(RunFolder(run).few_shot))])
    for note in record["notes"]:
        click.echo(f"note: {note}")
    if record["classes"] == "trained on":
        click.echo("note: these classes were trained on; for unseen ones train with --set data.held_out_classes=N")
