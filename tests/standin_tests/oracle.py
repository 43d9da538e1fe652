"""What MongoDB's published search engine answered, case by case, and where the stand-in is known to answer otherwise.

The answers are data of `tests/data/mongot.json.gz`; its key `source` names the version of the engine.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from bson import json_util
from bson.json_util import JSONOptions

_FILE = Path(__file__).parents[1] / "data" / "mongot.json.gz"

_OPTIONS = JSONOptions(tz_aware=False)


def _read(document: dict[str, Any]) -> Any:
    """Extended JSON, but for the operator `$regex`."""
    return document if "$regex" in document else json_util.object_hook(document, _OPTIONS)


DATA: dict[str, Any] = json.loads(gzip.decompress(_FILE.read_bytes()), object_hook=_read)

_NAN = "the service takes NaN for 0 among whole numbers; the stand-in refuses to compare with it"
_EMBEDS = "recorded at the parser, before the engine finds that it knows no embedding model, which the stand-in says"

DIFFERENCES: dict[str, str] = {
    "vector0 105": _NAN,  # the value itself
    "vector0 106": _NAN,  # $eq
    "vector0 107": _NAN,  # $ne
    "vector0 108": _NAN,  # $gt
    "vector0 109": _NAN,  # $gte
    "vector0 110": _NAN,  # $lt
    "vector0 111": _NAN,  # $lte
    "definition 20 autoEmbed full": _EMBEDS,
}
"""Cases that the stand-in answers otherwise -> why it may."""
