"""JSON and TOML that nobody expects end in a `ValueError`; all others are read as by Python's own parsers."""

import json
import tomllib

import pytest

from seqjax.parse import DEEPEST, from_json, from_toml, objects_from_json

ODD_JSON = {
    "deep list": "[" * 10**6,
    "deep list that ends": "[" * 10**5 + "]" * 10**5,
    "deep table": '{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1),
    "65 bits": str(2**64),
    "64 bits, without a sign": str(2**63),
    "400 digits": "9" * 400,
    "5000 digits": "9" * 5000,
    "a float that is too large": '{"a": 1e999}',
    "not a number": "[NaN]",
    "infinity": '{"a": [-Infinity]}',
    "no UTF-8": b'"\xff"',
    "nothing": "",
}
ODD_TOML = {
    "deep list": f"a = {'[' * 10**5}",
    "deep list that ends": f"a = {'[' * 5000}{']' * 5000}",
    "deep table": f"a = {'{a = ' * 900}1{'}' * 900}",
    "long name": f"{'.'.join('a' * 5000)} = 1",
    "64 bits, without a sign": f"a = {2**63}",
    "400 digits in a list": f"a = [1, {'9' * 400}]",
    "5000 digits": f"a = {'9' * 5000}",
}


@pytest.mark.parametrize("name", ODD_JSON)
def test_odd_json_is_a_value_error(name):
    with pytest.raises(ValueError):  # noqa: PT011
        from_json(ODD_JSON[name])


@pytest.mark.parametrize("name", ODD_TOML)
def test_odd_toml_is_a_value_error(name):
    with pytest.raises(ValueError):  # noqa: PT011
        from_toml(ODD_TOML[name])


@pytest.mark.parametrize(
    "value",
    [
        {"epoch": 2**63 - 1, "loss": 1.7e308, "none": None, "text": "[[[{{{" * 20, "hash": "1234567890123456789012"},
        [[["<unk>", -(2**63)]] * 3] * 20,
        json.loads('{"a":' * DEEPEST + "[]" + "}" * DEEPEST)["a"],
        "\ud800",
    ],
)
def test_other_json_is_read_as_json_does(value):
    text = json.dumps(value)
    assert from_json(text) == from_json(text.encode()) == json.loads(text) == value


def test_other_toml_is_read_as_tomllib_does():
    text = 'a = 9223372036854775807\nb = inf\n[c]\nplugin = "x/y"\nd = [1.5, 2]\n'
    assert from_toml(text) == tomllib.loads(text)


ODD_LINES = {
    "two objects": [b'{"a": 1}, {"a": 2}'],
    "an object in two lines": [b'{"a": 1', b'"b": 2}'],
    "no object": [b'{"a": 1}', b"[1]"],
    "nothing": [b""],
    "a number that is too large": [b'{"a": 1}', b'{"a": 18446744073709551616}'],
    "not a number": [b'{"a": NaN}'],
    "deep": [b'{"a":' * 10**6],
}


@pytest.mark.parametrize("name", ODD_LINES)
def test_odd_lines_are_a_value_error(name):
    with pytest.raises(ValueError):  # noqa: PT011
        objects_from_json(ODD_LINES[name])


@pytest.mark.parametrize("number", [0, 1, 100])
def test_other_lines_are_read_as_json_does(number):
    lines = [
        json.dumps({"epoch": each, "loss": each / 7, "none": None, "hash": "[{"}).encode() for each in range(number)
    ]
    assert objects_from_json(lines) == [json.loads(line) for line in lines]
