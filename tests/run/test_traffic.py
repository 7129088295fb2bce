"""Recorded traffic: the same bits come back, and a record that is not whole says so."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from halocline.mesh.rearrange import Rect
from halocline.physics.verdict import Check
from halocline.run.contract import Declaration, FieldDeclaration, Judgement
from halocline.run.traffic import Event, Record, Recorder

NK, NJ, NI = 3, 7, 10
FIELDS = {"temperature": (NK, "<f8"), "salinity": (NK, "<f4"), "sea_level": (1, ">f8")}
# Three ranks of a model leave out a corner of land; the fourth has no cells.
RECTANGLES = (Rect(0, 4, 0, 6), Rect(0, 7, 6, 10), Rect(4, 7, 0, 3), None)
LAND = Rect(4, 7, 3, 6)
DECLARED = tuple(FieldDeclaration(n, "T", "degC", k, np.dtype(t).itemsize) for n, (k, t) in FIELDS.items())
DECLARATION = Declaration(NI, NJ, NK, DECLARED, "noleap", 2700.0, 7, 20240228, RECTANGLES)


def whole(seed: int) -> dict[str, np.ndarray]:
    """Fields of random bits: every number there is, also NaN with payloads, infinities and denormal ones."""
    rng = np.random.default_rng(seed)
    return {
        name: np.frombuffer(rng.bytes(levels * NJ * NI * np.dtype(kind).itemsize), kind).reshape(levels, NJ, NI)
        for name, (levels, kind) in FIELDS.items()
    }


def judgement(step: int) -> Judgement:
    checks = (Check("heat", 0.1 + 0.2, -np.inf, 1e300, "ok"), Check("salt", np.nan, -0.0, 5e-324, "reject"))
    diagnostics = {"heat": np.float64(0.1) + 0.2, "profile": np.array([np.nan, -0.0, np.inf]), "map": np.ones((2, 3))}
    return Judgement(2, 1, step, "salt is not finite: 5 °C µ.", checks, diagnostics)


def record(folder: Path, observed: int = 2) -> Record:
    """Lets four ranks record ready, generate and some states."""
    for rank, rect in enumerate(RECTANGLES):
        recorder = Recorder(folder, rank)
        recorder.ready(DECLARATION, [] if rect is None else [(rect, whole(0)["temperature"][cut(rect)] > 0)])
        recorder.generate(pieces(rect, 1), judgement(7))
        for n in range(observed):
            recorder.observe(8 + n, pieces(rect, 2 + n), judgement(8 + n))
    return Record.open(folder)


def pieces(rect: Rect | None, seed: int) -> list:
    """What a rank hands over: views of a larger array in Fortran's order, as of a model."""
    if rect is None:
        return []
    return [(rect, {name: np.asfortranarray(x)[cut(rect)] for name, x in whole(seed).items()})]


def cut(rect: Rect) -> tuple:
    return ..., slice(rect.j0, rect.j1), slice(rect.i0, rect.i1)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("rect", [Rect(0, NJ, 0, NI), Rect(3, 6, 2, 8), Rect(1, 2, 9, 10), *RECTANGLES[:3]])
def test_any_rectangle_comes_back_bit_for_bit(rect, tmp_path):
    found = record(tmp_path)
    land = np.zeros((NJ, NI), bool)
    land[cut(LAND)] = True
    for seed, event in enumerate(found.events[1:], 1):
        arrays, known = found.piece(event, rect)
        assert list(arrays) == list(FIELDS)
        assert np.array_equal(known, ~land[cut(rect)])
        for name, x in whole(seed).items():
            assert same_bits(arrays[name], np.where(land, x.dtype.type(0), x)[cut(rect)].astype(x.dtype)), name


def test_parts_that_emulator_ranks_received_are_joined(tmp_path):
    """Beside a model, each emulator rank records the parts of its tiles, one for each rank of the model they lie on."""
    parts = (
        (Rect(0, 4, 0, 4), Rect(0, 4, 6, 8)),
        (Rect(0, 4, 4, 6), Rect(0, 4, 8, 10), Rect(4, 7, 0, 3), Rect(4, 7, 6, 10)),
    )
    for rank, rects in enumerate(parts):
        recorder = Recorder(tmp_path, rank)
        recorder.ready(DECLARATION, [])
        recorder.observe(8, [piece for rect in rects for piece in pieces(rect, 2)], judgement(8))
    found = Record.open(tmp_path)
    for rect, (arrays, _) in zip(RECTANGLES[:3], found.pieces(found.events[1], RECTANGLES[:3]), strict=True):
        for name, x in whole(2).items():
            assert same_bits(arrays[name], x[cut(rect)]), name


def test_declaration_events_and_verdicts_come_back_exactly(tmp_path):
    found = record(tmp_path)
    assert found.declaration == DECLARATION
    assert (found.ranks, found.lost) == (4, False)
    assert found.events == tuple(Event(n, v) for n, v in enumerate(("ready", "generate", "observe", "observe")))
    assert found.read(found.events[0]).judgement is None
    traffic = found.read(found.events[3])
    told, expected = traffic.judgement, judgement(9)
    assert told is not None and (traffic.step, told.told) == (9, expected.told)
    assert repr(told.checks) == repr(expected.checks)  # NaN is not equal to itself
    assert list(told.diagnostics) == list(expected.diagnostics)
    for name, values in expected.diagnostics.items():
        assert same_bits(told.diagnostics[name], np.asarray(values)), name


