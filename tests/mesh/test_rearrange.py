import numpy as np
import pytest

from halocline.mesh.communicator import Serial
from halocline.mesh.rearrange import Rearrange, Rect

WHOLE = [(0, Rect(0, 3, 0, 4))]
HALVES = [(0, Rect(0, 3, 0, 1)), (0, Rect(0, 3, 1, 4))]


def test_values_arrive_in_their_rectangles():
    field = np.arange(24.0).reshape(2, 3, 4)
    left, right = Rearrange.build(WHOLE, HALVES, Serial())([field])
    assert np.array_equal(left, field[..., :1]) and np.array_equal(right, field[..., 1:])
    (back,) = Rearrange.build(HALVES, WHOLE, Serial())([left, right])
    assert np.array_equal(back, field)


def test_types_and_bits_are_kept():
    field = np.array([[np.nan, -0.0, 1e-45, np.inf]] * 3, np.float32)
    (same,) = Rearrange.build(WHOLE, WHOLE, Serial())([field])
    assert same.dtype == np.float32 and same.tobytes() == field.tobytes()


def test_dry_cells_are_filled_only_where_declared():
    part = HALVES[1:]
    with pytest.raises(ValueError, match=r"Target rectangle \(0, 3, 0, 4\) of rank 0 is not covered"):
        Rearrange.build(part, WHOLE, Serial())
    (filled,) = Rearrange.build(part, WHOLE, Serial(), dry=True, fill=-9)([np.ones((3, 3))])
    assert filled.tolist() == [[-9, 1, 1, 1]] * 3


@pytest.mark.parametrize(
    "source, sentence",
    [
        (WHOLE + HALVES[:1], "overlaps another"),
        ([(1, Rect(0, 3, 0, 4))], "belongs to rank 1"),
        ([(0, Rect(0, 3, 4, 4))], "is empty"),
        ([(0, Rect(-1, 3, 0, 4))], "is empty"),
    ],
)
def test_impossible_decompositions_are_refused(source, sentence):
    with pytest.raises(ValueError, match=sentence):
        Rearrange.build(source, WHOLE, Serial())


def test_arrays_must_fit_their_rectangles():
    plan = Rearrange.build(HALVES, WHOLE, Serial())
    with pytest.raises(ValueError, match=r"sizes \[\(3, 3\)\] on rank 0"):
        plan([np.zeros((3, 3))])
    with pytest.raises(ValueError, match="differ in leading sizes or type"):
        plan([np.zeros((2, 3, 1)), np.zeros((2, 3, 3), np.float32)])
