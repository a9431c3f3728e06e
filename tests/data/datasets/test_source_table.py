"""A table of sources is the sequence of the sources that it was made of, in a tenth of their memory."""

import hashlib
import json
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.cache.format import FORMAT, FORMAT_VERSION, text_table
from tmkt_data.datasets import source_table
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.source_table import NO_SOURCES, Source, SourceTable, TableBuilder, sorted_sources
from tmkt_data.datasets.splits import SPLIT_RULES
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize
from tmkt_data.images.frames import Placement
from tmkt_data.prepare import plan
from tmkt_data.sample_ids import rows_of
from tmkt_data.spec import PrepareSpec

STEMS = st.text(st.sampled_from(["a", "b", "0", "1", "_", ".", "~", "ü", "\udcff", "鼠"]), min_size=1, max_size=6)


@st.composite
def sources(draw):
    """Draw sources whose file names go with their ids, as in most sets, or do not."""
    name, stem = draw(STEMS), draw(STEMS)
    kind = draw(
        st.sampled_from(["folder/{name}/{stem}.bin", "{stem}", "/{name}.{stem}", "all.idx", "x/{stem}{name}.PNG"])
    )
    return Source(
        f"{name}/{stem}",
        draw(st.integers(0, 2000)),
        kind.format(name=name, stem=stem) if draw(st.booleans()) else draw(STEMS),
        draw(st.integers(0, 2**40)),
        draw(st.sampled_from(["", "train", "val", "test"])),
        draw(st.integers(-1, 2**33)),
        draw(st.tuples(st.integers(-300, 300), st.integers(-300, 300))),
    )


LISTS = st.lists(sources(), max_size=12)


@settings(deadline=None, max_examples=300)
@given(given_=LISTS, chunk=st.sampled_from([1, 3, 1 << 14]))
def test_a_table_is_the_sources_it_was_made_of(given_, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_table, "_CHUNK", chunk)
        table = SourceTable.of(given_)
        assert list(table) == given_
        assert all(type(source) is Source for source in table)
        assert table == tuple(given_)
        assert hash(table) == hash(SourceTable.of(given_))
        np.testing.assert_array_equal(table.ids, text_table([source.id for source in given_]))
        assert table.ids.dtype == text_table([source.id for source in given_]).dtype
        assert table.labels.tolist() == [source.label for source in given_]
        assert table.parts.tolist() == [source.part for source in given_]
        again = pickle.loads(pickle.dumps(table))
        assert list(again) == given_
        assert not any(column.flags.writeable for each in (table, again) for column in (each.labels, each._ids))


@settings(deadline=None)
@given(given_=LISTS, start=st.integers(-14, 14), stop=st.integers(-14, 14), step=st.sampled_from([None, 1, 2, -1]))
def test_slices_and_rows_are_those_of_a_list(given_, start, stop, step):
    table = SourceTable.of(given_)
    part = table[start:stop:step]
    assert list(part) == given_[start:stop:step]
    assert list(part[1:]) == given_[start:stop:step][1:]
    for at in (start, stop):
        if -len(given_) <= at < len(given_):
            assert table[at] == given_[at]
        else:
            with pytest.raises(IndexError):
                table[at]
    mask = np.array([source.label % 2 == 0 for source in given_], bool)
    assert list(table.take(mask)) == [source for source in given_ if source.label % 2 == 0]
    assert [source.label for source in table.with_labels(table.labels + 1)] == [s.label + 1 for s in given_]


@settings(deadline=None)
@given(given_=LISTS)
def test_sorted_bytewise(given_):
    assert list(sorted_sources(given_)) == sorted(given_, key=lambda source: os.fsencode(source.id))


@settings(deadline=None)
@given(ids=st.sets(STEMS), wanted=st.lists(STEMS))
def test_rows_are_found_in_sorted_ids(ids, wanted):
    known = sorted(ids, key=os.fsencode)
    expected = [known.index(sample) if sample in ids else -1 for sample in wanted]
    assert rows_of(text_table(wanted), text_table(known)).tolist() == expected


@pytest.mark.parametrize(
    ("sample", "file"),
    [
        ("a/1", "a/1"),
        ("a/1", ""),
        ("a/1", "."),
        ("a/1", "/x.y/a/1"),
        ("a/1", "/x.y/.hidden"),
        ("ü/鼠1", "/data/鼠1.bin"),
        ("a/x\udcff", "/d/a/x\udcff.bin"),
        ("a/x\udcff", "/d/\udcc3\udcff.bin"),
        ("5/train-00001", "/d/Train/5/00001.bin"),
    ],
)
def test_any_name_of_a_file_comes_back(sample, file):
    given_ = Source(sample, 0, file, 1)
    assert SourceTable.of([given_])[0] == given_


def test_nothing_is_a_table_too():
    assert len(NO_SOURCES) == 0
    assert NO_SOURCES == ()
    assert NO_SOURCES.ids.dtype == "S1"
    assert TableBuilder().sorted_table() == NO_SOURCES


def test_a_catalogue_takes_any_sequence_and_refuses_one_that_is_not_sorted():
    def catalogue(*ids):
        listed = [Source(sample, 0, f"{sample}.bin", 5) for sample in ids]
        size = SensorSize(34, 34)
        return Catalogue("x", ("a",), size, Placement(0, 0, *size), listed, ())

    assert [source.id for source in catalogue("a/1", "a/2").recordings] == ["a/1", "a/2"]
    for ids in (("a/2", "a/1"), ("a/1", "a/1")):
        with pytest.raises(CatalogueError, match=r"^x recordings: duplicate or unsorted 'a/1', expected"):
            catalogue(*ids)


def test_a_source_takes_less_than_fifty_bytes():
    places = [(number % 10, number) for number in range(1000)]
    given_ = [Source(f"c{c}/image_{n:07d}", c, f"/data/c{c}/image_{n:07d}.bin", n) for c, n in places]
    tracemalloc.start()
    table = SourceTable.of(given_)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 50 * len(table) == 50_000


@pytest.mark.parametrize("chunk", [1, 3, 1 << 14])
def test_a_key_has_a_line_of_each_source(monkeypatch, chunk):
    monkeypatch.setattr(plan, "_CHUNK", chunk)
    sides = {
        "e": [Source(f"ü/{n}", 0, f"{n}.bin", 5, ("", "test", "train")[n % 3]) for n in range(7)],
        "i": [Source("a/x\udcff", 0, "x.png", 5)],
    }
    size, spec = SensorSize(34, 34), PrepareSpec()
    catalogue = Catalogue("x", ("a",), size, Placement(0, 0, *size), *sides.values())
    expected = hashlib.sha256(f"{FORMAT} {FORMAT_VERSION} {SPLIT_RULES} x {spec.to_json()}\n".encode())
    expected.update(json.dumps([["a"], size, Placement(0, 0, *size)]).encode())
    for side, given_ in sides.items():
        for source in given_:
            expected.update(f"{side}\t{source.id}\t{source.part}\n".encode("utf-8", "surrogateescape"))
    assert plan.plan_prepare(catalogue, spec).key == expected.hexdigest()
