"""VisCoT: accelerate launch scripts/visual_cot/visual_cot_inference.py CONFIG --checkpoint CKPT --version v1."""

import argparse
from functools import partial
from pathlib import Path

from flmm.api import GroundingModel
from flmm.chat.visual_cot import VERSIONS, CotPrompts, VisualCoT
from flmm.cli.script import run_script
from flmm.config import sample_settings
from flmm.datasets.sample import SampleBuilder
from flmm.datasets.visual_cot import picture_files, read_items
from flmm.evaluation.answer_scores import means_of_subsets
from flmm.evaluation.records import write_json
from flmm.evaluation.run import Evaluation
from flmm.evaluation.tables import print_table
from flmm.evaluation.visual_cot import cot_metrics, cot_records
from flmm.outputs import apart

COLUMNS = ("items", "exact", "anls", "token_f1", "yes_no", "box_iou", "box_acc50", "pointing")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("config", nargs="?", help="config file of the model; without it that of the checkpoint")
    add("--checkpoint", help="trained head")
    add("--benchmark", default="scripts/visual_cot/benchmark", help="folder of the benchmark's JSON files")
    add("--subset", nargs="+", metavar="NAME", help="files to answer, by name [all of them]")
    add("--image_folder", dest="data_root", default="data", help="folder below which the pictures lie")
    add("--version", choices=VERSIONS, default="v1", help="v1 thinks, v2 looks with the question, v3 only answers")
    add("--save_folder", default="visual_cot", help="folder for the results")
    add("--discard_sam", action="store_true", help="find regions with the U-Net alone")
    add("--box_scale", type=float, default=1.0, help="factor on the sides of the box")
    add("--debug", action="store_true", help="answer every 50th question only")
    add("--overwrite", action="store_true", help="answer again what the folder holds already")
    args = parser.parse_args()
    model = Path(args.config or args.checkpoint or "no_model").stem
    name = f"{model}_visual_cot_{args.version}" + "_debug" * args.debug
    args.output, args.limit, args.batch_size, args.workers = str(Path(args.save_folder, name)), None, 1, 0
    return args


def subsets(args: argparse.Namespace) -> list[Path]:
    """List the files to answer."""
    files = sorted(Path(args.benchmark).glob("*.json"))
    if args.subset:
        files = [Path(args.benchmark, f"{name}.json") for name in args.subset]
    if not files:
        raise FileNotFoundError(f"no benchmark file in {args.benchmark}: docs/visual_cot.md tells where they come from")
    return files


def main() -> None:
    args = parse()
    questions = {}
    for file in subsets(args):
        items = read_items(file)[:: 50 if args.debug else 1]
        questions[file] = list(zip(items, picture_files(items, args.data_root), strict=True))
    apart([args.output], [args.benchmark])
    evaluation = Evaluation(args)
    model = GroundingModel(evaluation.model, SampleBuilder(**sample_settings(evaluation.config)))
    prompts = CotPrompts.from_config(evaluation.config)
    cot = VisualCoT(model, prompts, args.box_scale, args.discard_sam)
    about = {"discard_sam": args.discard_sam, "box_scale": args.box_scale, "prompts": vars(prompts)}
    metrics = {}
    for file, items in questions.items():
        evaluate = partial(cot_records, cot, args.version, evaluation.folder / f"{file.stem}.pictures")
        records = evaluation.records(file.stem, args.version, partial(list, items), evaluate, [file], **about)
        if evaluation.accelerator.is_main_process:
            write_json(evaluation.folder / f"{file.stem}.json", records)
            metrics[file.stem] = cot_metrics(records, args.version)
    if evaluation.accelerator.is_main_process:
        rows = {**metrics, **means_of_subsets(metrics)}
        table = [[name, *(row.get(column) for column in COLUMNS)] for name, row in rows.items()]
        print_table(f"VisCoT {args.version}, percent", ("subset", *COLUMNS), table)
    evaluation.report("visual_cot", {"version": args.version, **about}, metrics)
    evaluation.close()


if __name__ == "__main__":
    run_script(main)
