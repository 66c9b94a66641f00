"""The command line: which commands there are and how their errors look; knows nothing of what they do.

Nothing heavy is imported here, so that ``bonas --help`` answers at once; each command imports what it
needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell expects


class _Parser(argparse.ArgumentParser):
    """Reports a bad argument as every other user error is reported: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}. See `{self.prog} --help`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``bonas``; by default those this process was started with.

    Returns:
        The exit code: 0 done, 2 a user's error (one line on stderr), 130 interrupted by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser().parse_args(words)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\nbonas: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted. Python would complain again while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if os.environ.get("BONAS_TRACEBACK"):
            raise
        print(f"bonas: error: {_one_line(error)}", file=sys.stderr)
        return USAGE_ERROR


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename or ''}: {error.strerror}".lstrip(": ")
        return f"{said}. Check that the place exists, has room and may be written to."
    return " ".join(str(error).split())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bonas",
        description="Find the best network and training hyperparameters for a data set within a budget.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(run=_version_or_help(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    _add_search(commands)
    _add_show(commands)
    _add_best(commands)
    _add_explain(commands)
    _add_space(commands)
    return parser


def _version_or_help(parser: argparse.ArgumentParser) -> object:
    def run(arguments: argparse.Namespace) -> int:
        if arguments.version:
            from importlib.metadata import version

            print(f"bonas {version('bonas')}")
        else:
            parser.print_help()
        return 0

    return run


def _add_search(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "search",
        help="search, retrain the winner and report its test accuracy",
        description="Search for a network, retrain the winner on all training data and report its test "
        "accuracy. Started again with the same --study folder, the search goes on where it stopped; what "
        "it is about need not be said again.",
        epilog="Example: bonas search --data digits --space chain --timeout 60 --baseline",
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to search")
    what.add_argument(
        "--data",
        metavar="NAME",
        help="images: digits, mnist, fashion-mnist, cifar10, cifar100, or a folder with one sub-folder of "
        "images per class; vectors: digits-vectors, wine, breast-cancer, diabetes, a .csv file with the "
        "label in the last column, or an .npz file with X and y",
    )
    what.add_argument("--data-dir", metavar="DIR", help="folder in which the data set's files lie")
    what.add_argument("--download", action="store_true", help="fetch the data set if it is missing")
    what.add_argument(
        "--space",
        metavar="NAME",
        help="chain, mlp, nas_bench_201, darts, nasnet, enas or amoebanet; `bonas space NAME` says what is "
        "in it (default: chain for images, mlp for vectors)",
    )
    _add_macro(what)
    what.add_argument(
        "--objectives",
        metavar="NAMES",
        help="what makes a network good, such as accuracy, or several with commas between them, such as "
        "accuracy,macs: the search then finds the best trade-offs (default: accuracy; of numbers r2)",
    )
    what.add_argument(
        "--class-weights",
        metavar="NAME",
        help="balanced: all classes count alike in training, however many examples they have; goes well "
        "with --objectives balanced_accuracy (default: all examples count alike)",
    )
    what.add_argument(
        "--max-parameters", type=_positive, metavar="N", help="networks with more are never trained"
    )
    what.add_argument(
        "--max-macs",
        type=_positive,
        metavar="N",
        help="multiply-accumulates per example; those with more are never trained",
    )
    what.add_argument(
        "--max-memory",
        type=_bytes,
        metavar="B",
        help="bytes that training takes, such as 500MB or 8GB, predicted; those with more are never trained",
    )
    what.add_argument(
        "--max-latency",
        type=_positive_number,
        metavar="S",
        help="seconds for one example, measured on --device; those that take longer are never trained",
    )

    how = parser.add_argument_group("how to search")
    how.add_argument(
        "--sampler",
        metavar="NAME",
        help="what proposes networks: forest, tpe, smac, evolution, local-search, random or optuna-tpe "
        "(default: forest)",
    )
    how.add_argument(
        "--scheduler",
        metavar="NAME",
        help="what is trained for how long: asha, successive-halving, hyperband, median-stopping, "
        "extrapolation-stopping, freeze-thaw or full (default: asha)",
    )
    how.add_argument(
        "--axis",
        action="append",
        metavar="NAME=LOW:HIGH",
        help="a fidelity axis (epochs, subset, resolution, width, depth) with its range, or NAME=A,B,C "
        "for the only values there are; repeat for several (default: epochs=1:27, with --timeout what fits)",
    )
    how.add_argument(
        "--fix",
        action="append",
        metavar="NAME=VALUE",
        help="do not search this hyperparameter; repeat for several (default: for a data set known by name, "
        "the augmentation that suits it, no mix-up and no cutout)",
    )
    how.add_argument(
        "--warm-start",
        action="append",
        metavar="FOLDER",
        help="an earlier study to learn from, of the same space or a similar one, on whatever data; "
        "repeat for several",
    )
    how.add_argument("--seed", type=_seed, metavar="N", help="of everything random (default: 0)")

    end = parser.add_argument_group("when to stop (the first that is reached; default: --budget 20)")
    end.add_argument(
        "--n-trials", type=_positive, metavar="N", help="networks started, over all runs of the study"
    )
    end.add_argument(
        "--budget",
        type=_positive_number,
        metavar="B",
        help="cost in full evaluations, over all runs of the study",
    )
    end.add_argument(
        "--timeout", type=_positive_number, metavar="S", help="seconds of searching, in this run"
    )
    end.add_argument(
        "--trial-timeout",
        type=_positive_number,
        metavar="S",
        help="seconds after which a trial fails, for each of its segments",
    )

    where = parser.add_argument_group("where")
    where.add_argument(
        "--study", metavar="FOLDER", help="folder the study is kept in (default: runs/<data>-<space>)"
    )
    where.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="workers (default: %(default)s)"
    )
    where.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1 or auto (default: %(default)s)"
    )

    after = parser.add_argument_group("afterwards")
    after.add_argument("--no-retrain", action="store_true", help="only search; the test data stay untouched")
    after.add_argument(
        "--baseline",
        action="store_true",
        help="train a fixed hand-written network for the same seconds and report it beside the winner",
    )
    _add_retrain_epochs(after)
    after.add_argument(
        "--export", metavar="FOLDER", help="write the winner as weights, JSON and one Python file"
    )
    parser.set_defaults(run=_search)


