"""Runs every benchmark and writes RESULTS.md."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import median

from halocline.run.config import read_config

HERE = Path(__file__).parent
ROUNDS = 3  # one and two ranks in turn
MEGA = 1e6
NEXTSIM = "neXtSIM_DG 4.5 s on one core, documented, not measured in this run"  # 12 h of 64 x 64 cells of 20 km


def launch(script: str, ranks: int = 1, *arguments: str) -> object:
    """Runs one script, under mpirun if there is more than one rank, and returns what it printed as JSON."""
    command = [sys.executable, str(HERE / script), *arguments]
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks), sys.executable, "-m", "mpi4py", *command[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        sys.exit(f"{script} on {ranks} ranks failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def sampling() -> list[list[str]]:
    """Speed-up from one to two ranks, and the share of the halo exchange."""
    rounds = [(launch("generation.py", 1), launch("generation.py", 2)) for _ in range(ROUNDS)]
    one, two = (min((r[n] for r in rounds), key=lambda r: r["step"]) for n in (0, 1))
    share = two["exchange"] / two["step"]
    return [
        ["sampling step, 8 tiles, 1 → 2 ranks", f"{one['step'] / two['step']:.2f}", "≥ 1.8",
         f"{one['step'] * 1e3:.0f} ms, {two['step'] * 1e3:.0f} ms"],
        ["halo fill, share of a sampling step", f"{100 * share:.2f} %", "< 1 %", f"{two['exchange'] * 1e6:.0f} µs"],
    ]  # fmt: skip


def constrained() -> list[list[str]]:
    """What constraints add to a sampling step."""
    seconds = launch("constrained.py")
    rows = []
    for name, took in seconds.items():
        if name != "none":
            aim = "≤ 1.5" if "noisy" in name or name == "strict" else "≤ 3"
            what = f"sampling step constrained by {name} against an unconstrained one"
            times = f"{took * 1e3:.0f} ms, {seconds['none'] * 1e3:.0f} ms"
            rows.append([what, f"{took / seconds['none']:.2f}", aim, times])
    return rows


def exchange() -> list[list[str]]:
    """Halo exchange against a copy through shared memory."""
    rows = []
    for r in launch("exchange.py", 2):
        took = r["exchange"]
        what = f"halo exchange of {r['bytes'] // 1024} KiB along {r['along']} against a shared-memory copy"
        rows.append([what, f"{took / r['copy']:.2f}", "≤ 3", f"{took * 1e6:.0f} µs, {r['copy'] * 1e6:.0f} µs"])
    return rows


def noise() -> list[list[str]]:
    """Cost of a normal value."""
    r = launch("noise.py")
    beside = f"torch.randn {r['torch']:.1f} ns"
    return [["keyed noise, per normal value", f"{r['keyed']:.1f} ns", "≤ 10 ns", beside]]


def network() -> list[list[str]]:
    """Convolutions against a matrix product."""
    r = launch("network.py")
    return [["convolutions of the U-Net against a matrix product, fp32",
             f"{r['convolutions'] / r['product']:.2f}", "≥ 0.5",
             f"{r['convolutions']:.0f} and {r['product']:.0f} GFLOP/s"]]  # fmt: skip


def bridge() -> list[list[str]]:
    """Calls of a model to Halocline in its process and beside it."""
    own, beside = launch("bridge.py"), launch("mpmd_exchange.py")
    megabytes = f"{own['bytes'] / 1e6:.1f} MB"
    return [
        ["call of a model with nothing to do, in its process",
         f"{own['idle'] * 1e6:.2f} µs", "≤ 2 µs", "C to Python and back"],
        [f"handing {megabytes} over in the process against a copy of the same bytes",
         f"{own['hand_over'] / own['copy']:.2f}", "-", f"{own['hand_over'] * 1e3:.1f} ms, {own['copy'] * 1e3:.1f} ms"],
        [f"handing {megabytes} to a rank beside the model against a plain MPI send",
         f"{beside['observe'] / beside['send']:.2f}", "≤ 2",
         f"{beside['observe'] * 1e3:.1f} ms, {beside['send'] * 1e3:.1f} ms"],
    ]  # fmt: skip


def observing() -> list[list[str]]:
    """What verdicts add to the run time of basin."""
    r = launch("observing.py")
    rows = []
    for mode, words, aim in (("in_process", "in its process", "≤ 5 %"), ("mpmd", "beside it, lag 2", "≤ 2 %")):
        for every, span in ((1, "day"), (30, "month"), (360, "year")):
            extra = r[f"{mode}_{every}"]
            verdict, day = extra / (r["days"] / every), r["plain"] / r["days"]
            what = f"observing basin every {span}, {words}, share of its run time"
            behind = f"{verdict * 1e3:.1f} ms per verdict, {day * 1e3:.2f} ms per day"
            rows.append([what, f"{100 * extra / r['plain']:.1f} %", aim if every == 1 else "-", behind])
    return rows


def training() -> list[list[str]]:
    """The trainer against a plain loop of torch, from one to two ranks, and in 16 against 32 bits."""
    config = HERE.parent / "configs/gyre.yaml"
    if not Path(read_config(config).data.grid).exists():
        return [["training against a plain loop of torch", "-", "≥ 1", f"skipped: no data of {config.name} here"]]
    with tempfile.TemporaryDirectory() as folder:
        rounds = [(launch("training.py", 1, folder), launch("training.py", 2, folder)) for _ in range(ROUNDS - 1)]
    rates: list[dict[str, float]] = []  # windows per second on one rank and on two, by contender
    for runs in zip(*rounds, strict=True):
        names = runs[0]["seconds"]
        took = {name: median([s for run in runs for s in run["seconds"][name]]) for name in names}
        rates.append({name: runs[0]["windows"] / s for name, s in took.items()})
    waited = [max(run["waited"] for run in runs) for runs in zip(*rounds, strict=True)]
    draw = min(run["draw"] for run in rounds[0])
    rows = []
    for ranks, rate in enumerate(rates, 1):
        for precision in ("bf16", "fp32"):
            ours, plain = rate[f"ours {precision}"], rate[f"plain {precision}"]
            what = f"training in {precision} on {ranks} rank{'s' * (ranks > 1)} against a plain loop of torch"
            rows.append([what, f"{ours / plain:.2f}", "≥ 1", f"{ours:.1f} and {plain:.1f} windows/s"])
    one, two = (rate["ours bf16"] for rate in rates)
    ratio = two / rates[1]["ours fp32"]
    return [
        *rows,
        ["training, 8 windows per rank, 1 → 2 ranks", f"{two / one:.2f}", "≥ 1.7",
         f"{one:.1f} and {two:.1f} windows/s; plain loop {rates[1]['plain bf16'] / rates[0]['plain bf16']:.2f}"],
        ["training in bf16 against fp32, 2 ranks", f"{ratio:.2f}", "≥ 2", "the parts in the next rows"],
        *precisions(),
        ["waiting for the loader, share of a training step", f"{100 * max(waited):.2f} %", "< 5 %",
         f"{100 * waited[0]:.2f} % on 1 rank, {100 * waited[1]:.2f} % on 2; a batch is made in {draw * 1e3:.0f} ms"],
    ]  # fmt: skip


def precisions() -> list[list[str]]:
    """What bf16 makes faster in a gradient."""
    r = launch("training_precision.py")
    rows = []
    for part in ("whole", "convolutions", "copies", "rest"):
        full, half = r["fp32"][part], r["bf16"][part]
        what = "gradient of the U-Net in bf16 against fp32" + ("" if part == "whole" else f": {part}")
        rows.append([what, f"{full / half:.2f}", "-", f"{half * 1e3:.0f} ms, {full * 1e3:.0f} ms"])
    return rows


def memory() -> list[list[str]]:
    """What a rank keeps, by stage of ZeRO."""
    kinds = ("weights", "master", "optimiser", "averages", "gradients")
    seen = {(stage, ranks): launch("zero_memory.py", ranks, str(stage)) for stage in range(4) for ranks in (1, 2)}
    rows = []
    for (stage, ranks), r in seen.items():
        parts = ", ".join(f"{kind} {r[kind] / MEGA:.0f}" for kind in kinds)
        size = f"{r['parameters'] / MEGA:.1f} million weights"
        what = f"memory per rank, {size}, ZeRO {stage}, {ranks} rank{'s' * (ranks > 1)}"
        total = f"{sum(r[kind] for kind in kinds) / MEGA:.0f} MB"
        rows.append([what, total, "-", f"{parts}; peak {r['peak'] / MEGA:.0f} MB"])
    for kind, stage in (("optimiser", 1), ("weights", 3)):
        ratio = seen[stage, 2][kind] / seen[stage, 1][kind]
        what = f"memory of {kind} per rank under ZeRO {stage}, 2 ranks against 1"
        rows.append([what, f"{ratio:.2f}", "0.5", "see above"])
    return rows


def gensim(checkout: str) -> list[list[str]]:
    """GenSIM's training step against ours around its network."""
    r = launch("training_gensim.py", 1, checkout)
    what = "training step on GenSIM's network and patches against GenSIM's own"
    if "skipped" in r:
        return [[what, "-", "≥ 1", r["skipped"]]]
    theirs = median(r["theirs"])
    patches = f"{r['patches']} patches of {' x '.join(map(str, r['window']))}"
    size = f"{r['parameters'] / MEGA:.1f} million weights, {patches}"
    return [
        [f"{what}, ZeRO {stage}", f"{theirs / median(r[f'ours {stage}']):.2f}", "≥ 1",
         f"{median(r[f'ours {stage}']):.2f} s, {theirs:.2f} s; {size}"] for stage in (0, 1)
    ]  # fmt: skip


