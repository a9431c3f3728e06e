"""Weights in safetensors load as those of the run, bit for bit, and classify as it does."""

from __future__ import annotations

import builtins
import json
import re
import shutil

import pytest
import torch
import yaml
from click.testing import CliRunner

from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_train import load_run
from tmkt_train.cli.main import main
from tmkt_train.errors import MissingPackageError, RunError
from tmkt_train.export.weights import export_weights


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model"
    export_weights(run, out)
    return out


def test_the_command_writes_a_folder_without_pickles(run, tmp_path):
    result = CliRunner().invoke(main, ["export", str(run), "--safetensors", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "recipe.toml",
    }
    again = CliRunner().invoke(main, ["export", str(run), "--safetensors", str(tmp_path / "out")])
    assert again.exit_code == 1
    assert again.stderr == f"error: {tmp_path / 'out'}: not empty, expected a new folder; delete it, or give another\n"


def test_without_a_folder_it_lies_in_the_run(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    result = CliRunner().invoke(main, ["export", str(tmp_path / "run"), "--safetensors"])
    assert result.exit_code == 0, result.output
    assert load_run(tmp_path / "run" / "safetensors").recipe.name == "tiny"


def test_a_format_is_needed(run):
    result = CliRunner().invoke(main, ["export", str(run)])
    assert (result.exit_code, "expected --safetensors or --nir FILE" in result.stderr) == (2, True)


def test_weights_and_buffers_are_equal_bit_for_bit(run, exported):
    here, there = load_run(run), load_run(exported)
    before, after = here.network.state_dict(), there.network.state_dict()
    assert list(before) == list(after)
    assert len(before) > 10
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert torch.equal(value.view(-1).view(torch.uint8), after[name].view(-1).view(torch.uint8)), name
    assert not there.network.training
    for name in ("recipe", "class_names", "spec", "facts", "num_threads"):
        assert getattr(here, name) == getattr(there, name)


def test_logits_of_real_frames_are_equal(run, exported, tiny_cache):
    here, there = load_run(run), load_run(exported)
    test = PairedFrames(tiny_cache, split="test", pairing="none")
    frames = torch.from_numpy(test.read(range(len(test))).events).float().transpose(0, 1)
    with torch.no_grad():
        assert torch.equal(here.network(frames).logits, there.network(frames).logits)


def test_the_same_run_gives_the_same_bytes(run, exported, tmp_path):
    for path in export_weights(run, tmp_path / "again"):
        assert path.read_bytes() == (exported / path.name).read_bytes()


def test_the_card_says_what_the_result_says(run, exported):
    text = (exported / "README.md").read_text()
    result = json.loads((run / "result.json").read_text())
    _, head, body = text.split("---\n", 2)
    card = yaml.safe_load(head)
    assert (card["library_name"], card["license"]) == ("tmkt", "other")
    (entry,) = card["model-index"]
    assert (entry["name"], entry["results"][0]["dataset"]["type"]) == ("tiny", "digits")
    values = {metric["name"]: metric["value"] for metric in entry["results"][0]["metrics"]}
    assert values == {
        "test accuracy, selected epoch": result["test_accuracy"],
        "test accuracy, last epoch": result["last_epoch_test_accuracy"],
        "val accuracy, selected epoch": result["val_accuracy"],
        "val accuracy, last epoch": result["last_epoch_val_accuracy"],
    }
    assert f"| test | {result['best_epoch'] + 1} (selected) | {100 * result['test_accuracy']:.2f} % | " in body
    assert f"tmkt {result['environment']['tmkt']}" in body
    assert "enter it above before you publish" in body
    assert '"time_bins": 4' in body
    assert "`0`, `1`" in body
    assert "correlate" in body


def test_the_code_of_the_card_runs(exported, digits_root, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), flags=re.DOTALL)
    recording = next(path for path in sorted(digits_root.rglob("*.bin")))
    monkeypatch.chdir(exported.parent)
    code = code.replace("NAME-OF-THIS-FOLDER", exported.name).replace("recording.bin", str(recording))
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.strip() in "0123456789"


def test_predict_takes_the_folder(exported, run, digits_root):
    recording = next(path for path in sorted(digits_root.rglob("*.bin")))
    here, there = (CliRunner().invoke(main, ["predict", str(path), str(recording)]) for path in (run, exported))
    assert (there.exit_code, there.stdout) == (0, here.stdout)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256"),
        ("model.safetensors", lambda data: data[:-5], "SHA-256"),
        ("recipe.toml", lambda data: data.replace(b'"log1p"', b'"raw"'), "was changed, expected the recipe"),
        ("config.json", lambda data: data[:40], "expected JSON"),
        ("config.json", lambda data: data.replace(b'"format": 1', b'"format": 9'), "in format 1"),
        ("config.json", lambda data: data.replace(b'"cache_spec"', b'"cache_spek"'), "found None as cache_spec"),
        ("config.json", lambda data: data.replace(b'"time_bins"', b'"time_binz"'), "unknown time_binz"),
    ],
)
def test_what_was_altered_is_refused_in_one_line(exported, tmp_path, name, change, expected):
    folder = tmp_path / "altered"
    shutil.copytree(exported, folder)
    before = (folder / name).read_bytes()
    assert change(before) != before
    (folder / name).write_bytes(change(before))
    with pytest.raises(RunError, match=expected) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.toml"])
def test_what_is_missing_is_named(exported, tmp_path, name):
    shutil.copytree(exported, tmp_path / "part")
    (tmp_path / "part" / name).unlink()
    with pytest.raises(RunError, match=f"{name}: no such file"):
        load_run(tmp_path / "part")


def test_without_safetensors_one_line_says_what_to_install(run, tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *words, **more):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return imported(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r"pip install 'tmkt\[safetensors\]'"):
        export_weights(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_refused(tmp_path, run):
    shutil.copytree(run, tmp_path / "stopped")
    (tmp_path / "stopped" / "result.json").unlink()
    with pytest.raises(RunError, match="not finished, expected a result; resume it"):
        export_weights(tmp_path / "stopped", tmp_path / "out")