def _add_show(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "show",
        help="summary and leaderboard of a study",
        description="Print what a study did, what it cost and what is best so far.",
        allow_abbrev=False,
    )
    parser.add_argument("study", metavar="STUDY", help="the study's folder")
    parser.add_argument(
        "--top", type=_positive, default=10, metavar="N", help="rows of the leaderboard (default: 10)"
    )
    parser.add_argument(
        "--fidelity",
        action="store_true",
        help="print what each rung costs and how it ranks the trials for the rungs above it",
    )
    parser.add_argument("--html", metavar="FILE", help="write everything as one page, pictures included")
    parser.add_argument("--plot", metavar="FILE", help="draw the search as a picture (.png, .svg or .pdf)")
    parser.set_defaults(run=_show)


def _add_best(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "best",
        help="the winner: retrain and export it",
        description="Print the best trial; retrain it on all training data, export it, or both.",
        allow_abbrev=False,
    )
    parser.add_argument("study", metavar="STUDY", help="the study's folder")
    parser.add_argument(
        "--trial",
        type=_seed,
        metavar="N",
        help="this trial instead, such as another one of the Pareto front (`bonas show` lists them)",
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train it on train and validation data and report test accuracy",
    )
    _add_retrain_epochs(parser)
    parser.add_argument("--export", metavar="FOLDER", help="write it as weights, JSON and one Python file")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder with the data set's files, if they have moved"
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1 or auto (default: %(default)s)"
    )
    parser.set_defaults(run=_best)


