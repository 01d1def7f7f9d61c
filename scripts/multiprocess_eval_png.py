"""PNG benchmark: accelerate launch scripts/multiprocess_eval_png.py CONFIG --checkpoint CKPT."""

from flmm.cli.script import run_script
from flmm.config import png_files
from flmm.evaluation.run import Evaluation, evaluate_png, evaluation_arguments
from flmm.evaluation.tables import PNG_HEADER, png_rows, print_table


def main() -> None:
    args = evaluation_arguments(__doc__, splits=("train", "val"), default=("val",)).parse_args()
    evaluation = Evaluation(args, png_files)
    results = {split: evaluate_png(evaluation, split) for split in args.split}
    if evaluation.accelerator.is_main_process:
        for split, metrics in results.items():
            print_table(f"PNG {split}, teacher-forced captions, percent", PNG_HEADER, png_rows(metrics))
    evaluation.report("png", {"protocol": "teacher_forced"}, results)
    evaluation.close()


if __name__ == "__main__":
    run_script(main)
