"""Where does a run over many cases stop scaling? A simulation of workers that share one disk, from measured times.

usage: python benchmarks/cluster_size.py [--cases 100000] [--case_seconds 1.7] [--spread 0.5] [--megabytes 20]
           [--disk_rate 1000] [--task_seconds 0.001] [--start_seconds 10] [--stragglers 0.01] [--slowdown 10]
           [--deaths 0.0005] [--price 0.05] [--workers 1 2 5 ...] [--picture FILE]

Each worker takes the next case when it is free. A case waits for the disk, which reads one case at a time; then it
computes for a time from a log-normal distribution (median: what was measured). A share of the cases runs on a straggler
and takes `slowdown` times as long; a share loses its worker half-way, whose case is taken again and which starts anew.
The scheduler hands out one case in each `task_seconds`. Ideal is the work of one worker, over the number of workers.
"""

import argparse
import heapq
from pathlib import Path

import numpy as np


def simulate(workers: int, arguments: argparse.Namespace) -> tuple[float, float, int]:
    """Seconds until the last case is done, the share of them that a worker computes, and cases that were repeated."""
    draws = np.random.default_rng(0)
    times = arguments.case_seconds * np.exp(arguments.spread * draws.standard_normal(arguments.cases))
    times[draws.random(arguments.cases) < arguments.stragglers] *= arguments.slowdown
    dies = draws.random(arguments.cases) < arguments.deaths
    read = arguments.megabytes / arguments.disk_rate
    waiting = list(range(arguments.cases))[::-1]
    free = [arguments.start_seconds] * workers
    disk = scheduler = last = computed = 0.0
    repeated = 0
    while waiting:
        case = waiting.pop()
        now = heapq.heappop(free)
        scheduler = max(now, scheduler) + arguments.task_seconds
        disk = max(scheduler, disk) + read
        if dies[case]:
            dies[case], repeated = False, repeated + 1
            waiting.insert(0, case)
            heapq.heappush(free, disk + times[case] / 2 + arguments.start_seconds)
            continue
        computed += times[case]
        heapq.heappush(free, disk + times[case])
        last = max(last, disk + times[case])
    return last, computed / (last * workers), repeated


def draw(found: dict[int, float], ideal: float, file: Path) -> None:
    """Hours against workers, both logarithmic, with the ideal line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6.5, 4))
    panel.loglog(list(found), [seconds / 3600 for seconds in found.values()], "o-", label="simulated")
    panel.loglog(list(found), [ideal / number / 3600 for number in found], ":", color="grey", label="ideal")
    panel.set(xlabel="workers", ylabel="hours")
    panel.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--case_seconds", type=float, default=1.7, help="CPU seconds of a case")
    parser.add_argument("--spread", type=float, default=0.5, help="of the logarithm of a case's seconds")
    parser.add_argument("--megabytes", type=float, default=20, help="read and written for a case")
    parser.add_argument("--disk_rate", type=float, default=1000, help="MB/s of the shared disk")
    parser.add_argument("--task_seconds", type=float, default=0.001, help="of the scheduler, for each case")
    parser.add_argument("--start_seconds", type=float, default=10, help="until a worker takes its first case")
    parser.add_argument("--stragglers", type=float, default=0.01, help="share of cases on a slow worker")
    parser.add_argument("--slowdown", type=float, default=10)
    parser.add_argument("--deaths", type=float, default=0.0005, help="share of cases that lose their worker")
    parser.add_argument("--price", type=float, default=0.05, help="of a worker's hour")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    found = {}
    print("| workers | hours | faster than one | a worker's time at work | price | cases repeated |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for number in arguments.workers:
        seconds, busy, repeated = simulate(number, arguments)
        found[number] = seconds
        first = found[arguments.workers[0]] * arguments.workers[0]
        price = seconds / 3600 * number * arguments.price
        print(f"| {number} | {seconds / 3600:.2f} | {first / seconds:.0f} | {busy:.0%} | {price:.2f} | {repeated} |")
    if arguments.picture:
        draw(found, first, arguments.picture)


if __name__ == "__main__":
    main()
