"""Scores of all result files in a folder by a language model: gpt_eval_cot_score.py --result_dir FOLDER."""

import sys
from functools import partial

from flmm.evaluation.judge_run import judge_arguments, result_files, run


def main() -> int:
    parser = judge_arguments(__doc__)
    parser.add_argument("--result_dir", required=True, help="folder that visual_cot_inference.py wrote")
    args = parser.parse_args()
    return run(args, partial(result_files, args.result_dir))


if __name__ == "__main__":
    sys.exit(main())
