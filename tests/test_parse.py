"""JSON and TOML that nobody expects end in a `ValueError`; all others are read as by Python's own parsers."""

import json
import tomllib

import pytest

from seqjax.parse import DEEPEST, LONGEST_TOML, from_json, from_toml, objects_from_json

ODD_JSON = {
    "deep list": "[" * 10**6,
    "deep list that ends": "[" * 10**5 + "]" * 10**5,
    "deep table": '{"a":' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1),
    "65 bits": str(2**64),
    "64 bits, without a sign": str(2**63),
    "5000 digits": "9" * 5000,
    "a float that is too large": '{"a": 1e999}',
    "not a number": "[NaN]",
    "infinity": '{"a": [-Infinity]}',
    "no UTF-8": b'"\xff"',
    "nothing": "",
}
ODD_TOML = {
    "deep list that ends": f"a = {'[' * 5000}{']' * 5000}",
    "deep table": f"a = {'{a = ' * 900}1{'}' * 900}",
    "long name": f"{'.'.join('a' * (DEEPEST + 1))} = 1",
    "long text": f"# {'x' * LONGEST_TOML}",
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


KEY = ".".join("a" * 5000)
DEEP_KEYS = {
    "bare": KEY,
    "quoted": KEY.replace("a", '"a"'),
    "in apostrophes": KEY.replace("a", "'a'"),
    "in a header": f"[{KEY}]\n[",
    "in an inline table": "a = {" + KEY,
    "after quotes at the end of a text": 'a = {b = """x"""", ' + KEY + ' = ""',
    "after apostrophes at the end of a text": "a = {b = '''x'''', " + KEY + " = ''",
    "after an escaped quote": 'a = {b = "x\\"", ' + KEY + ' = ""',
}


@pytest.mark.parametrize("name", DEEP_KEYS)
def test_the_parts_of_a_key_are_counted_before_the_text_is_parsed(name):
    """Parsing them takes a quadratic time. The end of the text is no TOML, which only parsing finds."""
    text = f"{DEEP_KEYS[name]} = @"
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    with pytest.raises(ValueError, match="nested in each other"):
        from_toml(text)


DOTS = "a." * 100


@pytest.mark.parametrize(
    "text",
    [
        f'a = "{DOTS}"',
        f"a = '{DOTS}'",
        f'a = """\n"{DOTS}\n\\"""{DOTS}"""""\nb = "x"',
        f"a = '''\n{DOTS}\n'{DOTS}'''''",
        f'a = "\\"" # "{DOTS}',
        f'"{DOTS}" = 1',
        f"a = [{'1.5, ' * 100}]",
        "a = [" + "1.5\n," * 100 + "]",
        "a = 1.5\n" + "\n".join(f"a{n}.b = {n}.5" for n in range(100)),
        "x." * (DEEPEST - 1) + "x = 1.5",
    ],
    ids=range(10),
)
def test_dots_that_are_in_no_key_are_read_as_tomllib_does(text):
    assert from_toml(text) == tomllib.loads(text)


ODD_LINES = {
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
