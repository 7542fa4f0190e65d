"""Codec and spec of a run in a file."""

import json

from seqjax.data.preparing import load_codec
from seqjax.data.spec import Spec
from seqjax.data.tokenizer import Codec, PairsCodec, Tokenizer
from seqjax.parse import from_json


def encode_codec(codec: Codec | PairsCodec | None, spec: Spec) -> str:
    """The text of the file."""
    return json.dumps({"spec": spec.to_dict(), "codec": codec.to_dict() if codec else None}) + "\n"


def decode_codec(text: str, tokenizer: Tokenizer | None) -> tuple[Codec | PairsCodec | None, Spec]:
    """The codec of a tokenizer, and the spec, from the text of the file; what is wrong with it raises an exception."""
    table = from_json(text)
    codec, spec = load_codec(tokenizer, table["codec"]) if tokenizer else None, Spec.from_dict(table["spec"])
    # Otherwise ids of the codec would index parameters of other sizes. A newer version of a tokenizer may do so.
    if isinstance(codec, Codec) and spec != Spec(codec.spec):
        raise ValueError(f"its codec is of {codec.spec}, and its spec is {spec}")
    return codec, spec
