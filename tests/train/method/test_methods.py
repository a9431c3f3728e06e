import numpy as np
import pytest
import torch

from tmkt_train.data.batches import Batch
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.errors import RunError
from tmkt_train.method.losses import cka, distillation_loss, modality_guidance_loss, ratio_perception_loss, tet_loss
from tmkt_train.method.methods import build_method
from tmkt_train.method.mixer import Mixer
from tmkt_train.method.mixing import mix, mix_mask
from tmkt_train.network.backbones import build_model
from tmkt_train.network.network import FrameShape, Heads
from tmkt_train.network.stages import LayerChoices
from tmkt_train.recipe.schema import LossTable, MixTable

NUM_STEPS, SIZE, NUM_CLASSES = 4, 28, 5


def make_model(separate_heads=True):
    torch.manual_seed(0)
    shape = FrameShape(NUM_STEPS, 2, (SIZE, SIZE))
    return build_model("scnn", shape, Heads(NUM_CLASSES, separate_heads), LayerChoices("fused"))


def make_method(model, name="tmkt", **weights):
    torch.manual_seed(1)
    mixer = Mixer(NUM_STEPS, MixTable())
    return build_method(name, LossTable(**weights), mixer=mixer, feature_size=model.feature_size)


def make_batch(num_rows=6, epoch=3, with_images=True):
    draw = torch.Generator().manual_seed(2)
    shape = (NUM_STEPS, num_rows, 2, SIZE, SIZE)
    return Batch(
        image=torch.rand(shape, generator=draw) if with_images else None,
        events=torch.poisson(torch.rand(shape, generator=draw) * 2, generator=draw),
        labels=torch.arange(num_rows) % NUM_CLASSES,
        indices=np.arange(num_rows),
        keys=DrawKeys(7, epoch, np.arange(num_rows, dtype=np.uint64), np.zeros(num_rows, np.int64)),
    )


def by_hand(model, method, batch):
    points = method.mixer.points(batch.keys, 0.0)
    mixed = mix(batch.image, batch.events, torch.from_numpy(points))
    image = model(mixed.frames, head="image", tap=True)
    event = model(batch.events, head="event", tap=True)
    return mixed, image, event


def test_total_is_the_sum_of_the_weighted_terms():
    model, batch = make_model(), make_batch()
    method = make_method(model, alignment=0.7, modality=0.3, ratio=0.2)
    with torch.no_grad():
        method.coefficients.eta.copy_(torch.linspace(-1, 1, NUM_STEPS))
    objective = method(model, batch, 0.0)
    mixed, image, event = by_hand(make_model(), method, batch)
    sigma = torch.linspace(-1, 1, NUM_STEPS).sigmoid()
    expected = (
        tet_loss(image.logits, batch.labels).mean()
        + ((1 - sigma) * tet_loss(event.logits, batch.labels)).mean()
        + 0.7 * (sigma * (1 - cka(image.alignment, event.alignment).abs())).mean()
        + 0.3 * modality_guidance_loss(method.heads.modality(image.features), mixed.mask)
        + 0.2 * ratio_perception_loss(method.heads.ratio(image.features), mixed.ratio)
    )
    torch.testing.assert_close(objective.loss, expected)
    assert set(objective.terms) == {
        "image_classification", "event_classification", "alignment", "modality", "ratio",
    }  # fmt: skip
    torch.testing.assert_close(objective.logits, event.logits)


def test_gradient_of_the_coefficients_is_the_closed_form():
    model, batch = make_model(), make_batch()
    method = make_method(model, modality=0.0, ratio=0.0)
    method(model, batch, 0.0).loss.backward()
    _, image, event = by_hand(make_model(), method, batch)
    slope = torch.sigmoid(torch.ones(NUM_STEPS)) * (1 - torch.sigmoid(torch.ones(NUM_STEPS)))
    distance = 1 - cka(image.alignment, event.alignment).abs()
    expected = slope / NUM_STEPS * (0.5 * distance - tet_loss(event.logits, batch.labels))
    torch.testing.assert_close(method.coefficients.eta.grad, expected.detach())


@pytest.mark.parametrize("term", ["alignment", "modality", "ratio"])
def test_weight_zero_takes_out_one_term_and_nothing_else(term):
    batch = make_batch()
    whole = make_method(make_model())(make_model(), batch, 0.0)
    cut = make_method(make_model(), **{term: 0.0})(make_model(), batch, 0.0)
    assert set(whole.terms) - set(cut.terms) == {term}
    for name, value in cut.terms.items():
        torch.testing.assert_close(value, whole.terms[name])
    assert cut.num_skipped == 0


