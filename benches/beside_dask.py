"""Four programs on stock Dask, and the same ones on this crate. `./benches/dask` runs it.

Each side has its defaults: Dask's cluster has two worker processes and a scheduler that
the client talks to over a socket; this crate has two threads in the program's own process. So the ratio is
of the price of a task with all that comes with it, which in Dask is other processes, and could be other
machines. With fewer than four cores, Dask's processes wait for each other, too. It says nothing about tasks
that compute for long. Dask is fastest with one `map`, which is submitted as one message.

`pure=False` lets equal calls run each time, as they do here, and spares Dask the hashing of arguments.
"""

import os
import platform
import statistics
import subprocess
import time

import distributed
from distributed import Client, as_completed

ROUNDS = 3


def inc(x):
    return x + 1


def double(x):
    return x * 2


def add(x, y):
    return x + y


def notebook(client, n):
    zs = []
    for i in range(n // 3):
        x = client.submit(inc, i, pure=False)
        y = client.submit(double, x, pure=False)
        z = client.submit(add, x, y, pure=False)
        zs.append(z)
    return client.submit(sum, zs, pure=False).result()


def arriving(client, n):
    leaves = client.map(inc, range((n + 1) // 2), pure=False)
    futures = as_completed(leaves)
    del leaves
    while futures.count() > 1:
        a, b = next(futures), next(futures)
        futures.add(client.submit(add, a, b, pure=False))
    return next(futures).result()


def round_trips(client, n):
    x = 0
    for _ in range(n):
        x = client.submit(inc, x, pure=False).result()
    return x


def mapped(client, n):
    return sum(client.gather(client.map(inc, range(n), pure=False)))


# The name of the program in `versus`, how many tasks, and the right answer.
PROGRAMS = [
    (notebook, "notebook", 769, sum(3 * x for x in range(1, 257))),
    (notebook, "notebook", 4999, sum(3 * x for x in range(1, 1667))),
    (arriving, "as_completed", 511, sum(range(1, 257))),
    (arriving, "as_completed", 4999, sum(range(1, 2501))),
    (round_trips, "round trip", 256, 256),
    (mapped, "independent, `map`", 4999, sum(range(1, 5000))),
]


def on_dask(client, program, n, answer):
    """Microseconds a task: the median over some rounds, after one to warm up."""
    rounds = []
    for _ in range(1 + ROUNDS):
        started = time.perf_counter()
        result = program(client, n)
        took = time.perf_counter() - started
        assert result == answer, f"{program.__name__}: {result} instead of {answer}"
        rounds.append(took / n * 1e6)
    return statistics.median(rounds[1:])


def on_this(name, n):
    """Microseconds a task, as reported by the bench `versus`."""
    command = ["cargo", "bench", "--quiet", "--package", "ensue-benches", "--bench", "versus", "--"]
    command += ["--row", name, "--tasks", str(n)]
    # Whether a row is within its bound doesn't matter here.
    done = subprocess.run(command, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == name and cells[2] == str(n):
            return float(cells[3]) / 1e3
    raise SystemExit(f"`versus` has no row {name}:\n{done.stdout}{done.stderr}")


def main():
    python, cores = platform.python_version(), os.cpu_count()
    print(f"distributed {distributed.__version__} on Python {python}, {cores} cores\n")
    print("| program | tasks | Dask, µs a task | ensue, µs a task | Dask / ensue |")
    print("|---|--:|--:|--:|--:|", flush=True)
    with Client(n_workers=2, threads_per_worker=1) as client:
        dask = [on_dask(client, program, n, answer) for program, _, n, answer in PROGRAMS]
    for (_, name, n, _), theirs in zip(PROGRAMS, dask):
        ours = on_this(name, n)
        print(f"| {name} | {n} | {theirs:.0f} | {ours:.2f} | {theirs / ours:.0f} |", flush=True)


if __name__ == "__main__":
    main()
