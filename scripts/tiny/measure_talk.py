"""Measure how the embedded LMM talks: chain of thought, keywords, explanations, cost of a reply, cases.

    python scripts/tiny/measure_talk.py              # all of it, about 40 minutes on one core
    python scripts/tiny/measure_talk.py --share 0.1  # on a tenth of the samples

It needs `data/shapes` (`flmm data shapes`). Figures are printed and written as JSON. A rerun into the same --out goes
on; give another folder for other weights or another share.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from dialogues import BRIEFLY
from measure import UNSEEN_SEED, Unseen

import flmm
from flmm.chat.faithful import faithful
from flmm.chat.reply import Reply, phrase_of_tokens
from flmm.chat.visual_cot import VERSIONS
from flmm.config import TINY_CHECKPOINT, TINY_CONFIG
from flmm.datasets.phrases import Span
from flmm.datasets.shapes.captions import PLURALS, caption_phrases
from flmm.datasets.shapes.implicit import sample_query
from flmm.datasets.shapes.scene import COLORS, LOWER, SHAPES, SIZES, UPPER
from flmm.datasets.shapes.talk_files import VISCOT
from flmm.evaluation.keyword_run import HEADER, keyword_metrics, keyword_rows, scored
from flmm.evaluation.records import Record, write_json
from flmm.evaluation.tables import print_table

Rows = dict[str, Any]
LOOKS, KINDS = (*SIZES, *COLORS), (*SHAPES, *PLURALS.values(), "shape", "shapes")
# What is named in captions and answers of this LMM, whose few words are known.
_SHAPE = rf"(?:(?:an?|the|two|three) )?(?:(?:{'|'.join(LOOKS)}) )*(?:{'|'.join(KINDS)})\b"
NAMED = re.compile(rf"{_SHAPE}|the (?:{'|'.join((*UPPER, *LOWER))})\b")


def measure_viscot(args: argparse.Namespace) -> Rows:
    """Each version of visual chain of thought on the sign benchmark."""
    items = json.loads((args.data_root / VISCOT).read_text())
    count = share_of(len(items), args)
    benchmark = args.out / "benchmark"
    benchmark.mkdir(exist_ok=True)
    write_json(benchmark / "signs.json", items[:count])
    script, rows = ROOT / "scripts/visual_cot/visual_cot_inference.py", {}
    for version in VERSIONS:
        options = ["--benchmark", benchmark, "--image_folder", args.data_root, "--save_folder", args.out / "viscot"]
        run(script, args.config, "--checkpoint", args.checkpoint, "--version", version, *options)
        folder = args.out / "viscot" / f"{Path(args.config).stem}_visual_cot_{version}"
        rows[version] = json.loads((folder / "visual_cot.json").read_text())["splits"]["signs"]
    columns = ("items", "exact", "token_f1", "box_iou", "box_acc50", "pointing")
    table = [[version, *(row.get(column) for column in columns)] for version, row in rows.items()]
    print_table("visual chain of thought, signs, percent", ("version", *columns), table)
    return rows


def measure_keywords(args: argparse.Namespace) -> Rows:
    """The keyword selector on captions and free texts of the validation data, and on what the LMM says itself."""
    output = args.out / "keywords"
    options = ["--data-root", args.data_root, "--limit", share_of(400, args), "--output", output]
    run(ROOT / "scripts/multiprocess_eval_keywords.py", args.config, "--checkpoint", args.checkpoint, *options)
    texts = json.loads((output / "keywords.json").read_text())["splits"]["val"]
    model = flmm.load(args.config, args.checkpoint)
    records = list(answer_records(model, share_of(100, args)))
    answers = keyword_metrics(records, model.model.keywords.threshold)
    for title, metrics in (("captions and free texts", texts), (f"{len(records)} of its answers", answers)):
        print_table(f"keywords, {title}, percent", HEADER, keyword_rows(metrics))
    return {"texts": texts, "answers": answers}


def answer_records(model: Any, count: int) -> Iterator[Record]:
    """Records of captions and of answers to implicit queries, both the LMM's words."""
    for number in range(count):
        item = Unseen(UNSEEN_SEED + 1000 + number)
        query = sample_query(item.scene, item.rng, is_sentence=True)
        reply = model.answer(item.image, f"{query.text} {BRIEFLY}" if number % 2 else None, 60)
        if reply.text:
            record = scored(model.model.keywords, reply.attended().hidden, reply.text, reply.spans)
            yield {**record, "labels": phrase_of_tokens(reply.spans, named(reply.text)).tolist()}