@pytest.mark.parametrize("name", ["kt", "kt+tsm", "tmkt"])
def test_logits_are_distilled_where_a_recipe_asks(name):
    batch = make_batch()
    plain = make_method(make_model(), name)(make_model(), batch, 0.0)
    method = make_method(model := make_model(), name, distillation=0.3, temperature=2.0)
    objective = method(model, batch, 0.0)
    _, image, event = by_hand(make_model(), method, batch)
    expected = distillation_loss(event.logits, image.logits, 2.0)
    torch.testing.assert_close(objective.terms["distillation"], expected)
    torch.testing.assert_close(objective.loss, plain.loss + 0.3 * expected)
    objective.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_fixed_coefficient_weighs_both_sides(value):
    batch = make_batch()
    method = make_method(make_model(), coefficients="fixed", coefficient=value, modality=0.0, ratio=0.0)
    objective = method(make_model(), batch, 0.0)
    expected = (
        objective.terms["image_classification"]
        + (1 - value) * objective.terms["event_classification"]
        + 0.5 * value * objective.terms["alignment"]
    )
    torch.testing.assert_close(objective.loss, expected)
    assert method.learned_metrics() == {}


def test_coefficients_that_are_off_weigh_nothing():
    method = make_method(make_model(), coefficients="off", modality=0.0, ratio=0.0)
    objective = method(make_model(), make_batch(), 0.0)
    terms = objective.terms
    expected = terms["image_classification"] + terms["event_classification"] + 0.5 * terms["alignment"]
    torch.testing.assert_close(objective.loss, expected)


def test_every_loss_reaches_its_parameters():
    model = make_model()
    method = make_method(model)
    method(model, make_batch(), 0.0).loss.backward()
    for module in (model, method):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_batch_of_one_leaves_out_the_alignment():
    model = make_model()
    objective = make_method(model)(model, make_batch(1), 0.0)
    assert objective.num_skipped == 1
    assert "alignment" not in objective.terms
    assert torch.isfinite(objective.loss)


def test_mixed_stream_takes_the_event_frames_of_its_row():
    model, batch = make_model(), make_batch()
    method = make_method(model)
    seen = []
    hook = model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    method(model, batch, 0.0)
    hook.remove()
    points = method.mixer.points(batch.keys, 0.0)
    mask = mix_mask(points, NUM_STEPS)
    assert mask.any()
    assert not mask.all()
    assert torch.equal(seen[0][mask], batch.events[mask])
    assert torch.equal(seen[0][~mask], batch.image[~mask])
    assert torch.equal(seen[1], batch.events)


def test_metrics_say_what_the_mix_was():
    model, batch = make_model(), make_batch(64)
    objective = make_method(model)(model, batch, 0.0)
    points = Mixer(NUM_STEPS, MixTable()).points(batch.keys, 0.0)
    realised = (NUM_STEPS + 1 - points) / NUM_STEPS
    assert objective.metrics["mix_ratio"] == 0.5
    assert float(objective.metrics["realised_ratio"]) == pytest.approx(realised.mean())
    assert float(objective.metrics["realised_ratio_squared"]) == pytest.approx((realised**2).mean())
    assert 0 <= float(objective.metrics["modality_accuracy"]) <= 1
    assert float(objective.metrics["cka"]) == pytest.approx(1 - objective.terms["alignment"].item(), abs=1e-6)


def test_event_only_is_its_classification():
    model, batch = make_model(separate_heads=False), make_batch(with_images=False)
    method = make_method(model, "event-only")
    objective = method(model, batch, 0.0)
    torch.testing.assert_close(
        objective.loss, tet_loss(make_model(separate_heads=False)(batch.events).logits, batch.labels).mean()
    )
    assert set(objective.terms) == {"event_classification"}
    assert not list(method.parameters())


def test_two_streams_refuse_a_batch_without_images():
    model = make_model()
    with pytest.raises(RunError, match="no images"):
        make_method(model)(model, make_batch(with_images=False), 0.0)


def test_mean_logits_are_classified_once():
    model, batch = make_model(separate_heads=False), make_batch(with_images=False)
    objective = make_method(model, "event-only", classification="mean-logits")(model, batch, 0.0)
    logits = make_model(separate_heads=False)(batch.events).logits.mean(0).double()
    chosen = logits.log_softmax(1)[torch.arange(len(batch)), batch.labels]
    assert objective.loss.item() == pytest.approx(-chosen.mean().item(), rel=1e-5)


