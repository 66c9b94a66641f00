"""Places boxes and the lines between them so that none overlap; knows sizes and edges, no text and no SVG.

Layered drawing (Sugiyama, Tagawa & Toda 1981, doi:10.1109/TSMC.1981.4308636): nodes get a rank by their
longest path, edges that pass a rank get a place of their own in it, the order in every rank is improved
by barycentres until few lines cross, then positions follow. Lines from one node share a trunk, which
branches where a target is: with skip connections there are then as many trunks as nodes, not as edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

ROW_GAP, COLUMN_GAP, LANE = 26.0, 18.0, 14.0
"""Between rows, between boxes in a row, and what a passing line needs, in pixels."""
_PORT = 14.0  # between the tips of arrows that end at one box
_SWEEPS = 10
_SMALL = 250  # nodes of a drawing whose neighbours in a row are also swapped in pairs


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is; (0, 0) is the upper left corner."""

    width: float
    height: float
    centres: tuple[tuple[float, float], ...]
    """(x, y) of every box."""
    ways: tuple[tuple[tuple[float, float, float], ...], ...]
    """For every edge the stretches (x, from y, to y) that run straight down; curves join them."""


def layered(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Layout:
    """The places of boxes and edges, edges running downwards.

    Args:
        sizes: (width, height) of every box, in pixels.
        edges: (source, target), source < target; the same pair may occur twice.
    """
    if not sizes:
        return Layout(0.0, 0.0, (), ())
    ranks = _ranks(len(sizes), edges)
    rows = _Rows(sizes, edges, ranks)
    rows.order()
    x = rows.positions()
    return _routed(rows, sizes, edges, ranks, x)


def _ranks(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The row of every box: longest path from above, then down to its readers where that costs nothing."""
    if not edges:
        return list(range(n))  # a list, not a graph
    above: list[set[int]] = [set() for _ in range(n)]
    below: list[set[int]] = [set() for _ in range(n)]
    for source, target in edges:
        above[target].add(source)
        below[source].add(target)
    ranks = [0] * n
    for node in range(n):
        ranks[node] = max((ranks[source] + 1 for source in above[node]), default=0)
    for node in reversed(range(n)):
        # All lines out of a box share one trunk, so only the lines into it make a lower row dearer.
        if len(above[node]) == 1 and below[node]:
            ranks[node] = min(ranks[target] for target in below[node]) - 1
    return ranks


@dataclass
class _Rows:
    """Boxes and the places of passing lines, row by row; places have numbers from ``len(sizes)``."""

    sizes: Sequence[tuple[float, float]]
    edges: Sequence[tuple[int, int]]
    ranks: Sequence[int]
    rows: list[list[int]] = field(init=False)
    up: list[list[int]] = field(init=False)
    down: list[list[int]] = field(init=False)
    place: dict[tuple[int, int], int] = field(init=False)
    """(source, row) → the place where the source's trunk passes the row."""

    def __post_init__(self) -> None:
        n = len(self.sizes)
        self.rows = [[] for _ in range(max(self.ranks) + 1)]
        self.up, self.down, self.place = [[] for _ in range(n)], [[] for _ in range(n)], {}
        for node, rank in enumerate(self.ranks):
            self.rows[rank].append(node)
        for source, target in self.edges:
            last = source
            for rank in range(self.ranks[source] + 1, self.ranks[target]):
                if (source, rank) not in self.place:
                    self.place[source, rank] = len(self.up)
                    self.rows[rank].append(len(self.up))
                    self.up.append([last])
                    self.down.append([])
                    self.down[last].append(self.place[source, rank])
                last = self.place[source, rank]
            self.down[last].append(target)
            self.up[target].append(last)

    # Order within the rows ---------------------------------------------------------------------

    def order(self) -> None:
        """Reorders every row so that few lines cross; those that should be straight count more."""
        best, fewest = self._copy(), self._crossings()
        for sweep in range(_SWEEPS):
            if fewest == 0:
                break
            downwards = sweep % 2 == 1
            # The first time everything stays where it was put, trunks at the right.
            for i in range(len(self.rows)) if downwards else reversed(range(len(self.rows))):
                if sweep:
                    self._sort(i, self.up if downwards else self.down, i - 1 if downwards else i + 1)
            if len(self.up) <= _SMALL:
                self._swap()
                self._change_sides()
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = self._copy(), crossings
        self.rows = best

    def _copy(self) -> list[list[int]]:
        return [list(row) for row in self.rows]

    def _change_sides(self) -> None:
        """Moves each trunk to the left or right of everything while that lowers the crossings."""
        trunks: dict[int, list[tuple[int, int]]] = {}
        for (source, rank), node in self.place.items():
            trunks.setdefault(source, []).append((rank, node))
        fewest = self._crossings()
        for trunk in trunks.values():
            for left in (True, False):
                before = self._copy()
                for rank, node in trunk:
                    self.rows[rank].remove(node)
                    self.rows[rank].insert(0 if left else len(self.rows[rank]), node)
                self._swap()
                crossings = self._crossings()
                if crossings < fewest:
                    fewest = crossings
                else:
                    self.rows = before

    def _sort(self, i: int, neighbours: list[list[int]], beside: int) -> None:
        if not 0 <= beside < len(self.rows):
            return
        at = {node: k for k, node in enumerate(self.rows[beside])}
        centre = {
            node: sum(at[other] for other in neighbours[node]) / len(neighbours[node])
            if neighbours[node]
            else float(k)
            for k, node in enumerate(self.rows[i])
        }
        self.rows[i].sort(key=centre.__getitem__)

    def _swap(self) -> None:
        """Swaps neighbours in a row while that lowers the crossings."""
        for i, row in enumerate(self.rows):
            above = {node: k for k, node in enumerate(self.rows[i - 1])} if i else {}
            below = {node: k for k, node in enumerate(self.rows[i + 1])} if i + 1 < len(self.rows) else {}
            for _ in range(len(row)):
                swapped = False
                for k in range(len(row) - 1):
                    left, right = row[k], row[k + 1]
                    gain = 0
                    for at, neighbours in ((above, self.up), (below, self.down)):
                        a, b = (
                            [(at[o], self._matters(node, o)) for o in neighbours[node]]
                            for node in (left, right)
                        )
                        gain += sum(((p > q) - (p < q)) * v * w for p, v in a for q, w in b)
                    if gain > 0:
                        row[k], row[k + 1], swapped = right, left, True
                if not swapped:
                    break

    def _crossings(self) -> int:
        total = 0
        for upper, lower in pairwise(self.rows):
            at = {node: k for k, node in enumerate(lower)}
            seen = [0] * len(lower)  # weight of the lines so far that end at each node of the lower row
            for node in upper:
                ends = [(at[other], self._matters(node, other)) for other in self.down[node]]
                total += sum(weight * sum(seen[end + 1 :]) for end, weight in ends)
                for end, weight in ends:
                    seen[end] += weight
        return total

    def _matters(self, a: int, b: int) -> int:
        """How bad it is to cross the line between two nodes: worst for trunks, which are long."""
        n = len(self.sizes)
        return (4, 1, 3)[(a < n) + (b < n)]

    # Positions -----------------------------------------------------------------------------------

    def positions(self) -> list[float]:
        """The x of every node, and place of a line, in rows that keep their order and distances."""
        gaps = [[self._distance(a, b) for a, b in pairwise(row)] for row in self.rows]
        x = [0.0] * len(self.up)
        for row, distances in zip(self.rows, gaps, strict=True):
            left = -sum(distances) / 2
            for node, distance in zip(row, [0.0, *distances], strict=True):
                left += distance
                x[node] = left
        lines = self._lines()
        line_of = {node: line for line in lines for node in line}
        for sweep in range(3 * _SWEEPS):
            order = range(len(self.rows)) if sweep % 2 == 0 else reversed(range(len(self.rows)))
            for i in order:
                wanted, weights = [], []
                for node in self.rows[i]:
                    pulls = [(self._weight(node, o), x[o]) for way in (self.up, self.down) for o in way[node]]
                    if node in line_of:  # what should be straight is pulled into line, boxes most of all
                        line = line_of[node]
                        pull = (100.0 if node < len(self.sizes) else 8.0) * (1 + sweep)
                        pull *= 1e6 if sweep + 1 == 3 * _SWEEPS else 1
                        pulls.append((pull, sum(x[o] for o in line) / len(line)))
                    total = sum(weight for weight, _ in pulls)
                    wanted.append(sum(w * o for w, o in pulls) / total if total else x[node])
                    weights.append(total or 0.1)
                for node, found in zip(self.rows[i], _apart(wanted, weights, gaps[i]), strict=True):
                    x[node] = found
        self._straighten(lines, x)
        return x

    def _distance(self, left: int, right: int) -> float:
        n = len(self.sizes)
        half = sum(self.sizes[node][0] / 2 for node in (left, right) if node < n)
        boxes = (left < n) + (right < n)
        return half + (COLUMN_GAP if boxes else LANE)

    def _weight(self, a: int, b: int) -> float:
        n = len(self.sizes)
        boxes = (a < n) + (b < n)
        return (8.0, 1.0, 4.0)[boxes]

    def _lines(self) -> list[tuple[int, ...]]:
        """What should be drawn straight: trunks, and boxes of which each is the other's only one."""
        n = len(self.sizes)
        trunks: dict[int, list[int]] = {}
        for (source, _), node in self.place.items():
            trunks.setdefault(source, []).append(node)
        lines = [tuple(trunk) for trunk in trunks.values() if len(trunk) > 1]
        below = [{o for o in self.down[node] if o < n} for node in range(n)]
        above = [{o for o in self.up[node] if o < n} for node in range(n)]
        only = {node: next(iter(nodes)) for node, nodes in enumerate(below) if len(nodes) == 1}
        follows = {node: other for node, other in only.items() if len(above[other]) == 1}
        for start in follows.keys() - set(follows.values()):
            line = [start]
            while line[-1] in follows:
                line.append(follows[line[-1]])
            lines.append(tuple(line))
        return sorted(lines, key=lambda line: (line[0] >= n, -len(line), line))

    def _straighten(self, lines: Sequence[tuple[int, ...]], x: list[float]) -> None:
        """Moves a line onto one x wherever its neighbours leave room for that."""
        index = {node: (i, k) for i, row in enumerate(self.rows) for k, node in enumerate(row)}
        for _ in range(3):
            for line in lines:
                low, high = float("-inf"), float("inf")
                for node in line:
                    i, k = index[node]
                    row = self.rows[i]
                    if k > 0:
                        low = max(low, x[row[k - 1]] + self._distance(row[k - 1], node))
                    if k + 1 < len(row):
                        high = min(high, x[row[k + 1]] - self._distance(node, row[k + 1]))
                if low <= high:
                    middle = min(max(sum(x[node] for node in line) / len(line), low), high)
                    for node in line:
                        x[node] = middle


def _apart(wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """The positions nearest to the wanted ones, in weighted squares, that keep all distances.

    Isotonic regression by pooling adjacent violators, after the distances are taken off.
    """
    offsets = [0.0]
    for distance in distances:
        offsets.append(offsets[-1] + distance)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, members
    for target, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, count = target - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, heavy, members = blocks.pop()
            mean = (mean * weight + other * heavy) / (weight + heavy)
            weight, count = weight + heavy, count + members
        blocks.append((mean, weight, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _routed(
    rows: _Rows,
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    ranks: Sequence[int],
    x: list[float],
) -> Layout:
    """Rows become bands of the page, edges stretches through them."""
    n = len(sizes)
    left = min(x[node] - (sizes[node][0] if node < n else LANE) / 2 for row in rows.rows for node in row)
    right = max(x[node] + (sizes[node][0] if node < n else LANE) / 2 for row in rows.rows for node in row)
    x = [value - left for value in x]
    tops, bottoms, y = [], [], 0.0
    for row in rows.rows:
        tops.append(y)
        bottoms.append(y + max((sizes[node][1] for node in row if node < n), default=0.0))
        # A line that goes far to the side needs a higher gap, or it looks level.
        aside = max((abs(x[node] - x[other]) for node in row for other in rows.down[node]), default=0.0)
        y = bottoms[-1] + ROW_GAP + min(22.0, 0.08 * aside)
    centres = [(x[node], (tops[ranks[node]] + bottoms[ranks[node]]) / 2) for node in range(n)]
    last = [
        rows.place.get((source, ranks[target] - 1), source) for source, target in edges
    ]  # from where an edge comes to its target
    ports = _ports(sizes, edges, [x[node] for node in last], x)
    ways = []
    for i, (source, target) in enumerate(edges):
        stretches = [(x[source], centres[source][1] + sizes[source][1] / 2, bottoms[ranks[source]])]
        for rank in range(ranks[source] + 1, ranks[target]):
            stretches.append((x[rows.place[source, rank]], tops[rank], bottoms[rank]))
        stretches.append((ports[i], tops[ranks[target]], centres[target][1] - sizes[target][1] / 2))
        ways.append(tuple(stretches))
    return Layout(right - left, bottoms[-1], tuple(centres), tuple(ways))


def _ports(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    comes: Sequence[float],
    x: Sequence[float],
) -> list[float]:
    """Where on its target's upper side each edge ends: side by side, in the order they come."""
    into: dict[int, list[int]] = {}
    for i, (_, target) in enumerate(edges):
        into.setdefault(target, []).append(i)
    ports = [0.0] * len(edges)
    for target, arriving in into.items():
        arriving.sort(key=lambda i: (comes[i], i))
        last = len(arriving) - 1
        straight = [k for k, i in enumerate(arriving) if abs(comes[i] - x[target]) < 1]
        middle = straight[len(straight) // 2] if straight else last / 2  # what comes straight stays so
        room = max(sizes[target][0] / 2 - 6, 0.0)
        step = min(_PORT, room / max(middle, last - middle, 1e-9))
        for k, i in enumerate(arriving):
            ports[i] = x[target] + (k - middle) * step
    return ports
