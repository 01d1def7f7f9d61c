"""Tries every image-text type of the installed transformers by config alone, and writes docs/supported_lmms.md.

Each type is tried in its process, one at a time; results are kept, so a run goes on where it stopped. SmolVLM's
processor needs the package num2words, which the project does not.

Usage: python scripts/survey_lmms.py [TYPE ...] [--results FILE] [--out FILE] [--seconds N] [--again]
"""

import argparse
import json
import multiprocessing
import os
import resource
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from survey.probe import probe
from survey.report import report
from survey.tiny_lmm import model_types

PATIENCE = 50  # seconds of the clock for each second of a processor


def main() -> None:
    """Reads the command line and runs what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", help="types to try (all)")
    parser.add_argument("--results", type=Path, default=Path("work_dirs/survey_lmms.json"))
    parser.add_argument("--out", type=Path, help="write the page here, e.g. docs/supported_lmms.md")
    parser.add_argument("--seconds", type=int, default=120, help="of a processor, for one type")
    parser.add_argument("--again", action="store_true", help="try again what has a result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    for model_type in args.types or model_types():
        if model_type in results and not (args.again or args.types):
            continue
        results[model_type] = limited(model_type, args.seconds)
        save(args.results, json.dumps(results, indent=1))
        shown = results[model_type]
        print(f"{model_type:24} {shown['stage']:10} {shown['rule'] or shown['reason'][:150]}", flush=True)
    if args.out:
        tried = [name for name in model_types() if name in results]
        missing = [name for name in model_types() if name not in results]
        save(args.out, report([results[name] for name in tried], missing))


def limited(model_type: str, seconds: int) -> dict[str, Any]:
    """The result of one type, tried in a process of its own that may use so many seconds of a processor."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(send, model_type, seconds))
    process.start()
    send.close()
    reason = f"longer than {PATIENCE * seconds} s"
    try:
        if receive.poll(PATIENCE * seconds):
            return receive.recv()
    except EOFError:
        process.join(5)
        used_up = process.exitcode == -signal.SIGXCPU
        reason = f"more than {seconds} s of a processor" if used_up else f"its process ended ({process.exitcode})"
    finally:
        if process.is_alive():
            process.join(5)
        process.kill()
        process.join()
    return {"model_type": model_type, "stage": "killed", "reason": reason, "rule": "", "refused": {}}


def child(send: Connection, model_type: str, seconds: int) -> None:
    """Tries a type; time on a processor is limited, not on the clock, as others may use the machine."""
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds + 5))
    send.send(probe(model_type))


def save(path: Path, text: str) -> None:
    """Writes a file under another name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
