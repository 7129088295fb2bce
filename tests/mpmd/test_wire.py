"""Frames and plans by themselves, without a job."""

import numpy as np
import pytest

from halocline.mesh.communicator import Serial
from halocline.mesh.lattice import Lattice
from halocline.mesh.layout import Layout
from halocline.mesh.rearrange import Rect, tile_rectangles
from halocline.run.contract import FieldDeclaration
from halocline.run.peer_cells import Message, plan
from halocline.run.peer_wire import Frame, Kind, PeerError

NJ, NI = 13, 19
TEMPERATURE = FieldDeclaration("temperature", "T", "degC", 3, 8)
SEA_LEVEL = FieldDeclaration("sea_level", "T", "m", 1, 4)


def layout() -> Layout:
    wet = np.ones((NJ, NI), bool)
    wet[:5, :8] = False  # a tile that is dropped
    return Layout.build(Lattice.build(wet, (5, 8), 0), Serial())


def test_frame_is_read_back() -> None:
    frame = Frame(Kind.VERDICT, 7, 2**40, 0, 2, 1, "gültig".encode())
    assert Frame.unpack(frame.pack()) == frame


@pytest.mark.parametrize("change", [lambda m: m[:-1], lambda m: m + b"x", lambda m: b"\0" * 8 + m[8:], lambda m: b""])
def test_damaged_frame_is_refused(change: "object") -> None:
    with pytest.raises(PeerError, match="cannot be read"):
        Frame.unpack(change(Frame(Kind.HELLO, payload=b"path").pack()))  # type: ignore[operator]


def test_plan_gives_each_cell_of_a_kept_tile_to_one_rank() -> None:
    rectangles = [Rect(0, 6, 0, 19), None, Rect(6, 13, 0, 11), Rect(6, 13, 11, 19)]
    count = np.zeros((NJ, NI), int)
    tiles = tile_rectangles(layout())
    for rect, parts in zip(rectangles, plan(layout(), rectangles), strict=True):
        assert bool(parts) == (rect is not None)
        for part in parts:
            _, tile = tiles[part.tile]
            assert part.place == part.cells.within(tile)
            count[part.cells.j0 : part.cells.j1, part.cells.i0 : part.cells.i1] += 1
    kept = np.zeros((NJ, NI), int)
    for _, tile in tiles:
        kept[tile.j0 : tile.j1, tile.i0 : tile.i1] = 1
    assert np.array_equal(count, kept)


def test_fields_of_a_message_begin_at_multiples_of_eight_bytes() -> None:
    (parts,) = plan(layout(), [Rect(5, 8, 0, 9)])
    message = Message.build(0, parts, [SEA_LEVEL, TEMPERATURE])
    cells = 3 * 9
    assert len(message.buffer) == 32 + 112 + 3 * cells * 8  # 27 floats are 108 bytes
    starts = [views[0].ctypes.data - message.buffer.ctypes.data for views in message.views.values()]
    assert starts == [32, 32 + 112]
    assert b"".join(chunk.tobytes() for chunk in message.chunks(100)) == message.buffer.tobytes()