def named(text: str) -> list[Span]:
    """What a text of this LMM names."""
    return [match.span() for match in NAMED.finditer(text)]


def measure_faithful(args: argparse.Namespace) -> Rows:
    """Whether the regions that phrases attend to are those that they depend on; phrases of right captions."""
    model, pairs, targets = flmm.load(args.config, args.checkpoint), [], []
    for seed in range(UNSEEN_SEED + 2000, UNSEEN_SEED + 2000 + share_of(30, args)):
        item = Unseen(seed)
        reply: Reply = model.answer(item.image, None, 60)
        for phrase in caption_phrases(item.scene):
            if reply.text.count(phrase.utterance) == 1:
                pairs.append((reply, phrase.utterance))
                targets.append((item.regions[..., None] == list(phrase.regions)).any(-1))
    rows = faithful(pairs, targets).summary()
    print_table("attention as an explanation (4 x 4 regions)", ("figure", "value"), rows.items())
    return rows


def measure_cost(args: argparse.Namespace) -> Rows:
    """Time of `ask` over that of plain `generate` for the same tokens in turn, and the memory that a reply keeps."""
    model, item = flmm.load(args.config, args.checkpoint), Unseen(UNSEEN_SEED)
    chat = model.chat(item.image)
    reply = chat.ask()
    backbone, tokens = model.model.backbone, len(reply.token_ids)
    sample = reply.prompt.sample()

    def plain() -> None:
        with torch.no_grad():
            backbone.generate(**backbone.prompt(sample).inputs, max_new_tokens=tokens + 1, do_sample=False)

    def ask() -> None:
        chat.reset()
        chat.ask(max_new_tokens=tokens)

    seconds: dict[str, float] = {"plain": 0.0, "ask": 0.0}
    for _ in range(share_of(20, args)):
        for name, way in (("plain", plain), ("ask", ask)):
            start = time.process_time()
            way()
            seconds[name] += time.process_time() - start
    assert reply.answer is not None
    bound = model.model.read.kept_bytes(backbone.tokens(sample), tokens)
    rows = {"tokens": tokens, "ask / plain generate, time": seconds["ask"] / seconds["plain"]}
    rows |= {"kept by the reply, bytes": reply.answer.num_bytes, "as computed beforehand, bytes": bound}
    print_table("cost of a reply", ("figure", "value"), rows.items())
    return rows


def measure_cases(args: argparse.Namespace) -> Rows:
    """The twenty cases."""
    manifest, out = args.out / "cases.json", args.out / "cases"
    run(ROOT / "scripts/tiny/make_cases.py", "--data-root", args.data_root, "--out", manifest)
    options = ["--config", args.config, "--checkpoint", args.checkpoint, "--out", out, "--limit", share_of(20, args)]
    run("-m", "flmm.cli", "cases", manifest, *options)
    return json.loads((out / "report.json").read_text())["summary"]


ROOT = Path(__file__).parents[2]
PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "cost": measure_cost,
    "cases": measure_cases,
    "keywords": measure_keywords,
    "viscot": measure_viscot,
    "faithful": measure_faithful,
}


def share_of(count: int, args: argparse.Namespace) -> int:
    """So many samples, at least two."""
    return max(2, round(count * args.share))


def run(*command: Any) -> None:
    """Run a script of this project; an error of it ends the measurement."""
    subprocess.run([sys.executable, *map(str, command)], check=True)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "talk.json"
    rows: Rows = json.loads(file.read_text()) if file.is_file() else {}
    for name in args.parts:
        start = time.time()
        rows[name] = PARTS[name](args)
        write_json(file, rows)
        print(f"{name}: {time.time() - start:.0f} s, in {file}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=TINY_CONFIG)
    parser.add_argument("--checkpoint", default=TINY_CHECKPOINT, help="head; by default the one in git")
    parser.add_argument("--data-root", type=Path, default=Path("data/shapes"))
    parser.add_argument("--out", type=Path, default=Path("work_dirs/tiny_llava/talk"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--share", type=float, default=1.0, help="of the samples of each part")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
