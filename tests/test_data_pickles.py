"""Pickles from outside: plain data comes through, nothing is ever run."""

import collections
import io
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.pickles import load_plain

atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
plain = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(), max_size=3)
    ),
    max_leaves=20,
)


def saved(tmp_path, content: bytes) -> Path:
    file = tmp_path / "x.pkl"
    file.write_bytes(content)
    return file


@given(plain, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_comes_through_any_protocol(tmp_path_factory, content, protocol):
    file = saved(tmp_path_factory.mktemp("p"), pickle.dumps(content, protocol))
    assert load_plain(file) == content


def test_python_2_text_comes_through(tmp_path):
    python_2 = b"(lp0\n(dp1\nS'sent'\np2\nVcaf\\u00e9\np3\nsS'id'\nI7\nsS'big'\nL123L\nsa."
    assert load_plain(saved(tmp_path, python_2)) == [{"sent": "café", "id": 7, "big": 123}]


class Runs:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (eval, "builtins.eval|__builtin__.eval"),
        (exec, "builtins.exec|__builtin__.exec"),
        (getattr, "builtins.getattr|__builtin__.getattr"),
        (open, "open"),
        (subprocess.Popen, "Popen"),
        (io.FileIO, "FileIO"),
    ],
)
def test_calls_are_refused_and_never_made(tmp_path, function, name, protocol):
    mark = tmp_path / "mark"
    evil = [{"frame_path": Runs(function, f"touch {mark}")}]
    with pytest.raises(AffordAgentError, match=f"asks for .*({name})"):
        load_plain(saved(tmp_path, pickle.dumps(evil, protocol)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (np.int64(3), r"numpy\S*\.scalar"),
        (np.arange(3), r"numpy\S*\._reconstruct"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (Path("a"), "pathlib"),
        (AffordAgentError("x"), "AffordAgentError"),
    ],
)
def test_objects_are_refused_by_name_with_the_mend(tmp_path, content, name):
    with pytest.raises(AffordAgentError, match=f"asks for .*{name}.*tolist"):
        load_plain(saved(tmp_path, pickle.dumps([{"mask": content}])))


@pytest.mark.parametrize(
    "stream",
    [
        b"cos\nsystem\n(S'touch mark'\ntR.",  # GLOBAL and REDUCE by hand
        b"(S'touch mark'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch mark\x85R.",  # STACK_GLOBAL
        b"\x82\x01.",  # an extension code
        b"Pid\n.",  # a persistent id
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"",
        b"\x80\x09.",
        b"garbage",
        b"(lp0\n(dp1\n",
        b"0.",
        b"(lp0\nI1\nb.",  # BUILD of state on a list
        b"cbuiltins\nset\n(lI1\naRp0\n(dS'x'\nI1\nsb.",
        b"I1\n(tR.",  # a call of a number
    ],
)
def test_hand_made_streams_are_refused(tmp_path, monkeypatch, stream):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AffordAgentError):
        load_plain(saved(tmp_path, stream))
    assert not (tmp_path / "mark").exists()


@given(st.binary(max_size=60).filter(lambda b: b"r" not in b))  # "r" numbers a place: gigabytes for four bytes
def test_any_bytes_give_data_or_the_error(tmp_path_factory, stream):
    try:
        load_plain(saved(tmp_path_factory.mktemp("p"), stream))
    except AffordAgentError:
        pass


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AffordAgentError, match=r"none\.pkl: No such file"):
        load_plain(tmp_path / "none.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"]p2147483647\n.",
        b"cbuiltins\nbytearray\n(I10000000000\ntR.",
        b"cbuiltins\nbytes\n(I10000000000\ntR.",
    ],
)
def test_few_bytes_fill_no_memory(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(AffordAgentError, match="is not read: it asks for"):
        load_plain(tmp_path / "a.pkl")
