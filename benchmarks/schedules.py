"""Which learning-rate schedule makes short trainings rank like long ones, and at what cost; knows no search.

    python benchmarks/schedules.py --data-dir DIR --minutes 25

Configurations of the chain space joined with training hyperparameters, drawn from the prior under a bound on
MACs, train on a part of Fashion-MNIST to three rungs:

    cosine      over the full horizon, paused and resumed (a)
    decay       warm-up and constant; at each rung a branch decays over the last third of the epochs so far,
                the trunk goes on from where the branch left it (b); branches are paid for
    restart     short annealed trainings, each from scratch (c)
    averaged    the cosine, or the constant trunk, evaluated with an average of its weights

An average is over about the last third of the steps so far: w̄ₜ = w̄ₜ₋₁ + 3/(t+2)·(wₜ − w̄ₜ₋₁) (polynomial
decay, Shamir and Zhang 2013, arXiv:1212.1824, section 3), statistics of batch normalisation likewise.

An epoch is trained in three pieces, so that a decay can begin within the first. Results are one training a
line in ``results/schedules.jsonl``; interrupted, or out of minutes, it goes on where it stopped. The table is
in ``results/schedules.md``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _images import fashion_mnist

from bonas import spaces
from fidelity.examples import Examples
from fidelity.loop import evaluate, seeded, train_epoch
from fidelity.optimizers import Optimizer, Recipe, make_optimizer
from fidelity.schedules import WARMUP, Schedule
from fidelity.training import TrainOn

RESULTS = Path(__file__).parent / "results" / "schedules.jsonl"
RUNGS = (1, 3, 9)  # epochs; the last is the horizon
PIECES = 3  # of an epoch
TRAIN, VAL = 3000, 2000  # images
N, SEEDS = 24, 2
MAX_MACS = 1_500_000
DRAWN_WITH = 4  # seed of the configurations
CONDITIONS = {
    "rungs": list(RUNGS),
    "pieces": PIECES,
    "train": TRAIN,
    "val": VAL,
    "max_macs": MAX_MACS,
    "drawn_with": DRAWN_WITH,
}


# Training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trunk:
    """Warm-up, then constant; a branch of it falls to 0 on a straight line. In pieces of an epoch."""

    horizon: float
    decay: tuple[float, float] | None = None
    """Where the branch begins and ends."""

    def rate(self, trained: float) -> float:
        rate = min(1.0, trained / (WARMUP * self.horizon))
        if self.decay is not None:
            begin, end = self.decay
            rate *= min(1.0, (end - trained) / (end - begin))
        return rate

    def progress(self, trained: float) -> float:
        return min(1.0, trained / self.horizon)


class Averaging:
    """An optimizer that also keeps an average of the weights and of the statistics of batch normalisation."""

    def __init__(self, optimizer: Optimizer, model: torch.nn.Module) -> None:
        self.optimizer = optimizer
        self.averaged = copy.deepcopy(model)
        self._steps = 0
        self._pairs = list(zip(_numbers(self.averaged), _numbers(model), strict=True))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        self.optimizer.step()
        self._steps += 1
        for mean, value in self._pairs:
            mean.lerp_(value, 3 / (self._steps + 2))

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)


def _numbers(model: torch.nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]


class Bench:
    """Configurations and data, and how one training goes."""

    def __init__(self, folder: str, device: torch.device) -> None:
        data = fashion_mnist(folder, TRAIN, VAL)
        objective = TrainOn(data)
        self.device = device
        self.train: Examples = objective.prepare("train", None, device)
        self.val: Examples = objective.prepare("val", None, device)
        self.space = spaces.chain(data.input_shape, data.n_classes).with_hyperparameters()
        self.space = self.space.fix({"schedule": "cosine"})  # what is compared here
        self.configurations = list(self._drawn())

    def _drawn(self) -> Iterator[dict[str, Any]]:
        rng, found = np.random.default_rng(DRAWN_WITH), 0
        while found < N:
            [params] = self.space.sample(1, rng)
            if self.space.count(params).macs <= MAX_MACS:
                found += 1
                yield params

    def begin(self, params: dict[str, Any], seed: int) -> tuple[torch.nn.Module, Optimizer, Recipe]:
        recipe = Recipe.of(params)
        with seeded(self.device, seed, 0):
            model = self.space.build(params)
        model.to(device=self.device, memory_format=torch.channels_last)
        return model, make_optimizer(model, recipe), recipe

    def pieces(
        self, model: Any, optimizer: Any, recipe: Recipe, schedule: Any, seed: int, first: int, last: int
    ) -> None:
        """Train the pieces after ``first`` up to ``last``; every image comes once in an epoch."""
        for piece in range(first + 1, last + 1):
            epoch, part = divmod(piece - 1, PIECES)
            order = np.random.default_rng([seed, epoch]).permutation(len(self.train))
            chosen = torch.from_numpy(np.array_split(order, PIECES)[part])
            with seeded(self.device, seed, piece):
                train_epoch(model, optimizer, self.train, chosen, recipe, schedule, piece)

    def accuracy(self, model: torch.nn.Module) -> float:
        return round(evaluate(model, self.val)["accuracy"], 6)


def cosine(bench: Bench, params: dict[str, Any], seed: int) -> dict[str, dict[int, float]]:
    """Accuracy at every rung, with the weights as they are and averaged."""
    return _whole(bench, params, seed, Schedule(RUNGS[-1] * PIECES))


def constant(bench: Bench, params: dict[str, Any], seed: int) -> dict[str, dict[int, float]]:
    """The same of a constant rate, and of branches that decay over the last third before every rung."""
    return _whole(bench, params, seed, Trunk(RUNGS[-1] * PIECES))


def restart(bench: Bench, params: dict[str, Any], seed: int) -> dict[str, dict[int, float]]:
    """Accuracy of short trainings under a cosine of their own; the longest is the cosine's."""
    found = {}
    for rung in RUNGS[:-1]:
        model, optimizer, recipe = bench.begin(params, seed)
        bench.pieces(model, optimizer, recipe, Schedule(rung * PIECES), seed, 0, rung * PIECES)
        found[rung] = bench.accuracy(model)
    return {"plain": found}


