"""Tries to ground with a tiny LMM of one type, and says how far it came and why not further."""

import traceback
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from PIL import Image
from survey.overrides import IMAGE_TEXTS
from survey.tiny_lmm import TinyLMM

from flmm.models.capture import capture
from flmm.models.frozen_hf import HFBackbone
from flmm.models.grid_check import prefill_difference
from flmm.models.grid_search import built, find_rule, image_texts
from flmm.models.hf_checks import check_model, find_decoder

TEMPLATE = {"INSTRUCTION": "User: {input}\nAssistant:"}
TEXT, PHRASES = "a ball on the grass", ["a ball", "grass"]


@dataclass
class Result:
    """What came of one type.

    Attributes:
        model_type: The type.
        stage: Where it ended: processor, config, model, read, grid, capture, or done.
        reason: Why it went no further.
        rule: The rule that passed the grid check.
        image_token: What stands for a picture in a prompt.
        lowest: Lowest score of the grid check.
        views: Rows and columns of each view of a picture of 640 x 416.
        layers: Layers of the decoder, and those with softmax attention.
        attention_error: Largest difference between captured and eager attention.
        hidden_error: The same of the last hidden state, relative to its size.
        answer_error: How far what an answer reads is from what grounding reads.
        refused: By rule, why it did not pass.
    """

    model_type: str
    stage: str = "processor"
    reason: str = ""
    rule: str = ""
    image_token: str = ""
    lowest: float = 0.0
    views: list[tuple[int, int]] = field(default_factory=list)
    layers: tuple[int, int] = (0, 0)
    attention_error: float | None = None
    hidden_error: float | None = None
    answer_error: float | str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    trace: str = ""


def probe(model_type: str) -> dict[str, Any]:
    """A `Result` as a dict, whatever happens."""
    result = Result(model_type)
    try:
        _run(result)
    except Exception as error:  # noqa: BLE001 -- what a foreign model says is the result
        result.reason = f"{type(error).__name__}: {error}"
        result.trace = "".join(traceback.format_exc().splitlines(keepends=True)[-9:])
    return asdict(result)


def _run(result: Result) -> None:
    tiny = TinyLMM(result.model_type)
    result.stage = "model"
    model: Any = tiny.model()
    result.stage = "read"
    check_model(model, find_decoder(getattr(model, "model", model)))
    result.stage = "grid"
    for token in IMAGE_TEXTS.get(result.model_type) or [*image_texts(tiny.processor), "<image>"]:
        settings = {"tokenizer": tiny.tokenizer, "prompt": token + "Describe.", "prompt_template": TEMPLATE}
        try:
            found = find_rule(model, tiny.processor, token, settings)
        except ValueError as error:  # the processor knows no such text
            result.refused |= {token: str(error)}
            continue
        result.refused |= {f"{token} {rule}": why for rule, why in found.refused.items()}
        if found.rule is not None:
            break
    else:
        result.reason = "no rule passes the grid check: " + telling(result.refused)
        return
    result.rule, result.image_token, result.lowest, result.views = str(found.rule), token, found.lowest, found.views
    result.stage = "capture"
    backbone, builder = built(model, tiny.processor, token, settings, found.rule)
    result.layers = (backbone.num_layers, len(backbone.attending))
    compare(result, backbone, builder)
    if result.attention_error < 1e-5 and result.hidden_error < 1e-4:
        result.stage = "done"
    else:
        result.reason = f"capture differs from eager: {result.attention_error:.1e}, hidden {result.hidden_error:.1e}"
    try:
        result.answer_error = prefill_difference(backbone, builder)
    except Exception as error:  # noqa: BLE001 -- grounding of a given text works nevertheless
        result.answer_error = f"{type(error).__name__}: {error}"[:300]


def telling(refused: dict[str, str]) -> str:
    """Of all refusals the one that says most: the model's, a square elsewhere, then any other."""
    for word in ("cannot read pixel_values", "does not light up", "image tokens in the input", ""):
        for rule, why in refused.items():
            if word in why:
                return f"{rule}: {why}"
    return ""


@torch.no_grad()
def compare(result: Result, backbone: HFBackbone, builder: Any) -> None:
    """Captured attention of the phrases' tokens beside that of eager attention, and the last hidden state."""
    image = Image.new("RGB", (320, 208), (90, 120, 60))
    image.paste((220, 40, 30), (20, 20, 150, 120))
    sample = builder.ground(image, TEXT, PHRASES)
    tokens, decoder = backbone.tokens(sample), backbone.decoder
    rows = (tokens.mask_ids >= 0).nonzero().flatten()
    with capture(decoder, [rows], lambda weights, _index: weights) as captured:
        decoder(**tokens.inputs, use_cache=False)
    before = decoder.config._attn_implementation
    backbone.model.set_attn_implementation("eager")
    try:
        given = backbone.tokens(sample).inputs  # with the masks that eager attention takes
        eager = decoder(**given, use_cache=False, output_attentions=True)
    finally:
        backbone.model.set_attn_implementation(before)
    maps = [weights[0][:, rows] for weights in eager.attentions if isinstance(weights, torch.Tensor)]
    seen = [captured.attention[index][0] for index in backbone.attending]
    if len(maps) != len(seen):
        raise ValueError(f"eager attention gives {len(maps)} maps, the capture {len(seen)}")
    result.attention_error = max(float((a - b).abs().max()) for a, b in zip(maps, seen, strict=True))
    last = captured.hidden[len(decoder.layers) - 1][0]
    expected = eager.last_hidden_state[0, rows]
    result.hidden_error = float((last - expected).norm() / expected.norm())
