"""What a program refuses it refuses in one line."""

import pickle

import pytest

from sw_models.errors import InputError


@pytest.mark.parametrize("quoted", ["a\nb", "a\r\nb", "a\u2028b", "a\vb\n"])
def test_a_refusal_has_one_line_whatever_it_quotes(quoted):
    error = InputError(f"file: got {quoted}, want something else")
    assert len(str(error).splitlines()) == 1
    assert str(error).startswith("file: got a b")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
