import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from setwise.data import text as text_module
from setwise.data.spec import Tokens
from setwise.data.text import TextData, build_text, read_documents, read_stdlib_prose
from setwise.errors import DataError
from setwise.options import TextOptions

pytest.importorskip("tiktoken")

TEXT = "".join(chr(33 + number % 89) for number in range(1009))
LENGTH = 13


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def windows(documents=(TEXT,), *, seed=0, **options) -> TextData:
    options = TextOptions(source="stdlib-prose", **{"length": LENGTH, **options})
    data = TextData(options, seed=seed, read=lambda: list(documents))
    data.prepare()
    return data


def all_of(data, split, epoch=0) -> torch.Tensor:
    return data.batch(split, epoch, range(data.num_items(split)))["tokens"]


def test_spec_is_one_field_of_tokens():
    assert windows().spec.columns == (Tokens("tokens", vocab_size=257, length=LENGTH),)


def test_items_are_one_token_longer_than_what_a_model_reads():
    item = windows().item("val", 0, 0)

    assert item["tokens"].shape == (LENGTH + 1,)
    assert item["tokens"].dtype == torch.int64


def test_val_and_test_are_consecutive_windows_that_overlap_in_one_token():
    data = windows()
    content = TEXT.encode()

    for split, start, stop in (("val", 807, 908), ("test", 908, 1009)):
        tokens = all_of(data, split)
        num_windows = (stop - start - 1) // LENGTH
        assert data.num_items(split) == num_windows == len(tokens)
        joined = [*tokens[:, :-1].flatten().tolist(), int(tokens[-1, -1])]
        assert bytes(joined) == content[start : start + num_windows * LENGTH + 1]
        assert torch.equal(all_of(data, split, epoch=5), tokens)


def test_train_windows_are_consecutive_from_another_place_every_epoch():
    data = windows()
    content = TEXT.encode()[:807]
    starts = set()

    for epoch in range(200):
        tokens = all_of(data, "train", epoch)
        joined = bytes([*tokens[:, :-1].flatten().tolist(), int(tokens[-1, -1])])
        assert joined in content
        starts.add(content.index(joined[: 2 * LENGTH]) % 89)
    assert starts == set(range(LENGTH))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(num_tokens=st.integers(2, 60), length=st.integers(1, 20), epoch=st.integers(0, 50))
def test_train_windows_fit_into_their_part_of_the_text(num_tokens, length, epoch):
    options = {"length": length, "val_fraction": 0, "test_fraction": 0}
    if num_tokens <= length:
        with pytest.raises(DataError, match="a window of"):
            windows((TEXT[:num_tokens],), **options)
        return
    data = windows((TEXT[:num_tokens],), **options)

    tokens = all_of(data, "train", epoch)

    assert len(tokens) == max(1, (num_tokens - 1) // length - 1)
    assert bytes([*tokens[:, :-1].flatten().tolist(), int(tokens[-1, -1])]) in TEXT[:num_tokens].encode()


def test_items_are_a_function_of_seed_and_epoch():
    def train(seed=0, epoch=0):
        return all_of(windows(seed=seed), "train", epoch)

    assert torch.equal(train(), train())
    assert any(not torch.equal(train(), train(seed=seed)) for seed in (1, 2, 3))
    assert any(not torch.equal(train(), train(epoch=epoch)) for epoch in (1, 2, 3))


def test_batch_is_the_collated_items():
    data = windows()
    items = [data.item("train", 2, index) for index in (7, 3, 5)]

    assert torch.equal(data.batch("train", 2, [7, 3, 5])["tokens"], data.collate(items)["tokens"])


def test_documents_are_joined_by_the_end_of_a_text():
    data = windows(("abc", "de<|endoftext|>f"), length=1, val_fraction=0, test_fraction=0)

    assert data._ready.tokens.tolist() == [97, 98, 99, 256, 100, 101, 256, 102]


def test_zero_fractions_leave_out_a_split():
    assert windows(val_fraction=0, test_fraction=0).splits == ("train",)


def test_text_is_tokenised_once(monkeypatch, cache):
    first = windows()
    monkeypatch.setattr(text_module.np, "save", None)

    again = windows(length=7, seed=1)

    assert np.array_equal(first._ready.tokens, again._ready.tokens)
    assert isinstance(again._ready.tokens, np.memmap)
    assert len(list((cache / "tokens").iterdir())) == 1


def test_tokens_that_cannot_be_written_are_one_message_and_leave_nothing_behind(monkeypatch, cache):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(text_module.os, "fsync", full)

    with pytest.raises(
        DataError, match=r"cannot write .*tokens.*: No space left on device; make room, or set SETWISE_CACHE"
    ):
        windows()
    assert list((cache / "tokens").iterdir()) == []


def test_large_vocabularies_get_larger_numbers(monkeypatch):
    class Encoding:
        n_vocab, eot_token = 100_000, 99_999

        def encode_to_numpy(self, text, *, allowed_special, disallowed_special):
            return np.array([70_000 + ord(letter) for letter in text], dtype=np.uint32)

    monkeypatch.setattr(text_module, "text_encoding", lambda name: Encoding())

    data = windows(("ab", "c"), length=1, val_fraction=0, test_fraction=0)

    assert data._ready.tokens.tolist() == [70_097, 70_098, 99_999, 70_099]


def test_fingerprint_is_of_the_text_its_encoding_and_its_splits():
    found = [
        windows().fingerprint(),
        windows((TEXT[:-1],)).fingerprint(),
        windows((TEXT[:500], TEXT[500:])).fingerprint(),
        windows(val_fraction=0.2).fingerprint(),
    ]

    assert len(set(found)) == 4
    assert windows(seed=1, length=7).fingerprint() == found[0]
    assert len(found[0]) == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1009}, r"the text has 1009 tokens, 807 of them to train: a window of data.length=1009 needs 1010"),
        ({"length": 101}, "101 of them to val: .* or set data.val_fraction to 0"),
        ({"test_fraction": 0.01}, "10 of them to test: .* or set data.test_fraction to 0"),
    ],
)
def test_text_shorter_than_a_window_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        windows(**options)


