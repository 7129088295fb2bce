"""Dividing members × tiles over ranks."""

import pytest

from halocline.mesh.communicator import Serial
from halocline.run.teams import choose_ranks_per_member, form_team


@pytest.mark.parametrize(
    ("ranks", "tiles", "members", "size"),
    [
        (1, 4, 24, 1),
        (2, 4, 24, 2),  # a tie goes to the larger team
        (3, 4, 24, 1),  # 8 members on each rank, not 2 of 4 tiles of 24
        (4, 1, 24, 1),  # one tile: only members can be shared
        (4, 4, 1, 4),  # one member: only tiles can
    ],
)
def test_busiest_rank_gets_least_work(ranks, tiles, members, size):
    assert choose_ranks_per_member(ranks, tiles, members) == size


@pytest.mark.parametrize(("ranks", "tiles", "members"), [(5, 4, 1), (8, 1, 4), (7, 2, 3)])
def test_more_ranks_than_work_is_refused(ranks, tiles, members):
    with pytest.raises(ValueError, match=rf"{ranks} ranks for {tiles} tiles and {members} members"):
        choose_ranks_per_member(ranks, tiles, members)


def test_requested_size_must_fit():
    with pytest.raises(ValueError, match="ranks_per_member is 2 with 1 ranks"):
        form_team(Serial(), tiles=4, members=4, size=2)
    assert form_team(Serial(), tiles=4, members=3).members == (0, 1, 2)