def _whole(bench: Bench, params: dict[str, Any], seed: int, schedule: Any) -> dict[str, dict[int, float]]:
    model, optimizer, recipe = bench.begin(params, seed)
    averaging = Averaging(optimizer, model)
    at = 0
    found: dict[str, dict[int, float]] = {"plain": {}, "averaged": {}, "decayed": {}}
    for rung in RUNGS:
        end = rung * PIECES
        begin = end - end // 3
        bench.pieces(model, averaging, recipe, schedule, seed, at, begin)
        if isinstance(schedule, Trunk):
            branch = copy.deepcopy(model)
            of_branch = make_optimizer(branch, recipe)
            of_branch.load_state_dict(copy.deepcopy(averaging.state_dict()))
            decay = Trunk(schedule.horizon, (begin, end))
            bench.pieces(branch, of_branch, recipe, decay, seed, begin, end)
            found["decayed"][rung] = bench.accuracy(branch)
        bench.pieces(model, averaging, recipe, schedule, seed, begin, end)
        found["plain"][rung] = bench.accuracy(model)
        found["averaged"][rung] = bench.accuracy(averaging.averaged)
        at = end
    return found


TRAININGS: dict[str, Callable[[Bench, dict[str, Any], int], dict[str, dict[int, float]]]] = {
    "cosine": cosine,
    "constant": constant,
    "restart": restart,
}


# The table --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """How a method's values are read, and the epochs it has trained up to each rung."""

    label: str
    training: str
    values: str
    epochs: tuple[float, ...]


def _branched() -> tuple[float, ...]:
    """The trunk up to the last branch, and every branch so far."""
    branches = np.cumsum([rung / 3 for rung in RUNGS])
    return tuple(float(rung * 2 / 3 + paid) for rung, paid in zip(RUNGS, branches, strict=True))


METHODS = (
    Method("(a) cosine, resumed", "cosine", "plain", RUNGS),
    Method("(a) cosine, resumed, averaged weights", "cosine", "averaged", RUNGS),
    Method("(b) constant, decay branched off", "constant", "decayed", _branched()),
    Method("constant, averaged weights", "constant", "averaged", RUNGS),
    Method("constant, as it is", "constant", "plain", RUNGS),
    Method("(c) annealed, restarted", "restart", "plain", tuple(map(float, np.cumsum(RUNGS)))),
)

