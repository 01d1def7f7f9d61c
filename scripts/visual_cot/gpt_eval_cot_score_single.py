"""Scores of one result file by a language model: gpt_eval_cot_score_single.py --result_file FILE."""

import sys
from pathlib import Path

from flmm.evaluation.judge_run import judge_arguments, run


def main() -> int:
    parser = judge_arguments(__doc__)
    parser.add_argument("--result_file", type=Path, required=True, help="file that visual_cot_inference.py wrote")
    args = parser.parse_args()
    return run(args, lambda: [args.result_file])


if __name__ == "__main__":
    sys.exit(main())
