"""Your data: accelerate launch scripts/multiprocess_eval_own.py CONFIG FILE.jsonl --checkpoint CKPT."""

from pathlib import Path

from flmm.cli.script import run_script
from flmm.evaluation.own import evaluate_own
from flmm.evaluation.run import Evaluation, evaluation_arguments
from flmm.evaluation.tables import OWN_HEADER, own_rows, print_table


def main() -> None:
    parser = evaluation_arguments(__doc__)
    parser.add_argument("data_root", metavar="FILE.jsonl", help="your data, as docs/own_data.md describes it")
    parser.add_argument("--root", help="folder that the paths of FILE.jsonl start from [that of the file]")
    args = parser.parse_args()
    evaluation = Evaluation(args)
    metrics = evaluate_own(evaluation, args.data_root, args.root)
    name = Path(args.data_root).stem
    if evaluation.accelerator.is_main_process:
        print_table(f"{args.data_root}, percent", OWN_HEADER, own_rows(metrics))
    evaluation.report(f"own_{name}", {"protocol": "own"}, {name: metrics})
    evaluation.close()


if __name__ == "__main__":
    run_script(main)
