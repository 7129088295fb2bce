"""Seams and modes of fields whose ratios are known."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from case import Case, here
from rich.console import Console

from halocline.io.nemo import States
from halocline.mesh.grid import Grid, box_grid
from halocline.mesh.lattice import Lattice
from halocline.physics.departures import Departures, helmert
from halocline.physics.modes import mode_variances
from halocline.physics.seams import Faces, Seam, seam_of_departures, seam_of_states
from halocline.run.coherence import measure_coherence, print_coherence, to_plain, write_coherence

NJ, NI, TILE = 13, 19, (5, 8)  # last tiles are smaller than the others, both ways
DECEMBER = 12


def lattice_of(grid: Grid, tile: tuple[int, int] = TILE) -> Lattice:
    return Lattice.from_grid(grid, tile, 2)


def coasts() -> Grid:
    """Two levels, an island upon an edge of tiles, a ridge below."""
    levels = np.full((NJ, NI), 2)
    levels[0] = levels[:, -1] = 0
    levels[4:7, 7:9] = 0
    levels[10, 2:12] = 1
    return box_grid(2, NJ, NI, levels=levels)


def rough(grid: Grid, count: int, seed: int, point: str = "T") -> np.ndarray:
    """Noise upon a front, NaN on land, shape (state, k, nj, ni)."""
    x = np.random.default_rng(seed).standard_normal((count, *grid.shape)) + np.arange(grid.ni) ** 2
    return np.where(grid.mask(point), x, np.nan)


def months(count: int, of: int = 1) -> np.ndarray:
    return np.arange(count) % of + 1


def measured(
    generated: np.ndarray, reference: np.ndarray, grid: Grid, along: str, whole: bool = True, month: int = 1, **where
) -> Seam | None:
    lattice = where.get("lattice") or lattice_of(grid)
    departures = Departures.match(months(len(generated), month), months(len(reference), month))
    faces = Faces.build(lattice, along, "T")
    return (seam_of_states if whole else seam_of_departures)(
        generated, reference, grid.tmask, faces, where.get("sign", 1), departures
    )


def tile_numbers(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    j, i = np.mgrid[: grid.nj, : grid.ni]
    return j // TILE[0], i // TILE[1]


def squares_across(x: np.ndarray, grid: Grid, along: str) -> np.ndarray:
    """Squared differences across edges, by plain loops: one list for each level."""
    J, I = tile_numbers(grid)
    dj, di = (0, 1) if along == "i" else (1, 0)
    found = [[] for _ in range(grid.nk)]
    for k, j, i in np.argwhere(grid.tmask):
        nj, ni = j + dj, i + di
        inside = nj < grid.nj and ni < grid.ni
        if inside and grid.tmask[k, nj, ni] and (J[j, i], I[j, i]) != (J[nj, ni], I[nj, ni]):
            found[k].append((x[:, k, nj, ni] - x[:, k, j, i]) ** 2)
    return [np.array(level) for level in found]


@pytest.mark.parametrize("along", ["i", "j"])
@pytest.mark.parametrize("whole", [True, False])
def test_states_of_the_model_have_no_seam(along: str, whole: bool):
    grid = coasts()
    x = rough(grid, 8, 0)
    found = measured(x, x, grid, along, whole, month=2)
    for value in (found.ratio.value, found.step.value, *found.levels):
        assert value == pytest.approx(1, abs=1e-12)
    assert found.ratio.low < 1 < found.ratio.high


@pytest.mark.parametrize("along", ["i", "j"])
def test_jump_at_edges_gives_the_constructed_ratio(along: str):
    """Members in pairs, one with a jump up and one down: squares grow by its square, across edges only."""
    grid, jump = coasts(), 3.0
    x = rough(grid, 4, 1)
    stripes = tile_numbers(grid)[along == "i"] % 2
    pairs = np.concatenate([x + jump * stripes, x - jump * stripes])
    found = measured(pairs, x, grid, along)
    across = squares_across(x, grid, along)
    for k in range(2):
        assert found.levels[k] == pytest.approx(1 + jump**2 / across[k].mean(), rel=1e-9)
    assert found.pairs == sum(map(len, across))
    # Other lines know nothing of it, so the step is the same as the ratio, for either side of the edge.
    assert found.step.value == pytest.approx(found.ratio.value, rel=1e-9)
    assert (found.step.line_low, found.step.line_high) == pytest.approx((1, 1))
    other = measured(pairs, x, grid, "j" if along == "i" else "i")
    assert other.ratio.value == pytest.approx(1)


def test_jump_in_departures_is_seen_however_steep_the_mean_is():
    grid = coasts()
    x = rough(grid, 40, 2)
    sign = np.where(np.arange(40) % 2, 1.0, -1.0)[:, None, None, None]
    jumping = x + 2.0 * sign * (tile_numbers(grid)[1] % 2) + 100 * np.arange(grid.nj)[:, None] ** 2
    full, departures = (measured(jumping, x, grid, "i", whole) for whole in (True, False))
    # Noise of variance 1 differs by 2 on average; squares of the jump are 4, of the front up to 33^2.
    assert departures.ratio.value == pytest.approx(1 + 4 / 2, rel=0.15)
    assert departures.ratio.low < 3 < departures.ratio.high and departures.ratio.low > 2
    assert 1 < full.ratio.value < 1.2


def test_rougher_states_and_rougher_regions_are_no_step():
    grid = box_grid(1, 60, 12)
    lattice = Lattice.from_grid(grid, (20, 12), 2)
    x = np.random.default_rng(3).standard_normal((6, *grid.shape))
    # Twice as rough everywhere; then ever rougher towards the north: neighbouring lines cancel but for curvature.
    assert measured(2 * x, x, grid, "j", lattice=lattice).ratio.value == pytest.approx(1)
    smooth = np.cumsum(np.ones((2, 1, 60, 12)), axis=2)
    steep = np.exp(0.02 * np.arange(60))[:, None] * np.ones((2, 1, 60, 12))
    found = measured(steep, smooth, grid, "j", lattice=lattice)
    assert found.step.value == pytest.approx(1, abs=1e-9)
    assert abs(found.ratio.value - 1) > 0.01


@pytest.mark.parametrize(("along", "periodic"), [("i", {"periodic_i": True}), ("j", {"periodic_j": True})])
def test_cyclic_edge_is_an_edge_of_tiles(along: str, periodic: dict):
    """Also of the only tile along it, whose network sees its other side through the halo."""
    grid = box_grid(1, NJ, NI, **periodic)
    lattice = Lattice.from_grid(grid, (NJ, NI), 2)
    x = np.zeros((2, *grid.shape))
    x[0] = np.arange(grid.ni) if along == "i" else np.arange(grid.nj)[:, None]
    n = grid.ni if along == "i" else grid.nj
    y = np.random.default_rng(4).standard_normal(x.shape)
    found = measured(x, y, grid, along, lattice=lattice)
    across, inside = ((y[..., 0] - y[..., -1]) ** 2, np.diff(y, axis=-1) ** 2) if along == "i" else (
        (y[..., 0, :] - y[..., -1, :]) ** 2, np.diff(y, axis=-2) ** 2)  # fmt: skip
    assert found.ratio.value == pytest.approx((n - 1) ** 2 / (across.mean() / inside.mean()))
    assert measured(x, y, grid, "j" if along == "i" else "i", lattice=lattice) is None


@pytest.mark.parametrize("fold", ["T", "F"])
@pytest.mark.parametrize("point", ["T", "U", "V"])
def test_every_neighbour_on_a_folded_grid_is_there_once(fold: str, point: str):
    grid = box_grid(1, 9, 12, periodic_i=True, fold=fold)
    faces = Faces.build(lattice_of(grid, (5, 6)), "j", point)
    pairs = {frozenset(pair) for pair in zip(faces.first.tolist(), faces.second.tolist(), strict=True)}
    assert len(pairs) == len(faces.first) and all(len(pair) == 2 for pair in pairs)
    cells = np.arange(grid.nj * grid.ni)
    canonical = grid.edges.canonical(point, *np.divmod(cells, grid.ni))[0] == cells
    # Each cell that repeats no other has a northern and a southern neighbour, but for the first row.
    degree = np.bincount(np.concatenate([faces.first, faces.second]), minlength=len(cells))
    assert not degree[~canonical].any()
    inner = canonical & (cells // grid.ni > 0) & (cells // grid.ni < grid.nj - 3)
    assert (degree[inner] == 2).all()
    assert (faces.sign == -1).any() == (faces.line[faces.sign == -1] == faces.reach).any()


def test_vector_turns_over_at_the_fold():
    """A flow to the east everywhere turns into one to the west beyond the fold of its components: no difference."""
    grid = box_grid(1, 9, 12, periodic_i=True, fold="F")
    faces = Faces.build(lattice_of(grid, (5, 6)), "j", "T")
    beyond = faces.sign < 0
    assert beyond.sum() == 6
    x = np.ones((1, 9, 12))
    assert (faces.differences(x, 1, slice(None)) == 0).all()
    assert (faces.differences(x, -1, slice(None))[:, beyond] == -2).all()


def test_one_closed_tile_has_no_seam():
    grid = coasts()
    states = made(grid, rough(grid, 6, 0))
    found = measure_coherence(states, states, grid, Lattice.from_grid(grid, (NJ, NI), 2))
    assert found.reasons["seams"] == "one tile"
    assert not any(found.seams.values())
    console = Console(record=True, width=100)
    print_coherence(found, console)
    assert "seams: one tile" in console.export_text()


def made(grid: Grid, temperature: np.ndarray, month: np.ndarray | None = None) -> States:
    n = len(temperature)
    month = np.ones(n, int) if month is None else month
    return States({"temperature": temperature}, np.zeros(n), month, month / 12, np.arange(n), {})


@pytest.mark.parametrize("n", [2, 3, 7])
def test_contrasts_know_the_variance_and_not_the_mean(n: int):
    x = np.random.default_rng(n).standard_normal((n, 4))
    np.testing.assert_allclose((helmert(x) ** 2).sum(0), n * x.var(axis=0), rtol=1e-12)
    np.testing.assert_allclose(helmert(x + 5), helmert(x), atol=1e-13)
    contrasts = helmert(np.eye(n))
    np.testing.assert_allclose(contrasts @ contrasts.T, np.eye(n - 1), atol=1e-14)


def modes_of(generated: np.ndarray, reference: np.ndarray, grid: Grid, month: int = 1, **options: int):
    departures = Departures.match(months(len(generated), month), months(len(reference), month))
    return mode_variances(generated, reference, grid.cell_volume, departures, **options)


def test_shuffled_tiles_lose_the_variance_of_an_even_mode_in_the_known_proportion():
    """Four equal tiles, each up or down at random, in all 16 ways: a quarter is left of what all do together."""
    grid = box_grid(2, 8, 12)
    tile = (np.arange(8)[:, None] // 4) * 2 + np.arange(12) // 6
    even = np.array([1.0, -1.0] * 8)[:, None, None, None] * np.ones(grid.shape)
    shuffled = np.array(
        [np.array(signs)[tile] * np.ones(grid.shape) for signs in itertools.product((1.0, -1.0), repeat=4)]
    )
    found = modes_of(shuffled, even, grid)
    assert found.share == pytest.approx([1.0])
    assert found.ratio[0] == pytest.approx(1 / 4)
    assert found.total[0] == pytest.approx(1.0)  # what is lost there lies elsewhere
    assert found.leading[0] == found.ratio[0] and np.isnan(found.rest[0])


def test_modes_and_shares_are_those_of_the_covariance():
    """Two patterns, orthogonal by volume and not by cells, of variances 9 and 1, generated 9/4 and 4."""
    grid = coasts()
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((2, *grid.shape))
    volume = grid.cell_volume
    inner = lambda a, b: (a * b * volume).sum() / volume.sum()  # noqa: E731
    second = second - first * inner(second, first) / inner(first, first)
    first, second = (p / np.sqrt(inner(p, p)) for p in (first, second))
    signs = np.array([1.0, 1, -1, -1, 1, 1, -1, -1])[:, None, None, None]  # of states of a month

    def states(a: float, b: float) -> np.ndarray:
        """The first varies in January and the second in February, so that no chance mixes them."""
        x = np.stack([a * signs * first, b * signs * second], axis=1).reshape(16, *grid.shape)
        return np.where(grid.tmask, x + 7, np.nan)

    found = modes_of(states(1.5, 2.0), states(3.0, 1.0), grid, 2)
    assert found.share == pytest.approx([0.9, 0.1], rel=1e-6)
    assert found.ratio == pytest.approx([0.25, 4.0], rel=1e-6)
    assert found.total[0] == pytest.approx((2.25 + 4) / 10)
    assert (found.members, found.states, found.months, found.own_means) == (16, 16, (1, 2), True)


@pytest.mark.parametrize(("members", "own"), [(36, True), (12, False)])
def test_few_reference_states_do_not_bias_the_ratios(members: int, own: bool):
    """36 states in 12 months, all of one climate. Along modes that know the states they measure, others fall short."""
    grid = box_grid(1, 6, 10)
    scale = (1.0 + np.arange(60)) ** -0.5  # standard deviations of the modes
    basis = np.linalg.qr(np.random.default_rng(6).standard_normal((60, 60)))[0] * scale
    season = 10 * np.random.default_rng(7).standard_normal((12, 60))

    def states(count: int, seed: int) -> np.ndarray:
        drawn = np.random.default_rng(seed).standard_normal((count, 60)) @ basis.T
        return (drawn + season[months(count, 12) - 1]).reshape(count, 1, 6, 10)

    pairs = [(states(members, 2 * n), states(36, 2 * n + 1)) for n in range(30)]
    runs = [modes_of(x, y, grid, 12, count=5) for x, y in pairs]
    assert all(found.own_means == own for found in runs)
    # Of 30 quotients of uncertain means, medians stray by about 0.1.
    assert np.median([found.ratio for found in runs], axis=0) == pytest.approx(np.ones(5), abs=0.3)
    assert np.median([found.leading[0] for found in runs]) == pytest.approx(1, abs=0.15)
    assert np.mean([found.total[1] <= 1 <= found.total[2] for found in runs]) > 0.7
    assert np.median([naive(x, y) for x, y in pairs]) < 0.75


def naive(generated: np.ndarray, reference: np.ndarray) -> float:
    """Ratio along the first five modes of all departures of the reference, against these same."""
    matched = Departures.match(months(len(generated), 12), months(len(reference), 12))
    x, y = (states.reshape(len(states), -1) for states in (generated, reference))
    known, others = matched.reference_contrasts(y), matched.spread(matched.generated_departures(x, y))
    _, s, modes = np.linalg.svd(known, full_matrices=False)
    variance = ((others @ modes[:5].T) ** 2).sum() / len(others)
    return float(variance / ((1 + matched.excess) * (s[:5] ** 2).sum() / len(known)))


def test_months_of_the_reference_count_as_in_the_generated_states():
    """March varies ten times as much, and the reference has more of it."""
    grid = box_grid(1, 6, 10)
    pattern = np.cos(np.arange(60)).reshape(1, 6, 10)
    rng = np.random.default_rng(8)

    def states(month: np.ndarray) -> np.ndarray:
        return (np.where(month == 3, 10.0, 1.0) * rng.standard_normal(len(month)))[:, None, None, None] * pattern

    reference_month = np.repeat([3, 9], [300, 20])
    generated_month = np.repeat([3, 9], [20, 300])
    departures = Departures.match(generated_month, reference_month)
    found = mode_variances(states(generated_month), states(reference_month), grid.cell_volume, departures)
    # Variance (20 * 100 + 300 * 1) / 320, from the reference's moments of either month.
    assert found.total[0] == pytest.approx(1, abs=0.35)


def test_too_few_states_give_reasons_and_no_numbers():
    grid = coasts()
    x = rough(grid, 6, 0)
    lattice = lattice_of(grid)
    lonely = measure_coherence(made(grid, x), made(grid, x, np.arange(1, 7)), grid, lattice)
    assert set(lonely.reasons) == {"departures", "temperature"}
    assert "2 states of the reference" in lonely.reasons["departures"]
    assert set(lonely.seams["states"]["temperature"]) == {"i", "j"} and not lonely.seams["departures"]
    few = measure_coherence(made(grid, x[:2]), made(grid, rough(grid, 20, 1)), grid, lattice)
    assert "sample more" in few.reasons["temperature"]
    short = measure_coherence(made(grid, x), made(grid, x[:3]), grid, lattice)
    assert "got 3 states in 1 months" in short.reasons["temperature"]


def test_tables_hold_what_was_measured(tmp_path: Path):
    grid = coasts()
    x, y = rough(grid, 12, 0), rough(grid, 12, 1)
    found = measure_coherence(made(grid, x), made(grid, y), grid, lattice_of(grid))
    table = json.loads(json.dumps(to_plain(found), allow_nan=False))
    seam = found.seams["departures"]["temperature"]["j"]
    assert table["seams"]["departures"]["temperature"]["j"]["ratio"]["value"] == seam.ratio.value
    assert table["modes"]["temperature"]["ratio"] == found.modes["temperature"].ratio.tolist()
    write_coherence(tmp_path / "table.csv", found)
    rows = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()]
    assert {len(row) for row in rows} == {9}
    step = next(row for row in rows if row[:3] == ["departures step", "temperature", "j"])
    assert float(step[4]) == pytest.approx(seam.step.value, rel=1e-5)
    console = Console(record=True, width=80)
    print_coherence(found, console)
    text = console.export_text()
    assert f"{seam.ratio.value:.2f} (" in text and "temperature j" in text and "…" not in text


def test_evaluation_tells_seams_and_modes(trained: Case, tmp_path: Path):
    states = tmp_path / "states.nc"
    assert (
        here("sample", trained.run, "members=8", "months=[2,4,6]", "sampling.steps=1", f"output={states}").status == 0
    )
    result = here("evaluate", trained.run, f"states={states}", f"output={tmp_path}")
    assert result.status == 0, result.err
    assert "seams of departures" in result.out and "sea_level j" in result.out
    table = json.loads((tmp_path / "table.json").read_text())["coherence"]
    assert set(table["seams"]["departures"]) == set(table["seams"]["states"]) == {
        "temperature", "salinity", "velocity_u", "velocity_v", "sea_level"
    }  # fmt: skip
    assert "temperature" in table["reasons"]  # three departures of the reference: too few for modes
