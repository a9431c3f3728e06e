from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import SpecError
from tmkt_data.spec import OPTIONS, ORIENTATIONS, PrepareSpec

OTHER_VALUES = {
    "time_bins": 6,
    "bin_rule": "tonic",
    "canvas": "tight",
    "resize": "bilinear",
    "representation": "voxel",
    "image_channel": "blue",
    "size": 28,
    "class_set": "objects",
    "split_seed": 1,
    "val_share": 0.2,
    "test_share": 0.1,
    "bake": "repeat",
    "sensor_size": (40, 30),
    "time_unit": "ms",
    "shift_x": -1,
    "shift_y": 2,
    "orientation": "rotate-90",
    "polarity": "inverted",
    "time_offset_us": -5,
    "hot_pixels": 2.0,
    "refractory_us": 100,
    "background_us": 3000,
    "image_decode": "scaled",
    "time_range": "robust",
    "duplicates": "together",
    "image_scale": 3,
}
SPECS = st.builds(
    PrepareSpec,
    time_bins=st.integers(1, 1000),
    bin_rule=st.just("exact"),
    canvas=st.sampled_from(["fixed", "tight", "max"]),
    resize=st.sampled_from(["sum", "bilinear", "area"]),
    representation=st.sampled_from(["counts", "voxel"]),
    image_channel=st.sampled_from(["value", "luminance", "blue"]),
    size=st.integers(4, 1024),
    class_set=st.sampled_from(["all", "objects"]),
    split_seed=st.integers(0, 2**63 - 1),
    val_share=st.floats(0, 0.4),
    test_share=st.none() | st.floats(0, 0.4),
    bake=st.sampled_from(["none", "repeat", "poisson"]),
    sensor_size=st.none() | st.tuples(st.integers(1, 65536), st.integers(1, 65536)),
    time_unit=st.sampled_from([None, "s", "ms", "us", "ns"]),
    shift_x=st.integers(-65535, 65535),
    orientation=st.sampled_from(ORIENTATIONS),
    polarity=st.sampled_from(["as-is", "inverted"]),
    time_offset_us=st.integers(-(2**53), 2**53),
    hot_pixels=st.just(0) | st.floats(1, 1000),
    refractory_us=st.integers(0, 10**9),
    background_us=st.integers(0, 10**9),
    image_decode=st.sampled_from(["full", "scaled"]),
    time_range=st.sampled_from(["whole", "robust"]),
)


def test_geometry_and_filters_at_their_defaults_leave_the_digest_of_earlier_caches():
    assert PrepareSpec().digest() == hashlib.sha256(
        b'{"bake":"none","bin_rule":"exact","canvas":"fixed","class_set":"all","image_channel":"value",'
        b'"representation":"counts","resize":"sum","size":48,"split_seed":0,"test_share":null,"time_bins":10,'
        b'"val_share":0.1}'
    ).hexdigest()[:16]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sensor_size", (0, 3)), ("sensor_size", "240x180"), ("sensor_size", (1, 2, 3)), ("time_unit", "min"),
        ("shift_x", 70000), ("orientation", "up"), ("polarity", True), ("time_offset_us", 0.5), ("hot_pixels", 0.5),
        ("hot_pixels", "many"), ("refractory_us", -1), ("background_us", True),
    ],
)  # fmt: skip
def test_geometry_and_filters_outside_their_range_are_one_line(name, value):
    with pytest.raises(SpecError, match=rf"^{name}: found .*, expected [^\n]*$"):
        PrepareSpec(**{name: value})


def test_the_options_of_a_sensor_size_are_those_of_the_command():
    assert PrepareSpec(sensor_size=(240, 180)).command_options(PrepareSpec()) == ["--sensor-size", "240x180"]


def test_the_table_of_other_values_is_complete():
    assert list(OTHER_VALUES) == [field.name for field in dataclasses.fields(PrepareSpec)]


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_the_digest_changes_with_every_field(name):
    changed = PrepareSpec(**{name: OTHER_VALUES[name]})
    assert changed.digest() != PrepareSpec().digest()
    assert changed.differences(PrepareSpec()) == {name: (OTHER_VALUES[name], getattr(PrepareSpec(), name))}


def test_digests_of_all_single_changes_differ():
    digests = {PrepareSpec(**{name: value}).digest() for name, value in OTHER_VALUES.items()}
    assert len(digests) == len(OTHER_VALUES)


def test_a_digest_is_sixteen_hexadecimal_digits():
    digest = PrepareSpec().digest()
    assert len(digest) == 16
    assert int(digest, 16) >= 0


@settings(deadline=None, max_examples=60)
@given(spec=SPECS)
def test_a_spec_survives_a_dict_and_json(spec):
    assert PrepareSpec.from_dict(spec.to_dict()) == spec
    again = PrepareSpec.from_dict(json.loads(spec.to_json()))
    assert again == spec
    assert again.digest() == spec.digest()


def test_json_is_canonical():
    text = PrepareSpec().to_json()
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert set(json.loads(PrepareSpec(**OTHER_VALUES | {"representation": "counts"}).to_json())) == set(OTHER_VALUES)
    assert " " not in text


