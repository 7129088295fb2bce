import numpy as np
import pytest


def test_error_of_one_rank_is_raised_on_all(comm):
    with pytest.raises(FileNotFoundError, match=f"no file on rank {comm.size - 1}"), comm.together():
        if comm.rank == comm.size - 1:
            raise FileNotFoundError(f"no file on rank {comm.rank}")


def test_lowest_failing_rank_is_heard(comm):
    with pytest.raises(ValueError, match="rank 0 speaks"):
        comm.agree(ValueError(f"rank {comm.rank} speaks"))


def test_foreign_error_types_become_runtime_errors(comm):
    class Odd(Exception):
        pass

    with pytest.raises(Odd if comm.is_root else RuntimeError, match="strange"):
        comm.agree(Odd("strange") if comm.is_root else None)


def test_errors_with_several_arguments_keep_their_text(comm):
    with pytest.raises((UnicodeDecodeError, RuntimeError), match="bad byte"):
        comm.agree(UnicodeDecodeError("utf-8", b"x", 0, 1, "bad byte") if comm.is_root else None)


def test_error_knows_the_rank_on_which_it_happened(comm):
    with pytest.raises(KeyError) as caught:
        comm.agree(KeyError("lost") if comm.rank == comm.size - 1 else None)
    assert caught.value.agreed and caught.value.origin == comm.size - 1


def test_ranks_of_a_node_keep_their_order(comm):
    node = comm.split_by_node()
    assert (node.rank, node.size) == (comm.rank, comm.size)  # tests run on one node
    node.free()


def test_no_error_passes(comm):
    with comm.together():
        pass
    assert comm.allgather(comm.rank) == list(range(comm.size))


def test_split_divides_by_colour_and_leaves_out_the_colourless(comm):
    part = comm.split(comm.rank % 2, key=-comm.rank)
    assert part.size == len(range(comm.rank % 2, comm.size, 2))
    assert part.allgather(comm.rank) == sorted(part.allgather(comm.rank), reverse=True)
    part.free()
    assert comm.split(None) is None


def test_arrays_are_strung_together_in_rank_order(comm):
    mine = np.arange(comm.rank + 1.0) + 10 * comm.rank
    together = comm.allgather_arrays(mine, [rank + 1 for rank in range(comm.size)])
    assert together.tolist() == [10.0 * rank + n for rank in range(comm.size) for n in range(rank + 1)]
    assert comm.sum_arrays(np.array([1.0, comm.rank])).tolist() == [comm.size, comm.size * (comm.size - 1) / 2]
