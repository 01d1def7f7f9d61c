"""Opens a page in the browser: talk about pictures, click what is said, see where words look, hide regions."""

from __future__ import annotations

import argparse
import socket
from importlib.util import find_spec

from flmm.cli.model_options import add_model_options, load_model
from flmm.paths import locate

TINY_QUESTIONS = ("What is the lower part of the image?", "How many shapes are there?")  # that it learned to answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm web`."""
    add_model_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in; use --auth [%(default)s]")
    parser.add_argument("--port", type=int, help="[the first free one from 7860]")
    parser.add_argument("--examples", default="data/shapes/val2017", help="folder of pictures to offer [%(default)s]")
    parser.add_argument("--question", action="append", metavar="TEXT", help="a further question to propose; repeat")
    parser.add_argument("--auth", action="append", metavar="NAME:PASSWORD", help="who may come in; repeat for more")
    parser.add_argument("--root-path", default="", help="path below which a proxy serves the page, e.g. /flmm")
    parser.add_argument("--max-new-tokens", type=int, default=200, help="longest reply [%(default)s]")
    parser.add_argument("--upload-megabytes", type=float, default=10, help="largest picture file [%(default)s]")
    parser.add_argument("--seconds", type=float, default=60, help="longest time of a request [%(default)s]")
    parser.add_argument("--queue", type=int, default=64, help="most requests that wait [%(default)s]")
    parser.add_argument("--users", type=int, default=64, help="most users that are remembered [%(default)s]")


def run(args: argparse.Namespace) -> int:
    """Load the model and serves the page until Ctrl+C.

    Raises:
        FileNotFoundError: When a config or checkpoint does not exist.
        ValueError: When gradio is not installed, a limit or name:password is wrong, or the page cannot listen there.
    """
    if find_spec("gradio") is None:
        raise ValueError("the page needs gradio: `make install`, or `uv pip install -e '.[web]'` in the repository")
    check_address(args.host, args.port)
    auth = [pair_of(text) for text in args.auth or ()]
    if args.host not in ("127.0.0.1", "localhost") and not auth:
        print(f"whoever reaches {args.host} can use the page: --auth NAME:PASSWORD keeps others out")
    from flmm.web.limits import Limits
    from flmm.web.server import example_files, serve

    limits = Limits(
        upload_megabytes=args.upload_megabytes,
        tokens=args.max_new_tokens,
        seconds=args.seconds,
        queue=args.queue,
        users=args.users,
    )
    examples = example_files(locate(args.examples))
    if not examples:
        print(f"no example pictures in {args.examples}: `flmm data shapes` makes some")
    model = load_model(args)
    try:
        serve(
            model,
            host=args.host,
            port=args.port,
            examples=examples,
            questions=args.question or (() if args.config or args.checkpoint else TINY_QUESTIONS),
            auth=auth,
            root_path=args.root_path,
            limits=limits,
        )
    except OSError as error:
        raise ValueError(f"cannot listen at {args.host}, port {args.port or 'from 7860'}: {error}") from error
    return 0


def check_address(host: str, port: int | None) -> None:
    """Find out before the model is loaded whether the page can listen there; ValueError when it cannot."""
    if port is not None and not 0 < port < 2**16:
        raise ValueError(f"--port {port}: ports are numbers from 1 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise ValueError(f"cannot listen at {host}, port {port or 'from 7860'}: {error.strerror}") from error


def pair_of(text: str) -> tuple[str, str]:
    """Name and password; ValueError without both."""
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise ValueError(f"--auth {name!r} has no password: write NAME:PASSWORD")
    return name, password
