"""Referring expressions: accelerate launch scripts/multiprocess_eval_refcoco.py CONFIG --checkpoint CKPT."""

from flmm.cli.script import run_script
from flmm.config import RES_SPLITS, annotation_files
from flmm.evaluation.run import Evaluation, evaluate_res, evaluation_arguments
from flmm.evaluation.tables import RES_HEADER, print_table, res_rows

PROTOCOLS = {
    "concat": "first sentence of every object, all in one caption (the paper's protocol)",
    "per_sentence": "every sentence on its own",
}


def main() -> None:
    parser = evaluation_arguments(__doc__, splits=RES_SPLITS, default=RES_SPLITS)
    parser.add_argument("--concat", action="store_true", help=f"{PROTOCOLS['concat']}; without: each on its own")
    args = parser.parse_args()
    evaluation = Evaluation(args, annotation_files)
    protocol = "concat" if args.concat else "per_sentence"
    results = {split: evaluate_res(evaluation, split, args.concat) for split in args.split}
    if evaluation.accelerator.is_main_process:
        print_table(f"RES, {protocol}: {PROTOCOLS[protocol]}, percent", RES_HEADER, res_rows(results))
    evaluation.report(f"res_{protocol}", {"protocol": protocol, "meaning": PROTOCOLS[protocol]}, results)
    evaluation.close()


if __name__ == "__main__":
    run_script(main)