@pytest.mark.parametrize(("epoch", "frames", "term"), [(1, "image", "image"), (2, "events", "event")])
def test_fine_tune_runs_one_stream_of_its_stage(epoch, frames, term):
    model, batch = make_model(separate_heads=False), make_batch(epoch=epoch)
    mixer = Mixer(NUM_STEPS, MixTable())
    method = build_method("fine-tune", LossTable(), mixer=mixer, feature_size=model.feature_size, image_epochs=2)
    objective = method(model, batch, 0.0)
    logits = make_model(separate_heads=False)(getattr(batch, frames)).logits
    torch.testing.assert_close(objective.loss, tet_loss(logits, batch.labels).mean())
    assert set(objective.terms) == {f"{term}_classification"}
    assert not list(method.parameters())


@pytest.mark.parametrize("epoch", [0, 5])
def test_images_only_never_runs_events(epoch):
    model, batch = make_model(separate_heads=False), make_batch(epoch=epoch)
    objective = make_method(model, "images-only")(model, batch, 0.0)
    logits = make_model(separate_heads=False)(batch.image).logits
    torch.testing.assert_close(objective.loss, tet_loss(logits, batch.labels).mean())
    torch.testing.assert_close(objective.logits, logits)
    assert set(objective.terms) == {"image_classification"}
    with pytest.raises(RunError, match="no images"):
        make_method(model, "images-only")(model, make_batch(with_images=False), 0.0)


@pytest.mark.parametrize("name", ["kt", "kt+tsm", "tmkt"])
def test_warm_start_teaches_both_heads_on_images_and_nothing_else(name):
    model, batch = make_model(), make_batch(epoch=1)
    mixer = Mixer(NUM_STEPS, MixTable())
    method = build_method(name, LossTable(), mixer=mixer, feature_size=model.feature_size, image_epochs=2)
    objective = method(model, batch, 0.0)
    other = make_model()
    losses = [tet_loss(other(batch.image, head=head).logits, batch.labels).mean() for head in ("image", "event")]
    torch.testing.assert_close(objective.loss, sum(losses) / 2)
    assert set(objective.terms) == {"image_classification"}
    assert not {"mix_ratio", "realised_ratio"} & set(objective.metrics)
    objective.loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in method.parameters())
    assert "event_classification" in method(model, make_batch(epoch=2), 0.0).terms


def test_fine_tune_refuses_a_batch_without_images():
    model = make_model()
    method = build_method(
        "fine-tune", LossTable(), mixer=Mixer(NUM_STEPS, MixTable()), feature_size=model.feature_size, image_epochs=4
    )
    with pytest.raises(RunError, match="no images"):
        method(model, make_batch(with_images=False, epoch=3), 0.0)


def make_slide(model, name, **mixer):
    torch.manual_seed(1)
    return build_method(name, LossTable(), mixer=Mixer(NUM_STEPS, MixTable(), **mixer), feature_size=model.feature_size)


def test_kt_leaves_out_modality_and_ratio_and_their_heads():
    model = make_model()
    method = make_slide(model, "kt", start=None, slide="cubic")
    objective = method(model, make_batch(), 0.5)
    assert set(objective.terms) == {"image_classification", "event_classification", "alignment"}
    assert [name for name, _ in method.named_parameters()] == ["coefficients.eta"]


def test_kt_with_mixup_differs_from_tmkt_in_sliding_and_the_two_objectives():
    batch = make_batch()
    kt = make_slide(make_model(), "kt+tsm")(make_model(), batch, 0.0)
    tmkt = make_slide(make_model(), "tmkt")(make_model(), batch, 0.0)
    assert set(tmkt.terms) - set(kt.terms) == {"modality", "ratio"}
    for name, value in kt.terms.items():
        torch.testing.assert_close(value, tmkt.terms[name])


def test_modality_guidance_on_both_streams_asks_for_events_in_the_second():
    model, batch = make_model(), make_batch()
    method = make_method(model, modality_streams="both")
    mixed, image, event = by_hand(make_model(), method, batch)
    objective = method(model, batch, 0.0)
    logits = torch.cat([method.heads.modality(image.features), method.heads.modality(event.features)], dim=1)
    mask = torch.cat([mixed.mask, torch.ones_like(mixed.mask)], dim=1)
    torch.testing.assert_close(objective.terms["modality"], modality_guidance_loss(logits, mask))


@pytest.mark.parametrize("num_rows", [2, 3])
def test_debiased_alignment_is_left_out_of_a_batch_too_small_for_it(num_rows):
    model = make_model()
    objective = make_method(model, cka="debiased")(model, make_batch(num_rows), 0.0)
    assert objective.num_skipped == 1
    assert torch.isfinite(objective.loss)
