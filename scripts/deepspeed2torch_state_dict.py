"""Turns a checkpoint of any kind (a DeepSpeed folder, say) into one small file with the trained head alone."""

import argparse
import os

from flmm.cli.script import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", help="DeepSpeed folder (work_dirs/.../iter_N.pth), torch file or .safetensors")
    parser.add_argument("output", help="file to write: .pth or .safetensors")
    args = parser.parse_args()
    from safetensors.torch import save

    from flmm.checkpoint import part_name, publish, read_head, save_atomically
    from flmm.outputs import in_folder

    in_folder(args.output, args.checkpoint)
    head = {name: value.contiguous() for name, value in read_head(args.checkpoint).items()}
    if args.output.endswith(".safetensors"):
        part_name(args.output).write_bytes(save(head))
        publish(part_name(args.output), args.output)
    else:
        save_atomically({"state_dict": head, "meta": {}}, args.output)
    count = sum(value.numel() for value in head.values())
    print(f"{args.output}: {count:,} parameters, {os.path.getsize(args.output):,} bytes")


if __name__ == "__main__":
    run_script(main)
