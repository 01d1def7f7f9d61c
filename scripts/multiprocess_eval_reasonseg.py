"""ReasonSeg: accelerate launch scripts/multiprocess_eval_reasonseg.py CONFIG --checkpoint CKPT."""

from flmm.cli.script import run_script
from flmm.datasets.reason_seg import SPLITS, annotation_files
from flmm.evaluation.answers import VARIANTS, evaluate_reason_seg
from flmm.evaluation.run import Evaluation, evaluation_arguments
from flmm.evaluation.tables import REASON_SEG_HEADER, print_table, reason_seg_rows


def main() -> None:
    parser = evaluation_arguments(__doc__, splits=SPLITS, default=("val", "test"))
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in VARIANTS.items())
    parser.add_argument("--variant", choices=list(VARIANTS), default="answer", help=f"what is grounded: {meanings}")
    args = parser.parse_args()
    evaluation = Evaluation(args, annotation_files, "ReasonSeg")
    results = {split: evaluate_reason_seg(evaluation, split, args.variant) for split in args.split}
    if evaluation.accelerator.is_main_process:
        title = f"ReasonSeg, {args.variant}: {VARIANTS[args.variant]}, percent"
        print_table(title, REASON_SEG_HEADER, reason_seg_rows(results))
    about = {"protocol": args.variant, "meaning": VARIANTS[args.variant]}
    evaluation.report(f"reason_seg_{args.variant}", about, results)
    evaluation.close()


if __name__ == "__main__":
    run_script(main)
