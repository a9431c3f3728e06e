from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tmkt_train.cli.main import main
from tmkt_train.errors import RecipeError, RunError
from tmkt_train.experiments.jobs import RunEnded, train_in_processes
from tmkt_train.experiments.plan import RunOptions, plan_comparison
from tmkt_train.experiments.slots import Slots
from tmkt_train.network.backbones import build_model
from tmkt_train.network.imported import ImportedNetwork, import_network
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.load import load_recipe
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.trained import load_run

from ..conftest import make_recipe
from ..experiments.conftest import without_pages

SHAPE = FrameShape(4, 2, (16, 16))
NETS = '''
import torch
from torch import nn
from spikingjelly.activation_based import functional, neuron


class Net(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.first = nn.Linear(shape.num_channels * shape.size[0] * shape.size[1], 12)
        self.neurons = neuron.LIFNode(step_mode="m", store_v_seq=True)
        self.head = nn.Linear(12, num_classes)

    def forward(self, frames):
        functional.reset_net(self)
        features = self.neurons(4 * self.first(frames.flatten(2)))
        return self.head(features), features, self.neurons.v_seq


class NoTap(Net):
    def forward(self, frames):
        return (*super().forward(frames)[:2], None)


class TwoStreams(Net):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.image_head = nn.Linear(12, num_classes)

    def forward(self, frames, stream):
        logits, features, potentials = super().forward(frames)
        return (self.image_head(features) if stream == "image" else logits), features, potentials


class Steps(Net):
    """Neurons that are called step by step."""

    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.neurons = neuron.LIFNode()

    def forward(self, frames):
        functional.reset_net(self)
        features = torch.stack([self.neurons(4 * self.first(frame.flatten(1))) for frame in frames])
        return self.head(features), features


class Stateful(Net):
    def forward(self, frames):
        features = self.neurons(4 * self.first(frames.flatten(2)))
        return self.head(features), features


class BatchFirst(Net):
    def forward(self, frames):
        return tuple(output.transpose(0, 1) for output in super().forward(frames))


class Mean(Net):
    def forward(self, frames):
        logits, features, _ = super().forward(frames)
        return logits.mean(dim=0), features


class Detached(Net):
    def forward(self, frames):
        logits, features, potentials = super().forward(frames)
        return logits, features.detach(), potentials


class One(Net):
    def forward(self, frames):
        return super().forward(frames)[0]


class Fails(Net):
    def forward(self, frames):
        return self.first(frames)


class NoParameters(Net):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def forward(self, frames):
        logits, features, potentials = super().forward(frames.requires_grad_())
        return logits, features, potentials


def takes_one(shape):
    return None


def raises(shape, num_classes):
    raise KeyError("width")


def returns_none(shape, num_classes):
    return None


SIZE = 7
'''


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """The current directory has the module `nets`."""
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import not_installed_anywhere\n", encoding="utf-8")
    (tmp_path / "script.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    (tmp_path / "typo.py").write_text("def build(:\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("nets", "broken", "typo", "script", "own_network"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("nets")
def test_a_state_that_one_drive_does_not_show_is_found_with_others():
    for seed in range(4, 30):
        torch.manual_seed(seed)
        with pytest.raises(RunError, match="gave other outputs for the same frames"):
            import_network("nets:Stateful", SHAPE, 5)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.nets:build", r"found no module nowhere; install it, or start in the folder that holds it, here /.*"),
        ("nets.inner:build", r"nets.inner cannot be imported|found no module nets.inner; .*"),
        (
            "broken:build",
            r"broken cannot be imported \(ModuleNotFoundError: No module named 'not_installed_anywhere'.*",
        ),
        ("typo:build", r"typo cannot be imported \(SyntaxError: .*\); fix it"),
        ("script:build", r"script cannot be imported \(SystemExit: 0\); fix it"),
        ("nets:build", r"nets has no build, expected a function; check the name after the colon"),
        ("nets:SIZE", r"found int, expected a function of \(shape, num_classes\)"),
        ("nets:takes_one", r"takes other arguments \(too many positional arguments\), expected \(shape, num_classes\)"),
        ("nets:raises", r"cannot build a network \(KeyError: 'width'\); fix it"),
        ("nets:returns_none", r"returned NoneType, expected a torch.nn.Module"),
        ("nets:Fails", r"fails on frames \(4, 2, 2, 16, 16\) \(RuntimeError: .*\); fix it"),
        ("nets:One", r".*returned Tensor, expected a tuple \(logits, features, potentials or None\).*"),
        ("nets:Mean", r"logits have shape \[2, 5\], expected \[T=4, B=2, K=5\]; time comes first"),
        ("nets:BatchFirst", r"logits have shape \[2, 4, 5\], expected \[T=4, B=2, K=5\]; time comes first"),
        ("nets:Detached", r"features have no gradient, expected one to the parameters; do not detach them"),
        ("nets:Stateful", r"gave other outputs for the same frames in a second call, .*; reset the state of its .*"),
        ("nets:NoParameters", r"has no parameters to train, expected some; register its layers as attributes"),
    ],
)
@pytest.mark.usefixtures("nets")
def test_what_does_not_fit_is_refused_in_one_line(path, message):
    torch.manual_seed(0)
    with pytest.raises(RunError, match=rf"^model\.backbone: {path}:? ({message})$") as caught:
        import_network(path, SHAPE, 5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["nets", "nets:", ":build", "nets:build:more", "../nets:build", "nets.py:build", "vgg"]
)
def test_a_path_of_another_form_is_refused_with_the_recipe(path, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(recipe_text(make_recipe()).replace('"scnn"', f'"{path}"'), encoding="utf-8")
    if path == "nets.py:build":
        # The module `py` of a package `nets`, which is not found.
        assert load_recipe(file).model.is_imported
        return
    with pytest.raises(RecipeError, match=r"'scnn' or an import path such as 'mypackage\.nets:build'"):
        load_recipe(file)


@pytest.mark.parametrize(("name", "aligned"), [("Net", "potentials"), ("NoTap", "features"), ("Steps", "features")])
@pytest.mark.usefixtures("nets")
def test_outputs_are_those_of_the_module(name, aligned):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    network = build_model(f"nets:{name}", SHAPE, Heads(5, separate=True), LayerChoices())
    assert isinstance(network, ImportedNetwork)
    torch.set_rng_state(state)
    module = getattr(sys.modules["nets"], name)(SHAPE, 5)
    frames, other = torch.rand(2, 4, 3, 2, 16, 16)
    outputs = module(frames)
    found = network(frames, tap=True)
    assert torch.equal(found.logits, outputs[0])
    assert torch.equal(found.features, outputs[1])
    assert torch.equal(found.alignment, outputs[2] if aligned == "potentials" else outputs[1])
    assert (network.feature_size, network.alignment_size, network.training) == (12, 12, True)
    assert network(frames).alignment is None
    image, event = network.forward_pair(other, frames)
    assert torch.equal(event.logits, found.logits)
    assert torch.equal(image.logits, network(other).logits)


@pytest.mark.usefixtures("nets")
def test_a_module_that_asks_for_the_stream_is_told_it():
    network = import_network("nets:TwoStreams", SHAPE, 5)
    frames = torch.rand(4, 3, 2, 16, 16)
    image, event = network.forward_pair(frames, frames)
    assert torch.equal(image.features, event.features)
    assert not torch.equal(image.logits, event.logits)
    assert torch.equal(event.logits, network(frames).logits)


def test_example_computes_the_loss_of_the_trainer(tiny_cache, nets):
    """The foreign loop of examples/own_network.py has the objective of the method `tmkt`."""
    from tmkt_train.data.batches import EpochPlan, training_batches
    from tmkt_train.training.setup import build_setup

    shutil.copy(Path(__file__).parents[3] / "examples" / "own_network.py", nets)
    (nets / "nets.py").write_text(
        "from own_network import Net\n"
        "def build(shape, num_classes):\n"
        "    return Net(shape.num_channels * shape.size[0] * shape.size[1], num_classes)\n"
    )
    recipe = make_recipe(model={"backbone": "nets:build"})
    setup = build_setup(recipe, tiny_cache, torch.device("cpu"))
    batch = next(training_batches(setup.frames, recipe.train, EpochPlan(0, 0), torch.device("cpu")))
    draws = setup.method.draw(batch.keys, 0.0)
    expected = setup.method.compute(setup.model, batch, draws).loss
    own = sys.modules["own_network"]
    pair = own.PairedTensors(batch.image, batch.events, batch.labels, *[batch.labels] * 3)
    found = own.objective(setup.model.body, [setup.method.heads, setup.method.coefficients], pair, draws.points)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_network_of_the_docs_trains_as_documented(nets, tiny_cache):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "own-network.md").read_text(encoding="utf-8")
    (nets / "nets.py").write_text(page.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    (nets / "tiny.toml").write_text(recipe_text(make_recipe()), encoding="utf-8")
    settings = ("--set", "model.backbone=nets:build", "--set", "optim.name=sgd", "--set", "optim.learning_rate=0.05")
    code, out, err = call("check", "tiny.toml", "--cache", tiny_cache, *settings, "--measure")
    assert (code, err) == (0, "")
    assert re.search(r"^  optim.betas +\[0.9, 0.999\] +unused by this optimizer$", out, re.MULTILINE)
    assert re.search(r"^time: about [0-9]+ s, 15 steps", out, re.MULTILINE)
    short = ("--set", "train.epochs=1", "--set", "optim.warmup_epochs=0", "--no-report")
    assert call("recipe", "tiny.toml", "--cache", tiny_cache, *settings, *short)[::2] == (0, "")


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", ["Net", "Steps"])
def test_every_command_works_with_it(nets, tiny_cache, name):
    recipe = make_recipe(
        model={"backbone": f"nets:{name}"},
        data__held_out_classes=3,
        train__epochs=2,
        optim={"learning_rate": 0.01, "warmup_epochs": 1},
    )
    (nets / "own.toml").write_text(recipe_text(recipe), encoding="utf-8")
    cache = ("--cache", tiny_cache)
    code, out, err = call("check", "own.toml", *cache)
    assert (code, err) == (0, "")
    assert re.search(r"^  model.separate_heads +true +unused by this network$", out, re.MULTILINE)
    whole = call("recipe", "own.toml", *cache, "--no-report", "--out", "whole")
    assert (whole[0], whole[2]) == (0, "")
    assert f"tmkt with nets:{name}" in whole[1]
    folder, result = nets / "whole", json.loads((nets / "whole" / "result.json").read_text())
    assert result["backbone"] == f"nets:{name}"
    assert len(result["environment"]["network_digest"]) == 16
    assert "diagnostics.npz" not in " ".join(result["warnings"])
    assert f'backbone = "nets:{name}"' in torch.load(folder / "last.pt", weights_only=True)["recipe"]
    assert call("evaluate", "whole")[::2] == (0, "")
    assert call("few-shot", "whole", "--ways", "2", "--episodes", "20", "--queries", "1", "--shots", "1")[0] == 0
    assert call("report", "whole", "--out", "whole.html")[::2] == (0, "")
    assert isinstance(load_run("whole").network, ImportedNetwork)
    assert load_run("whole").notes == ()
    assert call("export", "whole", "--safetensors", "exported")[::2] == (0, "")
    with (nets / "nets.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert [note.partition(":")[0] for note in load_run("exported").notes] == [
        "the code of the network has changed since the run was started"
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_stopped_run_resumes_exactly_and_tells_changed_code(nets, tiny_cache, optimizer):
    from tmkt_train.training.run import resume_run, start_run

    tables = {"learning_rate": 0.02, "warmup_epochs": 0, "name": optimizer}
    recipe = make_recipe(model={"backbone": "nets:Net"}, train__epochs=2, optim=tables)
    whole = start_run(recipe, cache=tiny_cache, out=nets / "whole")
    list(whole.train())
    asked = iter([False] * 7)
    with pytest.raises(RunError):
        list(start_run(recipe, cache=tiny_cache, out=nets / "cut").train(lambda: next(asked, True)))
    with (nets / "nets.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    changed = "the code of the network has changed since the run was started: results may differ"
    resumed = resume_run(nets / "cut")
    assert resumed.notes[0] == changed
    *_, end = resumed.train()
    assert end.result["warnings"] == [f"on a resume, {changed}"]
    assert whole.folder.read_result()["warnings"] == []
    assert load_run(nets / "whole").notes == load_run(nets / "cut").notes == (changed,)
    ends = [torch.load(nets / name / "last.pt", weights_only=True)["model"] for name in ("whole", "cut")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_run_of_a_comparison_finds_it_in_a_process_of_its_own(nets, tiny_cache):
    tables = {"learning_rate": 0.01, "warmup_epochs": 0}
    recipe = make_recipe(name="own", model={"backbone": "nets:NoTap"}, train__epochs=1, optim=tables)
    (nets / "own.toml").write_text(recipe_text(recipe), encoding="utf-8")
    plan = plan_comparison(["own.toml"], RunOptions(cache=tiny_cache, out=nets / "out"), num_seeds=1)
    progress = train_in_processes(without_pages(plan.runs), lambda: False, Slots(2))
    assert [step.problem for step in progress if isinstance(step, RunEnded)] == [None]
    assert plan.runs[0].status == "finished"
    with (nets / "nets.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    with pytest.raises(
        RunError, match=r"seed-3: holds a run of other code of nets:NoTap, which has changed since; undo"
    ):
        plan_comparison(["own.toml"], RunOptions(cache=tiny_cache, out=nets / "out"), num_seeds=1)


def test_a_run_whose_network_is_gone_or_another_one_is_told_so(nets, tiny_cache):
    recipe = make_recipe(
        model={"backbone": "nets:Net"}, train__epochs=1, optim={"learning_rate": 0.01, "warmup_epochs": 0}
    )
    (nets / "own.toml").write_text(recipe_text(recipe), encoding="utf-8")
    assert call("recipe", "own.toml", "--cache", tiny_cache, "--no-report", "--out", "run")[0] == 0
    # Of another size: within a second, Python takes a file of equal size for unchanged.
    (nets / "nets.py").write_text(NETS.replace("12", "100"), encoding="utf-8")
    sys.modules.pop("nets")
    code, _, err = call("evaluate", "run")
    assert (code, err) == (
        1,
        "error: run/best.pt: the weights are of another network than the recipe; start a new run\n",
    )
    (nets / "nets.py").rename(nets / "other.py")
    sys.modules.pop("nets")
    code, _, err = call("evaluate", "run")
    assert (code, err.count("\n")) == (1, 1)
    assert "found no module nets; install it, or start in the folder that holds it" in err