def test_whole_numbers_of_numpy_are_those_of_python():
    spec = PrepareSpec(time_bins=np.int64(6), size=np.uint8(34), sensor_size=(np.int32(240), 180))
    assert spec.to_json() == PrepareSpec(time_bins=6, size=34, sensor_size=(240, 180)).to_json()


def test_whole_and_broken_numbers_of_a_share_are_one_spec():
    assert PrepareSpec(val_share=0) == PrepareSpec(val_share=0.0)
    assert PrepareSpec(val_share=0).digest() == PrepareSpec(val_share=0.0).digest()


def test_the_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PrepareSpec().size = 3


def test_choices_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        PrepareSpec(10)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("bin_rule", "exact, tonic, spikingjelly"),
        ("canvas", "fixed, tight, max"),
        ("resize", "sum, bilinear, area"),
        ("representation", "counts, voxel"),
        ("image_channel", "value, luminance, blue"),
        ("class_set", "all, objects"),
        ("bake", "none, repeat, poisson, gradient, saccade"),
        ("image_decode", "full, scaled"),
        ("time_range", "whole, robust"),
    ],
)
@pytest.mark.parametrize("value", ["Sum", "", None, 3, ["sum"]])
def test_an_unknown_choice_is_named_with_those_that_exist(name, choices, value):
    with pytest.raises(SpecError) as refused:
        PrepareSpec(**{name: value})
    assert str(refused.value) == f"{name}: found {value!r}, expected one of {choices}"


@pytest.mark.parametrize(
    ("name", "low", "high"), [("time_bins", 1, 1000), ("size", 4, 1024), ("split_seed", 0, 2**63 - 1)]
)
def test_whole_numbers_have_a_range(name, low, high):
    for value in (low, high):
        assert getattr(PrepareSpec(**{name: value}), name) == value
    for value in (low - 1, high + 1, 10.0, "10", None, True):
        with pytest.raises(SpecError) as refused:
            PrepareSpec(**{name: value})
        assert str(refused.value) == f"{name}: found {value!r}, expected a whole number from {low} to {high}"


@pytest.mark.parametrize("name", ["val_share", "test_share"])
def test_shares_have_a_range(name):
    for value in (0, 0.5, 0.8):
        assert getattr(PrepareSpec(**{name: value}), name) == value
    for value in (-0.01, 0.81, float("nan"), float("inf"), "0.1", True):
        with pytest.raises(SpecError) as refused:
            PrepareSpec(**{name: value})
        assert str(refused.value) == f"{name}: found {value!r}, expected a number from 0 to 0.8"


def test_only_the_test_share_may_be_left_open():
    assert PrepareSpec(test_share=None).test_share is None
    with pytest.raises(SpecError, match=r"val_share: found None, expected a number from 0 to 0.8"):
        PrepareSpec(val_share=None)


def test_shares_leave_something_to_train_on():
    assert PrepareSpec(val_share=0.4, test_share=0.5).test_share == 0.5
    with pytest.raises(SpecError) as refused:
        PrepareSpec(val_share=0.5, test_share=0.41)
    assert str(refused.value) == (
        "val_share, test_share: found 0.5 and 0.41, expected a sum up to 0.9; leave recordings to train on"
    )


@pytest.mark.parametrize("rule", ["tonic", "spikingjelly"])
def test_a_voxel_grid_has_no_bin_rule(rule):
    with pytest.raises(SpecError, match=f"bin_rule: found '{rule}' with representation 'voxel'.*leave bin_rule"):
        PrepareSpec(representation="voxel", bin_rule=rule)


def test_channels_follow_the_representation():
    assert PrepareSpec().num_channels == 2
    assert PrepareSpec(representation="voxel").num_channels == 1


def test_an_unknown_key_is_named():
    with pytest.raises(SpecError, match=r"prepare spec: unknown colour, zoom; written by another version of tmkt\?"):
        PrepareSpec.from_dict({"size": 28, "zoom": 1, "colour": "red"})


def test_missing_keys_take_their_defaults():
    assert PrepareSpec.from_dict({}) == PrepareSpec()


def test_a_wrong_value_in_a_dict_is_refused():
    with pytest.raises(SpecError, match="size: found '48', expected a whole number from 4 to 1024"):
        PrepareSpec.from_dict({"size": "48"})


def test_options_name_only_what_differs():
    assert PrepareSpec().command_options(PrepareSpec()) == []
    spec = PrepareSpec(time_bins=6, bin_rule="tonic", val_share=0.25)
    assert spec.command_options(PrepareSpec()) == [
        "--time-bins", "6", "--bin-rule", "tonic", "--val-share", "0.25",
    ]  # fmt: skip


def test_the_docstring_of_the_spec_describes_every_option():
    attributes = PrepareSpec.__doc__.partition("Attributes:\n")[2].splitlines()
    assert [line.split(":")[0].strip() for line in attributes] == list(OPTIONS)


def test_the_options_of_a_spec_are_written_as_command_line_and_recipe_write_them():
    spec = PrepareSpec(sensor_size=(240, 180), hot_pixels=2)
    assert spec.written_differences(PrepareSpec()) == {"sensor_size": "240x180", "hot_pixels": "2.0"}
    assert PrepareSpec().written_differences(PrepareSpec(time_unit="ms")) == {"time_unit": "default"}
