import pickle
from pathlib import Path

import pytest
import torch
from file_limits import file_size_limit

from tmkt_train.errors import NonFiniteError, RunError
from tmkt_train.training.checkpoint import load_checkpoint, require_finite, save_checkpoint


class Payload:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def test_checkpoint_comes_back(tmp_path):
    state = {"weights": {"a": torch.arange(3.0)}, "epoch": 4, "betas": (0.9, 0.999), "best": None}
    save_checkpoint(tmp_path / "last.pt", state)
    found = load_checkpoint(tmp_path / "last.pt")
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))
    assert (found["epoch"], found["betas"], found["best"]) == (4, (0.9, 0.999), None)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_write_that_fails_keeps_what_was_there(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    with file_size_limit(10_000), pytest.raises(RunError, match="what was there before is kept"):
        save_checkpoint(path, {"weights": torch.zeros(100_000)})
    assert load_checkpoint(path)["epoch"] == 1
    assert [found.name for found in tmp_path.iterdir()] == ["last.pt"]
    with pytest.raises(RunError, match="cannot be written"):
        save_checkpoint(tmp_path / "no folder" / "x", {})


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut"])
def test_file_that_is_no_checkpoint_is_one_line(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_cut_checkpoint_is_refused_at_any_length(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.zeros(500)})
    whole = path.read_bytes()
    for length in range(1, len(whole), len(whole) // 7):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError):
            load_checkpoint(path)


def test_missing_and_foreign_checkpoints_are_refused(tmp_path):
    with pytest.raises(RunError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save({"model": {}}, tmp_path / "foreign.pt")
    with pytest.raises(RunError, match="another format"):
        load_checkpoint(tmp_path / "foreign.pt")


def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "x": Payload()}, tmp_path / "evil.pt")
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Payload()))
    for name in ("evil.pt", "evil.pickle"):
        with pytest.raises(RunError, match="not a readable checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_weights_that_are_no_numbers_are_named():
    good = [("a", torch.zeros(2)), ("count", torch.tensor(3))]
    require_finite(good, "epoch 1")
    require_finite([], "epoch 1")
    with pytest.raises(NonFiniteError, match="epoch 1: b is NaN or infinite"):
        require_finite([*good, ("b", torch.tensor([0.0, float("nan")]))], "epoch 1")


def test_altered_checkpoint_is_refused_wherever_a_bit_is_flipped(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.arange(200.0)})
    whole = path.read_bytes()
    at = whole.index(torch.arange(200.0).numpy().tobytes())
    path.write_bytes(whole[: at + 5] + bytes([whole[at + 5] ^ 1]) + whole[at + 6 :])
    with pytest.raises(RunError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = load_checkpoint(path)["weights"]
        except RunError:
            continue
        assert torch.equal(found, torch.arange(200.0))


def test_lack_of_memory_is_not_taken_for_damage(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "last.pt", {"epoch": 1})

    def refuse(*_, **__):
        raise MemoryError("no memory")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(MemoryError, match="no memory"):
        load_checkpoint(tmp_path / "last.pt")
