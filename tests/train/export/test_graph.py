"""A NIR file read back gives the classes of the network: by the definitions of its nodes, and in other frameworks."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.train.export import nir_oracle
from tmkt_data.pairs.event_scale import scale_events
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_train import load_run
from tmkt_train.cli.main import main
from tmkt_train.errors import MissingPackageError, RunError
from tmkt_train.export.graph import export_graph, network_graph
from tmkt_train.network.backbones import build_model
from tmkt_train.network.imported import ImportedNetwork
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.neurons import lif_constants, spiking_layers
from tmkt_train.network.stages import LayerChoices

nir = pytest.importorskip("nir")


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("graph") / "tiny.nir"
    result = CliRunner().invoke(main, ["export", str(run), "--nir", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"graph: {out}, 12 nodes\n"
    return out


@pytest.fixture(scope="module")
def recordings(tiny_cache):
    """The frames of all recordings as the network takes them, those of the test first: shape (T, B, C, H, W)."""
    splits = [PairedFrames(tiny_cache, split=split, pairing="none") for split in ("test", "val", "train")]
    found = [split[index].events for split in splits for index in range(len(split))]
    frames = scale_events(np.stack(found), "log1p")
    return np.ascontiguousarray(frames.astype(np.float32).swapaxes(0, 1))


@pytest.fixture(scope="module")
def logits(run, recordings):
    network = load_run(run).network
    with torch.no_grad():
        return network(torch.from_numpy(recordings), head="event").logits.numpy()


def classes(logits):
    return logits.mean(axis=0).argmax(axis=-1)


def network(backbone, batch_norm="per-step"):
    """A network with statistics of its own, whose layers all fire."""
    torch.manual_seed(1)
    model = build_model(
        backbone, FrameShape(4, 2, (16, 16)), Heads(5, separate=True), LayerChoices(batch_norm, "event")
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.bias.uniform_(0.0, 0.5)
        for linear in (module for module in model.body.modules() if isinstance(module, torch.nn.Linear)):
            linear.weight.mul_(4).add_(0.1)
        for _ in range(10):
            model(3 * torch.rand(4, 4, 2, 16, 16), head="event")
            model(torch.rand(4, 4, 2, 16, 16), head="image")
    return model.eval()


def test_every_recording_gets_its_class(file, recordings, logits):
    found, spikes = nir_oracle.run(nir.read(file), recordings)
    assert len(set(classes(logits))) > 5
    np.testing.assert_array_equal(classes(found), classes(logits))
    np.testing.assert_allclose(found, logits, atol=1e-4)
    assert min(rates.mean() for rates in spikes.values()) > 0


@pytest.mark.parametrize(
    ("backbone", "batch_norm"),
    [("scnn", "none"), ("scnn", "fused"), ("vgg-snn", "per-step"), ("resnet18", "per-step")],
)
def test_each_backbone_in_float64(backbone, batch_norm):
    # In float64 on both sides, so that only the rounding of the folded weights to float32 is left.
    model, frames = network(backbone, batch_norm), np.random.default_rng(0).random((4, 3, 2, 16, 16)) * 3
    graph = network_graph(model, {})
    with torch.no_grad():
        expected = model.double()(torch.from_numpy(frames), head="event", plain=True).logits.numpy()
    found, spikes = nir_oracle.run(graph, frames)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(spikes) == len(model.spiking_layer_names)
    assert min(rates.mean() for rates in spikes.values()) > 0


def test_the_head_and_the_statistics_are_those_of_events():
    model = network("scnn", "fused")
    graph = network_graph(model, {})
    np.testing.assert_array_equal(graph.nodes["head"].weight, model.event_head.weight.detach().numpy())
    conv, norm = model.body.conv1, model.body.norm1
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().numpy()
    np.testing.assert_allclose(
        graph.nodes["conv1"].weight, conv.weight.detach().numpy() * scale[:, None, None, None], rtol=1e-5
    )
    np.testing.assert_allclose(
        graph.nodes["conv1"].bias, norm.bias.detach().numpy() - norm.running_mean.numpy() * scale, rtol=1e-4, atol=1e-6
    )
    assert not np.allclose(norm.running_mean, norm.image_mean)


def test_neurons_have_the_constants_of_one_euler_step(file):
    neurons = nir.read(file).nodes["lif1"]
    assert {float(neurons.tau.flat[0] / 1e-4), float(neurons.r.flat[0])} == {2.0, 1.0}
    assert (neurons.v_threshold == 0.5).all()
    assert not neurons.v_leak.any()
    assert not neurons.v_reset.any()


def test_metadata_say_what_is_not_in_the_graph(file, run):
    metadata = nir.read(file).metadata
    assert metadata["event_scale"] == "log1p"
    assert (float(metadata["dt"]), int(metadata["num_time_steps"])) == (1e-4, 4)
    assert tuple(metadata["class_names"].split("\n")) == load_run(run).class_names
    assert "mean over the time steps" in metadata["readout"]


def test_spikingjelly_reads_it(file, recordings, logits):
    pytest.importorskip("nirtorch")
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    imported, state, found = import_from_nir(str(file)), None, []
    with torch.no_grad():
        for frame in torch.from_numpy(recordings):
            out, state = imported(frame, state)
            found.append(out.numpy())
    np.testing.assert_array_equal(classes(np.array(found)), classes(logits))


@pytest.mark.filterwarnings("ignore")
def test_snntorch_reads_it(file, recordings, logits):
    pytest.importorskip("nirtorch")
    pytest.importorskip("snntorch")
    import snntorch
    from snntorch.import_nir import import_from_nir

    imported, found = import_from_nir(nir.read(file)), []
    with torch.no_grad():
        for sample in torch.from_numpy(recordings).transpose(0, 1):
            for neurons in (module for module in imported.modules() if isinstance(module, snntorch.Leaky)):
                neurons.reset_mem()
            state, outs = None, []
            for frame in sample:
                out, state = imported(frame, state)
                outs.append(out.numpy())
            found.append(outs)
    np.testing.assert_array_equal(classes(np.array(found).swapaxes(0, 1)), classes(logits))


def test_a_reset_that_subtracts_is_refused():
    model = network("scnn")
    spiking_layers(model)["body.lif2"].v_reset = None
    with pytest.raises(RunError, match=r"^lif2: found LIFNode, which NIR has no exact node for; .*v_reset"):
        network_graph(model, {})


@pytest.mark.parametrize(("decay_input", "gain"), [(True, 1.0), (False, 3.0)])
def test_constants_of_other_neurons(decay_input, gain):
    from spikingjelly.activation_based import neuron

    module = neuron.LIFNode(tau=3.0, decay_input=decay_input, v_threshold=1.0, v_reset=0.25, step_mode="m")
    constants = lif_constants(module)
    assert constants == (3.0, gain, float(np.nextafter(np.float32(1), np.float32(0))), 0.25)
    x, v = 0.8 * torch.rand(30, 50, dtype=torch.float64), torch.full((50,), 0.25, dtype=torch.float64)
    for step, spikes in zip(x, module(x), strict=True):
        v = v + (constants.gain * step - (v - constants.v_reset)) / constants.tau
        assert torch.equal(spikes, (v > constants.threshold).double())
        v = torch.where(v > constants.threshold, constants.v_reset, v)


def test_networks_of_other_code_are_refused():
    with pytest.raises(RunError, match="found code from elsewhere, whose layers tmkt does not know"):
        network_graph(ImportedNetwork(torch.nn.Linear(2, 2), FrameShape(1, 1, (1, 1))), {})


def test_without_nir_one_line_says_what_to_install(run, tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *words, **more):
        if name == "nir":
            raise ImportError(name)
        return imported(name, *words, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r"pip install 'tmkt\[nir\]'"):
        export_graph(run, tmp_path / "out.nir")