def _add_explain(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "explain",
        help="why a trial was started, promoted, paused or stopped",
        description="Print a sentence for every decision about a trial, with the figures it was made from.",
        epilog="Example: bonas explain runs/digits-chain 12",
        allow_abbrev=False,
    )
    parser.add_argument("study", metavar="STUDY", help="the study's folder")
    parser.add_argument("trial", type=_number, metavar="TRIAL", help="its number (`bonas show` lists them)")
    parser.set_defaults(run=_explain)


def _add_space(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = commands.add_parser(
        "space",
        help="what a space holds: hyperparameters, sizes, drawings",
        description="Print the hyperparameters of a space, with their ranges, priors and conditions, how "
        "many networks there are, and the size of one; draw it, write the space as JSON. Without a name: "
        "the spaces there are.",
        epilog="Example: bonas space darts --genotype DARTS_V2 --draw darts.svg",
        allow_abbrev=False,
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="chain, mlp, nas_bench_201, darts, nasnet, enas or amoebanet",
    )
    parser.add_argument(
        "--input-shape",
        type=_numbers,
        metavar="C,H,W",
        help="of one image, or the number of features of one vector (default: 3,32,32; for mlp 64)",
    )
    parser.add_argument(
        "--classes", type=_positive, default=10, metavar="N", help="classes to tell apart (default: 10)"
    )
    _add_macro(parser)
    which = parser.add_argument_group("which networks (default: the hand-written default)")
    which.add_argument("--sample", type=_positive, metavar="N", help="N drawn at random from the prior")
    which.add_argument("--seed", type=_seed, metavar="N", help="of --sample (default: 0)")
    which.add_argument(
        "--genotype",
        metavar="NAME",
        help="a published one, such as DARTS_V2, at its filters and cells unless they are given",
    )
    parser.add_argument("--draw", metavar="FILE", help="draw these networks (.svg)")
    parser.add_argument("--json", metavar="FILE", help="write the whole space, training included, as JSON")
    parser.set_defaults(run=_space)


def _add_macro(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--filters",
        type=_numbers,
        metavar="N",
        help="of a cell space's first stage; several, such as 8,16,32, are searched (default: 16)",
    )
    parser.add_argument(
        "--cells",
        type=_numbers,
        metavar="N",
        help="normal cells of each stage; several are searched (default: 2, for nas_bench_201 5)",
    )


def _add_retrain_epochs(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--retrain-epochs",
        type=_positive,
        metavar="N",
        help="epochs of the winner's retrain (default: three times a full evaluation of the search)",
    )


def _search(arguments: argparse.Namespace) -> int:
    from bonas.cli.search import run

    return run(arguments)


def _show(arguments: argparse.Namespace) -> int:
    from bonas.cli.show import run

    return run(arguments)


def _best(arguments: argparse.Namespace) -> int:
    from bonas.cli.best import run

    return run(arguments)


def _explain(arguments: argparse.Namespace) -> int:
    from bonas.cli.folder import open_folder

    print(open_folder(arguments.study).load().explain(arguments.trial))
    return 0


def _space(arguments: argparse.Namespace) -> int:
    from bonas.cli.space import run

    return run(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    if not all(part.strip().isdecimal() and int(part) for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: must be whole numbers from 1 with commas between them")
    return tuple(int(part) for part in text.split(","))


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return value


def _bytes(text: str) -> int:
    number, factor = text, 1
    for unit, size in {
        "kB": 1000,
        "MB": 10**6,
        "GB": 10**9,
        "KiB": 2**10,
        "MiB": 2**20,
        "GiB": 2**30,
    }.items():
        if text.endswith(unit):
            number, factor = text.removesuffix(unit), size
    try:
        value = float(number) * factor
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of bytes, such as 500MB or 8e9")
    return round(value)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: must be a trial's number, from 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 0")
    return int(text)


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number greater than 0")
    return value
