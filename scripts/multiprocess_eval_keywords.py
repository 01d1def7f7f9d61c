"""Keyword selector, PNG: accelerate launch scripts/multiprocess_eval_keywords.py CONFIG --checkpoint CKPT."""

from functools import partial

from flmm.cli.script import run_script
from flmm.config import png_dataset, png_files, sample_settings
from flmm.datasets.sample import SampleBuilder
from flmm.evaluation.keyword_run import HEADER, keyword_metrics, keyword_records, keyword_rows
from flmm.evaluation.run import Evaluation, evaluation_arguments
from flmm.evaluation.tables import print_table


def main() -> None:
    args = evaluation_arguments(__doc__, splits=("train", "val"), default=("val",)).parse_args()
    evaluation = Evaluation(args, png_files, keywords={})
    tokenizer = SampleBuilder(**sample_settings(evaluation.config)).tokenizer
    results = {}
    for split in args.split:
        dataset = partial(png_dataset, evaluation.config, evaluation.args.data_root, split)
        evaluate = partial(keyword_records, evaluation.model, tokenizer)
        records = evaluation.records(f"png_{split}", "keywords", dataset, evaluate)
        if evaluation.accelerator.is_main_process:
            results[split] = keyword_metrics(records, evaluation.model.keywords.threshold)
            title = f"keywords of {len(records)} captions of PNG {split}, percent"
            print_table(title, HEADER, keyword_rows(results[split]))
    evaluation.report("keywords", {"protocol": "teacher_forced"}, results)
    evaluation.close()


if __name__ == "__main__":
    run_script(main)
