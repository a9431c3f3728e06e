import json
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tmkt_train.errors import NonFiniteError, RunError
from tmkt_train.training.checkpoint import load_checkpoint, require_finite, save_checkpoint
from tmkt_train.training.metrics import EpochMeans, MetricsFile, spread
from tmkt_train.training.state import Best, Position

CPU = torch.device("cpu")


@contextmanager
def file_size_limit(num_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    with pytest.raises(RunError, match="no readable checkpoint") as caught:
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
        with pytest.raises(RunError, match="no readable checkpoint"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_weights_that_are_no_numbers_are_named():
    good = [("a", torch.zeros(2)), ("count", torch.tensor(3))]
    require_finite(good, "epoch 1")
    require_finite([], "epoch 1")
    with pytest.raises(NonFiniteError, match="epoch 1: b holds no finite numbers"):
        require_finite([*good, ("b", torch.tensor([0.0, float("nan")]))], "epoch 1")


def test_means_go_on_exactly_from_their_state():
    values = torch.rand(20, generator=torch.Generator().manual_seed(0))
    whole, first = EpochMeans(CPU), EpochMeans(CPU)
    for value in values:
        whole.add({"x": value}, weight=3)
    for value in values[:7]:
        first.add({"x": value}, weight=3)
    first.num_skipped = 2
    rest = EpochMeans(CPU)
    rest.load(json.loads(json.dumps(first.state())))
    for value in values[7:]:
        rest.add({"x": value}, weight=3)
    assert rest.means() == whole.means()
    assert rest.num_skipped == 2


def test_means_say_the_first_bad_step():
    means = EpochMeans(CPU)
    for step, loss in enumerate([1.0, float("inf"), float("nan")]):
        means.watch(step, torch.tensor(loss))
    with pytest.raises(NonFiniteError, match="epoch 6, step 2"):
        means.check(5)
    means.check(5)


def test_spread_is_never_imaginary():
    assert spread(1.0, 1.0 - 1e-12) == 0.0


def test_position_comes_back_from_its_state():
    at = Position(EpochMeans(CPU), epoch=3, step=5, best=Best(2, 0.5, 1.5), num_skipped=1, epoch_s=2.5, wall_s=9.0)
    at.means.add({"x": torch.tensor(1.5)}, weight=2)
    again = Position.from_state(json.loads(json.dumps(at.state())), CPU)
    assert again.state() == at.state()


def test_best_epoch_is_the_most_accurate_then_the_lowest_loss_then_the_first():
    at = Position(EpochMeans(CPU))
    outcomes = [(0.5, 2.0), (0.6, 3.0), (0.6, 2.5), (0.6, 2.5), (0.4, 0.1)]
    assert [at.finish_epoch(CPU, *outcome) for outcome in outcomes] == [True, True, True, False, False]
    assert at.best == Best(2, 0.6, 2.5)


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert metrics.read() == []
    for epoch in range(3):
        metrics.append({"epoch": epoch, "x": 0.1})
    whole = metrics.path.read_bytes()
    metrics.path.write_bytes(whole + b'{"epoch": 3, "x"')
    assert [row["epoch"] for row in metrics.cut(2)] == [0, 1]
    assert metrics.path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    with pytest.raises(RunError, match="found 2 whole epochs, expected 3"):
        metrics.cut(3)


def test_metrics_stop_at_the_first_line_that_is_out_of_place(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\n{"epoch": 2}\n{"epoch": 1}\n', encoding="utf-8")
    assert MetricsFile(path).read() == [{"epoch": 0}]


def test_altered_checkpoint_is_refused_wherever_a_bit_is_flipped(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.arange(200.0)})
    whole = path.read_bytes()
    at = whole.index(torch.arange(200.0).numpy().tobytes())
    path.write_bytes(whole[: at + 5] + bytes([whole[at + 5] ^ 1]) + whole[at + 6 :])
    with pytest.raises(RunError, match="no readable checkpoint") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = load_checkpoint(path)["weights"]
        except RunError:
            continue
        assert torch.equal(found, torch.arange(200.0))