Results = dict[tuple[str, int, int], dict[str, Any]]
BRACKET = (9, 3, 1)  # configurations on each rung
DRAWS = 2000  # of the bootstrap, and of brackets
HEAD = f"""\
Kendall's τ_b between the accuracy of one training at a rung and a final accuracy: the method's own and the
cosine's, both the mean of {SEEDS} trainings, and the cosine's in the other training, which shares no draw
with the first. In brackets 95 % bootstrap intervals over configurations. Δ: τ with the cosine's final less
that of the resumed cosine at the same rung. Recall: how many of the best third by the cosine's final are in
the best third at the rung. Epochs: trained in all for one configuration on its way to the rung.

| method | rung | epochs | τ, own final | τ, cosine's final | Δ | τ, other training | recall |
|---|---|---|---|---|---|---|---|"""
SEARCH = f"""
A bracket of successive halving: {BRACKET[0]} configurations to the first rung, the best {BRACKET[1]} of them
to the second, the best of these to the end, which without pauses and promotions would be
{BRACKET[0] * RUNGS[-1]} epochs. Regret: how much better the best of the {BRACKET[0]} is than the one that is
left, in percentage points of the cosine's final accuracy, mean over {DRAWS:,} random brackets.

| method | epochs | regret | final accuracy of all configurations, own |
|---|---|---|---|"""


