"""ReasonSeg: accelerate launch scripts/multiprocess_eval_reasonseg.py CONFIG --checkpoint CKPT."""

from flmm.datasets.reason_seg import SPLITS
from flmm.evaluation.answers import VARIANTS, evaluate_reason_seg
from flmm.evaluation.run import Evaluation, evaluation_arguments
from flmm.evaluation.tables import REASON_SEG_HEADER, print_table, reason_seg_rows


def main() -> None:
    parser = evaluation_arguments(__doc__, splits=SPLITS, default=("val", "test"))
    parser.set_defaults(data_root="data/ReasonSeg")
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in VARIANTS.items())
    parser.add_argument("--variant", choices=list(VARIANTS), default="answer", help=f"what is grounded: {meanings}")
    args = parser.parse_args()
    evaluation = Evaluation(args)
    results = {split: evaluate_reason_seg(evaluation, split, args.variant) for split in args.split}
    if evaluation.accelerator.is_main_process:
        title = f"ReasonSeg, {args.variant}: {VARIANTS[args.variant]}, percent"
        print_table(title, REASON_SEG_HEADER, reason_seg_rows(results))
    about = {"protocol": args.variant, "meaning": VARIANTS[args.variant]}
    evaluation.report(f"reason_seg_{args.variant}", about, results)
    evaluation.close()


if __name__ == "__main__":
    main()
