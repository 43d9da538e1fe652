"""Which Voyage models there are, and what each one takes: wrong settings are named before the first call."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from lkmongo.errors import SettingsError

_ANY = (256, 512, 1024, 2048)
_MILLION, _MEDIUM, _SMALL = 1_000_000, 320_000, 120_000


@dataclass(frozen=True, slots=True)
class VoyageModel:
    """One model: its allowed dimensions, the tokens one request may hold, and the space its vectors live in."""

    name: str
    dimensions: tuple[int, ...]
    request_tokens: int
    space: str

    @property
    def has_choice(self) -> bool:
        """Whether the number of dimensions may be asked for; the older models refuse the parameter."""
        return len(self.dimensions) > 1


def _model(name: str, dimensions: tuple[int, ...], request_tokens: int, space: str | None = None) -> VoyageModel:
    return VoyageModel(name, dimensions, request_tokens, space or name)


_FOUR = "voyage-4-family"
"""The three general models of the fourth generation share one space: documents embedded with one are found with
another, so that changing between them needs no new vectors. (Voyage documentation, text embeddings.)"""

VOYAGE_MODELS = {
    model.name: model
    for model in (
        _model("voyage-4-large", _ANY, _SMALL, _FOUR),
        _model("voyage-4", _ANY, _MEDIUM, _FOUR),
        _model("voyage-4-lite", _ANY, _MILLION, _FOUR),
        _model("voyage-code-4", _ANY, _SMALL),
        _model("voyage-3.5", _ANY, _MEDIUM),
        _model("voyage-3.5-lite", _ANY, _MILLION),
        _model("voyage-3-large", _ANY, _SMALL),
        _model("voyage-code-3", _ANY, _SMALL),
        _model("voyage-3", (1024,), _SMALL),
        _model("voyage-3-lite", (512,), _SMALL),
        _model("voyage-multilingual-2", (1024,), _SMALL),
        _model("voyage-finance-2", (1024,), _SMALL),
        _model("voyage-law-2", (1024,), _SMALL),
    )
}


def check_model(name: str, dimensions: int) -> VoyageModel:
    """Return the model, or say what is wrong with the two settings.

    Raises:
        SettingsError: there is no such model, or it cannot give that many dimensions.
    """
    model = VOYAGE_MODELS.get(name)
    if model is None:
        near = get_close_matches(name, VOYAGE_MODELS, n=1)
        raise SettingsError(
            f"LKMONGO_EMBEDDING_MODEL: there is no Voyage model {name!r}",
            hint=(f"did you mean {near[0]}? " if near else "") + "known models: " + ", ".join(VOYAGE_MODELS),
        )
    if dimensions not in model.dimensions:
        allowed = ", ".join(map(str, model.dimensions))
        raise SettingsError(
            f"LKMONGO_EMBEDDING_DIMENSIONS: {name} cannot give {dimensions} dimensions", hint=f"it gives {allowed}"
        )
    return model
