"""The command `tmkt-train few-shot`."""

from __future__ import annotations

from pathlib import Path

import click

from tmkt_data.cli.console import print_rows
from tmkt_train.cli.display import CACHE


def _numbers(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 0 < int(word) <= 10_000 for word in words):
        raise click.BadParameter(f"found {text!r}, expected whole numbers from 1 to 10000, such as 1,5")
    return tuple(dict.fromkeys(int(word) for word in words))


@click.command("few-shot")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--ways", default="5,20", show_default=True, callback=_numbers, help="Classes of an episode.")
@click.option("--shots", default="1,5", show_default=True, callback=_numbers, help="Examples of each class.")
@click.option("--queries", default=5, show_default=True, type=click.IntRange(1, 1000), help="Queries of each class.")
@click.option("--episodes", default=1000, show_default=True, type=click.IntRange(2, 10**6), help="Number of episodes.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the episodes.")
@CACHE
def few_shot(
    run: Path,
    ways: tuple[int, ...],
    shots: tuple[int, ...],
    queries: int,
    episodes: int,
    seed: int,
    cache: Path | None,
) -> None:
    """Tell classes apart by a few examples each, in the feature space of a finished run.

    Each query gets the class of the nearest mean of examples. Few-shot in the strict sense is a run whose recipe sets
    data.held_out_classes: those classes were never trained on.
    """
    from tmkt_train.experiments.few_shot_run import evaluate_few_shot, rows_of

    record = evaluate_few_shot(run, ways=ways, shots=shots, queries=queries, episodes=episodes, seed=seed, cache=cache)
    print_rows(
        [
            ("classes", f"{record['num_classes']}, {record['classes']}"),
            ("recordings", str(record["num_recordings"])),
            *rows_of(record),
            ("written", str(run / "few_shot.json")),
        ]
    )
    if record["classes"] == "trained on":
        click.echo("note: these classes were trained on; for unseen ones train with --set data.held_out_classes=N")