def forecasting() -> list[list[str]]:
    """Our own forecast step in CPU seconds and from one to two ranks, and what its memory does."""
    rounds = [(launch("forecasting.py", 1, "cost"), launch("forecasting.py", 2, "cost")) for _ in range(ROUNDS - 1)]
    rows, kinds = [], ("elapsed", "processor", "apart")
    for sampler in rounds[0][0]["seconds"]:
        one, two = (
            {kind: min(min(run["seconds"][sampler][kind]) for run in runs) for kind in kinds}
            for runs in zip(*rounds, strict=True)
        )
        apart = f"two that know nothing of each other {2 * one['elapsed'] / two['apart']:.2f}"
        took = one["processor"] / rounds[0][0]["members"]
        what = f"12 h of a member on 64 x 64 cells, {sampler}"
        rows += [
            [f"{what}, CPU", f"{took:.3f} s", "≤ 0.45 s", NEXTSIM],
            [f"{what}, 1 → 2 ranks", f"{one['elapsed'] / two['elapsed']:.2f}", "≥ 1.8",
             f"{rounds[0][0]['members']} members in {one['elapsed']:.2f} s, {two['elapsed']:.2f} s; {apart}"],
        ]  # fmt: skip
    r = launch("forecasting.py", 1, "memory")
    for case, few in (("long", "steps"), ("many", "members")):
        what = f"memory of a forecast of {r[few][1]} {few} against one of {r[few][0]}"
        highest, before = r[case] / 2**20, r["short"] / 2**20
        behind = f"highest resident {highest:.0f} and {before:.0f} MiB"
        rows.append([what, f"{highest - before:+.1f} MiB", "≤ 5 MiB", behind])
    return rows


