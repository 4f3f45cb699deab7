import gzip
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from sklearn.utils import Bunch

from setwise.data.sources import read_file, read_source
from setwise.errors import DataError
from setwise.options import TableOptions

TEXT = "a, b ,y\n1,u,0.5\n2, ?,1.5\n"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SETWISE_CACHE", str(tmp_path / "cache"))


def write(folder, name, text=TEXT):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def check(frame):
    assert list(frame.columns) == ["a", "b", "y"]
    assert frame["a"].tolist() == [1, 2]
    assert frame["y"].tolist() == [0.5, 1.5]
    assert frame["b"].isna().tolist() == [False, True]
    assert frame["b"][0] == "u"


@pytest.mark.parametrize("name", ["table.csv", "table.CSV", "table.csv.gz", "table.data", "table"])
def test_comma_separated_files_are_read(tmp_path, name):
    check(read_file(write(tmp_path, name)))


@pytest.mark.parametrize("name", ["table.tsv", "table.tsv.gz"])
def test_tab_separated_files_are_read(tmp_path, name):
    check(read_file(write(tmp_path, name, TEXT.replace(",", "\t"))))


def test_other_separators_are_declared(tmp_path):
    check(read_file(write(tmp_path, "a.csv", TEXT.replace(",", ";")), separator="semicolon"))
    text = "  a b  y\n  1  u 0.5\n  2 ?   1.5\n"
    check(read_file(write(tmp_path, "b.txt", text), separator="whitespace"))


def test_names_are_given_for_a_file_without_them(tmp_path):
    check(read_file(write(tmp_path, "table.csv", TEXT.split("\n", 1)[1]), columns=("a", "b", "y")))


def test_column_may_have_a_name_that_means_missing_in_a_cell(tmp_path):
    assert list(read_file(write(tmp_path, "table.csv", "NA,y\n1,2\n")).columns) == ["NA", "y"]


def test_parquet_files_are_read(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    pd.DataFrame({"a": [1, 2], "b": ["u", None], "y": [0.5, 1.5]}).to_parquet(path)

    check(read_file(path))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(DataError, match=r'needs pyarrow: pip install "setwise\[parquet\]"'):
        read_file(write(tmp_path, "table.parquet"))


def test_relative_paths_are_looked_up_in_the_data_folder(tmp_path, monkeypatch):
    write(tmp_path, "table.csv")
    monkeypatch.setenv("SETWISE_DATA", str(tmp_path))

    check(read_file("table.csv"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv is empty; a table needs a line of column names"),
        ("t.csv", b"a,b,a\n1,2,3\n", "column names must be unique; given more than once: a"),
        ("t.csv", b",a\n0,1\n", "column 1 of .*t.csv has no name in the first line"),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n", "t.csv cannot be read as a table: .*line 3"),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "t.csv cannot be read as a table: .*loss of data"),
        ("t.csv", b"a, ,b\n1,2,3\n", "column 2 of .*t.csv has no name"),
        ("t.csv", b"a,b\n\xff\xfe,2\n", "t.csv is not UTF-8 text"),
        ("t.csv.gz", b"a,b\n1,2\n", "cannot read .*t.csv.gz"),
        ("t.parquet", b"nonsense", "t.parquet cannot be read as a table"),
    ],
)
def test_files_that_are_no_table_are_named(tmp_path, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=message):
        read_file(tmp_path / name)


def test_missing_file_is_named_with_the_nearest(tmp_path):
    write(tmp_path, "housing.csv")

    with pytest.raises(DataError, match=r'no file or folder .*housng.csv; did you mean "housing.csv"'):
        read_file(tmp_path / "housng.csv")


def test_folder_is_no_table(tmp_path):
    with pytest.raises(DataError, match=r"is a folder; data.path must name one file"):
        read_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "labels"),
    [
        ("breast_cancer", (569, 31), {"benign": 357, "malignant": 212}),
        ("iris", (150, 5), {"setosa": 50, "versicolor": 50, "virginica": 50}),
        ("wine", (178, 14), {"class_0": 59, "class_1": 71, "class_2": 48}),
    ],
)
def test_bundled_classification_sets_have_named_classes(name, shape, labels):
    source = read_source(TableOptions(sklearn=name))

    assert source.targets == ("target",)
    assert source.frame.shape == shape
    assert source.frame["target"].value_counts().to_dict() == labels


@pytest.mark.parametrize(("name", "shape"), [("diabetes", (442, 11)), ("digits", (1797, 65))])
def test_other_bundled_sets_have_number_targets(name, shape):
    source = read_source(TableOptions(sklearn=name))

    assert source.frame.shape == shape
    assert np.issubdtype(source.frame["target"].dtype, np.number)


def openml(monkeypatch, answer):
    """Put `answer` in the place of scikit-learn's download; return the list of what it was asked for."""
    asked = []

    def fetch_openml(**which):
        asked.append(which)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    return asked


BUNCH = Bunch(frame=pd.DataFrame({"a": [1, 2], "class": ["u", "v"]}), target_names=["class"])


@pytest.mark.parametrize(
    ("options", "which"),
    [
        ({"openml": 31}, {"data_id": 31}),
        ({"openml": "credit-g"}, {"name": "credit-g", "version": "active"}),
        ({"openml": "credit-g", "openml_version": 2}, {"name": "credit-g", "version": 2}),
    ],
)
def test_openml_sets_are_kept_in_our_cache_and_name_their_target(monkeypatch, tmp_path, options, which):
    asked = openml(monkeypatch, BUNCH)

    source = read_source(TableOptions(**options))

    assert source.targets == ("class",)
    assert source.frame.equals(BUNCH.frame)
    assert asked == [{**which, "data_home": str(tmp_path / "cache" / "openml"), "as_frame": True, "parser": "auto"}]


def test_openml_offline_reads_what_was_fetched_before_and_nothing_else(monkeypatch):
    asked = openml(monkeypatch, BUNCH)
    read_source(TableOptions(openml=31))
    monkeypatch.setenv("SETWISE_OFFLINE", "1")

    assert read_source(TableOptions(openml=31)).targets == ("class",)
    with pytest.raises(DataError, match=r"OpenML dataset 37 is not in the cache folder .*SETWISE_OFFLINE forbids"):
        read_source(TableOptions(openml=37))
    assert len(asked) == 2


def test_openml_name_may_have_any_characters(monkeypatch):
    openml(monkeypatch, BUNCH)

    for _ in range(2):
        assert read_source(TableOptions(openml="a/b: c")).targets == ("class",)
        monkeypatch.setenv("SETWISE_OFFLINE", "1")


@pytest.mark.parametrize("failure", [ValueError("no such dataset"), OSError("no route to host")])
def test_openml_failures_are_one_message(monkeypatch, failure):
    openml(monkeypatch, failure)

    with pytest.raises(DataError, match=f"cannot get the OpenML dataset 31: {failure}"):
        read_source(TableOptions(openml=31))
