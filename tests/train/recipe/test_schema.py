from typing import get_args

from tmkt_data.spec import EventScale, PrepareSpec
from tmkt_train.recipe.schema import DataTable, LossTable, MixTable, OptimTable, PrepareTable, Table, meaning, remark


def test_every_key_has_a_meaning_and_a_source():
    for table in Table.__subclasses__():
        for name, field in table.model_fields.items():
            below = field.annotation
            if not (isinstance(below, type) and issubclass(below, Table)):
                assert meaning(field), name
                assert remark(field, "source"), name


def test_tables_without_required_keys_are_made_of_their_defaults():
    assert (LossTable().alignment, MixTable().ratio, OptimTable(learning_rate=0.1).betas) == (0.5, 0.5, (0.9, 0.999))


def test_prepare_table_takes_none_as_default_and_a_sensor_as_text():
    written = PrepareTable(sensor_size="240x180", time_unit="ms")
    assert written.to_spec() == PrepareSpec(sensor_size=(240, 180), time_unit="ms")
    assert (PrepareTable().sensor_size, PrepareTable().time_unit, PrepareTable().test_share) == ("default",) * 3


def test_choices_of_the_data_package_are_those_of_the_recipe():
    assert get_args(DataTable.model_fields["event_scale"].annotation) == get_args(EventScale)
    assert list(PrepareTable.model_fields) == list(PrepareSpec().to_dict())
    assert PrepareTable().to_spec() == PrepareSpec()