def test_unprepared_text_says_so():
    with pytest.raises(DataError, match=r"call prepare\(\) first"):
        TextData(TextOptions(source="stdlib-prose"), seed=0, read=list).num_items("train")


def test_items_out_of_range_are_refused():
    with pytest.raises(DataError, match='item 7 of split "val" does not exist; items are 0 to 6'):
        windows().item("val", 0, 7)


def test_file_is_one_document(tmp_path):
    (tmp_path / "a.md").write_text("é", encoding="utf-8")

    assert read_documents(tmp_path / "a.md") == ["é"]


def test_folder_is_its_text_files_in_the_order_of_their_paths(tmp_path, monkeypatch):
    for name, content in {"b.txt": "3", "a/z.txt": "1", "a/é.txt": "2", "c.md": "no", "empty.txt": ""}.items():
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text(content, encoding="utf-8")
    monkeypatch.setenv("SETWISE_DATA", str(tmp_path))

    assert read_documents("texts") == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ({"a.txt": b""}, "a.txt", "a.txt is empty"),
        ({"a.txt": b"", "b.txt": b""}, "", "is empty; a text needs at least one window"),
        ({"a.md": b"x"}, "", "has no .txt files"),
        ({"a.txt": b"ab\xffc"}, "a.txt", r"a.txt is not UTF-8 text \(invalid start byte at byte 2\)"),
        ({"input.txt": b"x"}, "inptu.txt", 'no file or folder .*inptu.txt; did you mean "input.txt"'),
    ],
)
def test_texts_that_cannot_be_read_are_named(tmp_path, files, name, message):
    folder = tmp_path / "texts"
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content)

    with pytest.raises(DataError, match=message):
        read_documents(folder / name)


def test_prose_of_the_standard_library_is_english_and_always_the_same():
    documents = read_stdlib_prose()

    assert documents == read_stdlib_prose()
    assert sum(map(len, documents)) > 100_000
    assert " the " in documents[0]


def test_python_without_its_help_topics_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)

    with pytest.raises(DataError, match="this Python came without the help topics"):
        read_stdlib_prose()


@pytest.mark.parametrize("options", [{"source": "stdlib-prose"}, {"path": "text.txt"}])
def test_dataset_is_built_from_its_options_and_can_be_sent_to_a_worker(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    data = build_text(TextOptions(length=LENGTH, **options), seed=0)
    data.prepare()

    copy = pickle.loads(pickle.dumps(data))

    assert torch.equal(copy.item("train", 1, 0)["tokens"], data.item("train", 1, 0)["tokens"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of path and source must name the text; none is given"),
        ({"path": "a", "source": "stdlib-prose"}, "both are given"),
        ({"path": "a", "val_fraction": 0.5, "test_fraction": 0.5}, "leave no text to train on"),
        ({"path": "a", "encoding": "morse"}, "Input should be 'bytes'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        TextOptions(**options)
