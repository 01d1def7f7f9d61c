"""Scores grounded captions: eval_gcg.py --predictions FOLDER --captions FILE --masks FILE --similarity exact."""

import argparse
import sys
from pathlib import Path

from flmm.evaluation.gcg_scores import METRICS, evaluate_gcg
from flmm.evaluation.records import write_json
from flmm.evaluation.tables import print_table
from flmm.outputs import in_folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--predictions", required=True, help="folder of <image_id>.json, which multiprocess_infer_gcg.py wrote")
    add("--captions", required=True, help="{val,test}_gcg_coco_caption_gt.json")
    add("--masks", required=True, help="{val,test}_gcg_coco_mask_gt.json")
    add("--similarity", help="`exact`, or a text encoder (published: bert-base-uncased); without it there is no recall")
    add("--output", help="JSON file for the scores")
    args = parser.parse_args()
    try:
        read = (args.captions, args.masks, *Path(args.predictions).glob("*.json"))
        output = args.output and in_folder(args.output, *read)
        scores, remarks = evaluate_gcg(args.predictions, args.captions, args.masks, args.similarity)
    except (ValueError, FileNotFoundError) as error:
        print(f"eval_gcg.py: {error}", file=sys.stderr)
        return 1
    print_table("grounded conversation generation, percent", METRICS, [[scores[name] for name in METRICS]])
    for remark in remarks:
        print(f"- {remark}")
    if output:
        write_json(Path(output), {name: scores[name] for name in METRICS})
    return 0


if __name__ == "__main__":
    sys.exit(main())