def table(results: Results) -> str:
    """Markdown: rank correlation with final accuracies, recall, cost, and what a search would find."""
    complete = [
        i for i in range(N) if all((name, i, s) in results for name in TRAININGS for s in range(SEEDS))
    ]
    if len(complete) < BRACKET[0]:
        return f"{len(complete)} configurations are complete, a table needs {BRACKET[0]}. Run it for longer."
    n = len(complete)
    scores = {m: _scores(results, m, complete) for m in METHODS}  # (seeds, configurations, rungs)
    cosine_final = scores[METHODS[0]][:, :, -1]
    truth = np.broadcast_to(cosine_final.mean(axis=0), (SEEDS, n))
    other = cosine_final[::-1]
    rng = np.random.default_rng(0)
    drawn = [np.arange(n), *rng.integers(n, size=(DRAWS, n))]
    lines = [HEAD]
    for method, mine in scores.items():
        own = np.broadcast_to(mine[:, :, -1].mean(axis=0), (SEEDS, n))
        for k, rung in enumerate(RUNGS):
            with_truth = _taus(mine[:, :, k], truth, drawn)
            difference = with_truth - _taus(scores[METHODS[0]][:, :, k], truth, drawn)
            cells = [
                method.label,
                str(rung),
                f"{method.epochs[k]:.2f}",
                _shown(_taus(mine[:, :, k], own, drawn)),
                _shown(with_truth),
                "–" if method is METHODS[0] else _shown(difference, sign="+"),
                _shown(_taus(mine[:, :, k], other, drawn)),
                f"{_recall(mine[:, :, k], truth[0]):.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    size = np.array([[results["cosine", i, 0]["parameters"] for i in complete]] * SEEDS, dtype=float)
    lines += [
        "",
        f"The parameter count: τ with the cosine's final {_shown(_taus(size, truth, drawn))}.",
        SEARCH,
    ]
    brackets = [rng.permutation(n)[: BRACKET[0]] for _ in range(DRAWS)]
    for method, mine in scores.items():
        cost = np.dot(BRACKET, np.diff(method.epochs, prepend=0))
        regrets = [_regret(mine[d % SEEDS], truth[0], members) for d, members in enumerate(brackets)]
        final = 100 * mine[:, :, -1].mean()
        lines.append(f"| {method.label} | {cost:.1f} | {100 * np.mean(regrets):.2f} | {final:.2f} |")
    seconds = sum(r["seconds"] for r in results.values())
    lines += [
        "",
        f"{n} configurations of the chain space with training hyperparameters, all but the schedule,",
        f"drawn from the prior with seed {DRAWN_WITH}, at most {MAX_MACS:,} MACs. Fashion-MNIST:",
        f"{TRAIN:,} images of its training split to train on, {VAL:,} others of it to evaluate on.",
        f"{SEEDS} seeds.",
        f"{_machine(results)}; {seconds / 60:.0f} minutes in all.",
    ]
    return "\n".join(lines)


def _machine(results: Results) -> str:
    return ", ".join(sorted({r["machine"] for r in results.values()}))


def _scores(results: Results, method: Method, complete: list[int]) -> np.ndarray:
    def one(i: int, seed: int, rung: int) -> float:
        found = results[method.training, i, seed]["values"][method.values]
        if str(rung) not in found:  # the longest restarted training is the cosine's
            found = results["cosine", i, seed]["values"]["plain"]
        return float(found[str(rung)])

    return np.array([[[one(i, s, rung) for rung in RUNGS] for i in complete] for s in range(SEEDS)])


def _taus(scores: np.ndarray, truth: np.ndarray, drawn: list[np.ndarray]) -> np.ndarray:
    """Kendall's τ_b, the mean over seeds, for every sample of configurations; scores, truth: (seeds, n)."""
    signs = [
        (np.sign(np.subtract.outer(x, x)), np.sign(np.subtract.outer(y, y)))
        for x, y in zip(scores, truth, strict=True)
    ]
    return np.array(
        [np.mean([_tau_b(x[np.ix_(at, at)], y[np.ix_(at, at)]) for x, y in signs]) for at in drawn]
    )


def _tau_b(x: np.ndarray, y: np.ndarray) -> float:
    scale = math.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale else 0.0


def _shown(values: np.ndarray, sign: str = "") -> str:
    """The first, which is of the configurations as they are, and the interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def _recall(scores: np.ndarray, truth: np.ndarray) -> float:
    k = round(len(truth) / 3)
    best = set(np.argsort(-truth, kind="stable")[:k].tolist())
    return float(np.mean([len(best & set(np.argsort(-s, kind="stable")[:k].tolist())) / k for s in scores]))


def _regret(scores: np.ndarray, truth: np.ndarray, members: np.ndarray) -> float:
    left = members
    for k, keep in enumerate(BRACKET[1:]):
        left = left[np.argsort(-scores[left, k], kind="stable")[:keep]]
    return float(truth[members].max() - truth[left[0]])


# Keeping results ---------------------------------------------------------------------------------


def _read(path: Path) -> Results:
    results: Results = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # torn by an interruption; the training is made again
            continue
        if record["conditions"] == CONDITIONS:
            results[record["training"], record["configuration"], record["seed"]] = record
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="holds the idx files of Fashion-MNIST; without it only the table")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    results = _read(arguments.results)
    if arguments.data_dir:
        _record(arguments, results, end)
    text = table(results)
    arguments.results.with_suffix(".md").write_text(text + "\n")
    print(text)
    return 0


def _record(arguments: argparse.Namespace, results: Results, end: float) -> None:
    torch.set_num_threads(1)
    bench = Bench(arguments.data_dir, torch.device(arguments.device))
    machine = f"torch {torch.__version__}, {arguments.device}, {platform.machine()}, one thread"
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    # All of a configuration first: out of minutes, what is there can be compared.
    jobs = [(name, i, s) for i in range(N) for s in range(SEEDS) for name in TRAININGS]
    longest = 0.0
    with arguments.results.open("a") as file:
        for name, i, seed in [job for job in jobs if job not in results]:
            began = time.monotonic()
            if began + longest > end:
                break
            params = bench.configurations[i]
            values = TRAININGS[name](bench, params, seed)
            seconds = time.monotonic() - began
            longest = max(longest, seconds)
            count = bench.space.count(params)
            record = {
                "training": name,
                "configuration": i,
                "seed": seed,
                "values": {kind: {str(rung): v for rung, v in of.items()} for kind, of in values.items()},
                "parameters": count.parameters,
                "macs": count.macs,
                "seconds": round(seconds, 2),
                "machine": machine,
                "conditions": CONDITIONS,
            }
            results[name, i, seed] = record
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
            print(f"{len(results)}/{len(jobs)}, {seconds:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