def test_state_that_broke_the_emulator_is_kept_without_verdict(tmp_path):
    recorder = Recorder(tmp_path, 0)
    recorder.ready(DECLARATION, [])
    recorder.observe(8, pieces(RECTANGLES[0], 2), None)
    found = Record.open(tmp_path)
    assert (found.read(found.events[1]).step, found.read(found.events[1]).judgement) == (8, None)


def test_fallen_back_start_has_no_fields(tmp_path):
    for rank in range(2):
        recorder = Recorder(tmp_path, rank)
        recorder.ready(DECLARATION, [])
        recorder.generate([], judgement(7))
    found = Record.open(tmp_path)
    arrays, known = found.piece(found.events[1], Rect(0, 2, 0, 2))
    assert not arrays and not known.any()


@pytest.mark.parametrize("rank", range(4))
def test_record_cut_short_ends_with_its_last_complete_event(rank, tmp_path):
    record(tmp_path)
    last = tmp_path / f"rank_{rank:04d}" / "000003_observe.npz"
    last.rename(last.with_name(f".{last.name}.123.part"))
    found = Record.open(tmp_path)
    assert ([event.number for event in found.events], found.lost) == ([0, 1, 2], True)


def break_rank(folder: Path) -> None:
    shutil.rmtree(folder / "rank_0001")


def break_last_rank(folder: Path) -> None:
    shutil.rmtree(folder / "rank_0003")
    shutil.rmtree(folder / "rank_0002")


def break_event(folder: Path) -> None:
    (folder / "rank_0002" / "000001_generate.npz").unlink()


def break_two_events(folder: Path) -> None:
    for name in ("000002_observe.npz", "000003_observe.npz"):
        (folder / "rank_0002" / name).unlink()


def break_order(folder: Path) -> None:
    (folder / "rank_0001" / "000001_generate.npz").rename(folder / "rank_0001" / "000001_observe.npz")


def break_file(folder: Path) -> None:
    path = folder / "rank_0001" / "000002_observe.npz"
    path.write_bytes(path.read_bytes()[:-500])


def break_bits(folder: Path) -> None:
    path = folder / "rank_0001" / "000002_observe.npz"
    raw = bytearray(path.read_bytes())
    raw[300] ^= 1
    path.write_bytes(raw)


def break_declaration(folder: Path) -> None:
    (folder / "declaration.json").write_text('{"format": 1}')


def break_format(folder: Path) -> None:
    table = json.loads((folder / "declaration.json").read_text())
    (folder / "declaration.json").write_text(json.dumps({**table, "format": 9}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (break_rank, r"Record .* lacks folder rank_0001: restore it"),
        (break_last_rank, r"lacks cells of rectangle \(4, 7, 0, 3\) .* in 000001_generate.npz: it has 2 folders"),
        (break_event, r"rank_0002 lacks event 000001, but has 000002_observe.npz: restore it"),
        (break_two_events, r"lacks 000002_observe.npz and more in rank_0002: restore it"),
        (break_order, r"has other events in rank_0001 than elsewhere: restore it"),
        (break_file, r"Recorded event .*rank_0001/000002_observe.npz cannot be read \(.*\): restore it"),
        (break_bits, r"Recorded event .*rank_0001/000002_observe.npz cannot be read \(Bad CRC.*\): restore it"),
        (break_declaration, r"File .*declaration.json cannot be used \('declaration'\): restore it"),
        (break_format, r"declaration.json cannot be used \(it has format 9, expected 1\)"),
        (shutil.rmtree, r"is no record of traffic, it has no declaration.json: name the folder"),
    ],
)
def test_record_that_is_not_whole_is_told_in_one_sentence(damage, told, tmp_path):
    record(tmp_path / "record")
    damage(tmp_path / "record")
    with pytest.raises((OSError, ValueError), match=told):
        found = Record.open(tmp_path / "record")
        for event in found.events[1:]:
            found.piece(event, Rect(0, NJ, 0, NI))


def test_record_is_never_written_over(tmp_path):
    record(tmp_path)
    with pytest.raises(FileExistsError, match="holds a record: name another one in `record`, or move it away"):
        Recorder(tmp_path, 1)


def test_full_disk_is_told_in_one_sentence_and_leaves_what_was_recorded(tmp_path):
    recorder, before = Recorder(tmp_path, 0), resource.getrlimit(resource.RLIMIT_FSIZE)
    recorder.ready(DECLARATION, [])
    recorder.observe(8, pieces(RECTANGLES[0], 2), judgement(8))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        with pytest.raises(OSError, match=r"Cannot write .*000002_observe.npz \(File too large\): .* free space"):
            recorder.observe(9, pieces(RECTANGLES[0], 3), judgement(9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [event.file for event in Record.open(tmp_path).events] == ["000000_ready.npz", "000001_observe.npz"]


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_traffic import DECLARATION, RECTANGLES, judgement, pieces
from halocline.run.traffic import Recorder
recorder = Recorder(Path(sys.argv[1]), 0)
recorder.ready(DECLARATION, [])
print("begun", flush=True)
for step in range(10**6):
    recorder.observe(step, pieces(RECTANGLES[0], step), judgement(step))
"""


def test_killed_run_leaves_whole_events_only(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent), *filter(None, sys.path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline() == b"begun\n"
    while len(list((tmp_path / "rank_0000").glob("*.npz"))) < 20:
        assert writer.poll() is None
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(10) == -signal.SIGKILL
    writer.stdout.close()
    found, rect = Record.open(tmp_path), RECTANGLES[0]
    assert len(found.events) >= 20
    for event in found.events[1:]:
        step = found.read(event).step
        assert step == event.number - 1
        assert same_bits(found.piece(event, rect)[0]["temperature"], whole(step)["temperature"][cut(rect)])