def forecasting_gensim(checkout: str) -> list[list[str]]:
    """An evaluation of GenSIM's network through its wrapper against ours, and ours from one to two ranks."""
    rounds = [(launch("forecasting_gensim.py"), launch("forecasting_gensim.py", 2)) for _ in range(ROUNDS - 1)]
    r = launch("forecasting_gensim.py", 1, checkout)
    what, rows = "evaluation of GenSIM's network on 4 tiles of 64 x 64", []
    if "skipped" in r:
        rows.append([f"{what} against GenSIM's own", "-", "> 1", r["skipped"]])
    for precision in ("fp32", "bf16"):
        if "skipped" not in r:
            ours, theirs = (median(r[f"{whose} {precision}"]) for whose in ("ours", "theirs"))
            times = f"{ours:.2f} s, {theirs:.2f} s; a step of 39: {39 * ours:.0f} s, {39 * theirs:.0f} s"
            close = f"velocities differ by {r[f'difference {precision}']:.0e}"
            compared = f"{what} against GenSIM's own, {precision}"
            rows.append([compared, f"{theirs / ours:.2f}", "> 1", f"{times}; {close}"])
        one, two = (min(min(run[f"ours {precision}"]) for run in runs) for runs in zip(*rounds, strict=True))
        rows.append([f"{what}, {precision}, 1 → 2 ranks", f"{one / two:.2f}", "≥ 1.8", f"{one:.2f} s, {two:.2f} s"])
    return rows


def machine() -> str:
    """Names the processor and its cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    load = Path("/proc/loadavg").read_text().split()[0]
    return f"{len(models)} cores, {models[0] if models else platform.machine()}, load before the run {load}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gensim", default="", metavar="PATH", help="checkout of GenSIM; four minutes more")
    options = parser.parse_args()
    where = machine()
    parts = (noise, network, exchange, sampling, constrained, training, memory, bridge, observing, forecasting)
    rows = [row for part in parts for row in part()] + gensim(options.gensim) + forecasting_gensim(options.gensim)
    header = ["what", "measured", "aim", "behind it"]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * 4, *rows])
    notes = (
        "Halo exchange: packing, messages and unpacking, over a copy that writes the same bytes to shared memory, "
        "waits, and reads the other rank's. Rims along j are contiguous rows; along i they are runs of four cells, one "
        "cache line each. The share of a step is that of a whole fill, windows assembled. A model day of basin (20,000 "
        "cells) is one step; a verdict reads and sums all fields, which costs as much as a few steps at best.\n\n"
        "Training: the network and data of jobs/configs/gyre.yaml, ZeRO 0, medians; the plain loop has its windows in "
        "memory and neither loader nor log. AMX makes convolutions faster; the rest moves half the bytes, at best. "
        "Memory: tensors that live between a backward pass and the step of the optimiser (gradients with DeepSpeed's "
        "buckets), and the peak of the resident memory above that of Python and its libraries.\n\n"
        "Forecasts: the network of jobs/configs/ice.yaml, untrained, in bf16; CPU seconds of a step of four members on "
        "one rank, over four; nothing is said of skill. Two that know nothing of each other: what two ranks do with "
        "all tiles each, at the same time, over what one does alone; what a machine gives. GenSIM's network "
        "has its published size, random weights that both share, batches of all windows in its wrapper and of two in "
        "ours; both keep the memory that they free.\n"
    )
    text = (
        f"# Measured by jobs/bench/run\n\n{datetime.date.today()}, {where}; one thread per rank; the best of several "
        f"rounds, contenders in turn.\n\n{table}\n\n{notes}"
    )
    (HERE / "RESULTS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
