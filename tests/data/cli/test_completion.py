"""What a shell completes, asked as it asks."""

from __future__ import annotations

import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from click.testing import CliRunner

from tmkt_data.cli.main import main as data_main
from tmkt_train.cli.main import main as train_main

PROGRAMS = {"tmkt-data": data_main, "tmkt-train": train_main}


def completed(words, incomplete, program):
    shell = BashComplete(PROGRAMS[program], {}, program, f"_{program.upper().replace('-', '_')}_COMPLETE")
    return [item.value for item in shell.get_completions(words, incomplete)]


@pytest.mark.parametrize(
    ("program", "words", "incomplete", "expected"),
    [
        ("tmkt-data", [], "prep", ["prepare"]),
        ("tmkt-data", ["prepare"], "nm", ["nmnist"]),
        ("tmkt-data", ["download"], "nomni", ["nomniglot"]),
        ("tmkt-data", ["doctor"], "digi", ["digits"]),
        ("tmkt-data", ["plan"], "digi", ["digits"]),
        ("tmkt-data", ["remove"], "digi", ["digits"]),
        ("tmkt-data", ["remove"], "caches/d", ["caches/d"]),
        ("tmkt-train", ["recipe"], "scnn_digits_k", ["scnn_digits_kt", "scnn_digits_kt_tsm"]),
        ("tmkt-train", ["check"], "vggsnn_ncaltech_ev", ["vggsnn_ncaltech_event_only"]),
        ("tmkt-train", ["compare", "scnn_digits"], "scnn_digits_ev", ["scnn_digits_event_only"]),
        ("tmkt-train", ["suggest"], "scnn_cif", ["scnn_cifar10dvs", "scnn_cifar10dvs_event_only"]),
        ("tmkt-train", ["recipe"], "my.to", ["my.to"]),
        ("tmkt-train", ["recipe", "scnn_digits", "--set"], "train.ep", ["train.epochs="]),
        ("tmkt-train", ["check", "scnn_digits", "--set"], "epoc", ["train.epochs="]),
        ("tmkt-train", ["sweep", "scnn_digits", "--set"], "mix.rat", ["mix.ratio="]),
    ],
)
def test_names_and_keys_are_completed(program, words, incomplete, expected):
    assert completed(words, incomplete, program)[: len(expected)] == expected


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
@pytest.mark.parametrize("program", PROGRAMS)
def test_scripts_of_the_page_are_what_the_programs_print(program, shell):
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    found = CliRunner().invoke(
        PROGRAMS[program], [], prog_name=program, env={variable: f"{shell.name}_source"}, standalone_mode=True
    )
    assert found.exit_code == 0, found.output
    assert f"{variable}={shell.name}_complete" in found.output
