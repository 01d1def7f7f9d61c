"""Captions with masks (GCG): accelerate launch scripts/multiprocess_infer_gcg.py CONFIG --checkpoint CKPT."""

from flmm.cli.script import run_script
from flmm.datasets.gcg import SPLITS, annotation_files
from flmm.evaluation.answers import GCG_QUESTION, infer_gcg
from flmm.evaluation.run import Evaluation, evaluation_arguments


def main() -> None:
    parser = evaluation_arguments(__doc__, splits=SPLITS, default=("val",))
    parser.add_argument("--question", default=GCG_QUESTION, help="what the LMM is asked about each picture")
    parser.add_argument("--max-new-tokens", type=int, default=100, help="longest caption")
    args = parser.parse_args()
    evaluation = Evaluation(args, annotation_files, "GranDf")
    for split in args.split:
        folder = infer_gcg(evaluation, split, args.question, args.max_new_tokens)
        captions, masks = annotation_files(evaluation.args.data_root, split)
        command = f"python scripts/eval_gcg.py --predictions {folder} --captions {captions} --masks {masks}"
        evaluation.accelerator.print(f"scores: {command} --similarity bert-base-uncased --output {folder}.json")
    evaluation.close()


if __name__ == "__main__":
    run_script(main)
