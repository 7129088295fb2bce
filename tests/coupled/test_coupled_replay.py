"""A recorded run, played to the emulator without the ocean, and to the ocean without the emulator."""

from basin_jobs import Job, assert_same_bits, halocline


def test_emulator_answers_a_record_as_it_did(together, case, tmp_path):
    done = halocline(tmp_path, case.basin, "replay", together.folder / "bridge.yaml", together.folder / "record")
    assert done.status == 0, done.output
    assert done.output.split()[-3:] == ["6", "6", "0"], done.output  # of the 6 observations, 6 equal, 0 different


def test_ocean_runs_from_a_record_on_other_ranks_with_the_same_bits(together, run):
    done = run(Job("replayed", "replay", (1, 2), bridge={"replay": str(together.folder / "record")}))
    assert done.status == 0, done.output
    assert_same_bits(done.restart(), together.restart())
    assert done.diagnostics() == together.diagnostics()


def test_ocean_that_differs_from_its_record_is_told_where(together, run):
    record = {"replay": str(together.folder / "record")}
    done = run(Job("other", "replay", forcing={"nn_seed": 2}, bridge=record))
    assert done.status == 84, done.output
    assert "000002_observe.npz, step 1: temperature" in done.output, done.output


def test_record_of_emulator_ranks_plays_alike(together, case, run, tmp_path):
    recorded = run(Job("beside", "mpmd", (1, 2), emulators=2, bridge={"record": "record"}))
    assert recorded.status == 0, recorded.output
    done = halocline(tmp_path, case.basin, "replay", recorded.folder / "bridge.yaml", recorded.folder / "record")
    assert done.status == 0, done.output
