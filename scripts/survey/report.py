"""Writes what the survey found as a page of the documentation."""

from collections.abc import Sequence
from typing import Any

import transformers
from survey.overrides import REASONS

HEAD = """# Image-text models of transformers, tried one by one

`python scripts/survey_lmms.py --out docs/supported_lmms.md` wrote this page with transformers {version}. It makes a
tiny random model of every image-text type with the type's real processor, and grounds with it by config alone. A type
*grounds* when a bright square lights up at its place in every view of pictures of 640 x 416, 500 x 500, 900 x 300 and
300 x 900 pixels, and captured attention equals eager attention (largest difference below 1e-5, last hidden state below
1e-4 of its size). Real weights and tokenizers were not tried: `flmm new-backbone NAME` and
`flmm check-backbone CONFIG` ask those.

{total} types: **{grounds} ground by config**, {other} do not{untried}.

"""
GROUNDS = """## Ground by config

`rule` is what a config says as `model.grid`, and the arguments of its image processor. Views are those of a picture of
640 x 416. An answer reads what grounding reads, unless the last column says otherwise.

| type | rule | views | layers that attend | capture - eager | answer |
|---|---|---|---|---|---|
"""
OTHERS = """
## Do not

The reasons of the types that were read or refused are those that this project or transformers gives when it tries.

| type | how far | why |
|---|---|---|
"""
STAGES = {
    "processor": "its tiny processor or config cannot be built",
    "model": "its tiny model cannot be built",
    "read": "refused",
    "grid": "read; no grid rule passes",
    "capture": "read, grid right; not captured",
    "killed": "not finished",
}


def report(results: Sequence[dict[str, Any]], untried: Sequence[str] = ()) -> str:
    """The page: types that ground, those that do not, and those without a result."""
    done = [result for result in results if result["stage"] == "done"]
    left = [result for result in results if result["stage"] != "done"]
    head = HEAD.format(
        version=transformers.__version__,
        total=len(results),
        grounds=len(done),
        other=len(left),
        untried=f", {len(untried)} more were not tried yet" if untried else "",
    )
    missing = f"\n## Not tried yet\n\n{', '.join(f'`{name}`' for name in untried)}\n" if untried else ""
    return head + GROUNDS + "".join(map(grounded, done)) + OTHERS + "".join(map(refused, left)) + missing


def grounded(result: dict[str, Any]) -> str:
    """A row of the first table."""
    views = " + ".join(f"{rows} x {columns}" for rows, columns in result["views"])
    layers, attending = result["layers"]
    answer = result["answer_error"]
    said = "as read" if isinstance(answer, float) and answer < 1e-3 else f"differs: {shortened(str(answer))}"
    cells = (
        f"`{result['model_type']}`",
        f"`{result['rule']}`",
        views,
        f"{attending} of {layers}",
        f"{result['attention_error']:.0e}",
        said,
    )
    return f"| {' | '.join(cells)} |\n"


def refused(result: dict[str, Any]) -> str:
    """A row of the second table."""
    reason = REASONS.get(result["model_type"])
    if result["stage"] == "read":  # what the project's refusal says
        reason = reason or shortened(result["reason"])
    why = reason or f"not known: this reduction of it fails ({shortened(result['reason'])})"
    return f"| `{result['model_type']}` | {STAGES[result['stage']]} | {why} |\n"


def shortened(text: str, length: int = 220) -> str:
    """Text for a cell of a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " ..."
