"""GenSIM's network and its weights. Held against the published code where HALOCLINE_GENSIM names a checkout of it."""

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from halocline.flow.networks.gensim import GenSIMConfig, GenSIMNetwork, evaluate_on_tiles, load_gensim

SMALL = {"width": 32, "blocks": 5, "heads": 2, "hidden": 2, "embedding": 16}


def published_layout(inputs=24, outputs=6, width=512, blocks=8, heads=8, hidden=2, embedding=512) -> dict[str, tuple]:
    """Names and shapes of the tensors in a published file."""
    skips, size, cells = (blocks - 1) // 2, width // heads, 4
    shapes: dict[str, tuple] = {}
    for name, numbers in (("time", 1), ("augment", 3), ("resolution", 1)):
        part = f"embedder.{name}_embedder"
        shapes[f"{part}.0.frequencies"] = (numbers, embedding // 2)
        for layer in (1, 3):
            shapes |= {f"{part}.{layer}.weight": (embedding, embedding), f"{part}.{layer}.bias": (embedding,)}
    counts = {"in_blocks": skips, "bottleneck": blocks - 2 * skips, "out_blocks": skips}
    for block in (f"{part}.{k}" for part, count in counts.items() for k in range(count)):
        attention, mlp = f"{block}.self_attention", f"{block}.mlp_layer"
        shapes |= {
            f"{block}.gate_layer.weight": (2 * width, embedding),
            f"{attention}.qkv_layer.weight": (3 * width, width),
            f"{attention}.q_norm.weight": (size,),
            f"{attention}.k_norm.weight": (size,),
            f"{attention}.rope_layer.freqs": (2, heads, size // 2),
            f"{attention}.out_layer.weight": (width, width),
            f"{mlp}.in_layer.weight": (2 * hidden * width, width),
            f"{mlp}.out_layer.0.weight": (width, hidden * width),
        }
    return shapes | {
        "tokenizer.in_encoder.weight": (width, (inputs + 1) * cells),
        "skip_embedding.weight": ((skips + 1) * width, embedding),
        "head.gate_layer.weight": (width, embedding),
        "head.out_layer.weight": (outputs * cells, width),
    }


def weights(**size: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(shape) / shape[-1] ** 0.5 for name, shape in published_layout(**size).items()}


def saved(folder: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, folder / "model_weights.safetensors")
    return folder / "model_weights.safetensors"


def arguments(members: int, nj: int, ni: int) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Fields of a domain with land, on a turned map; members at different times, in different attitudes and scales."""
    torch.manual_seed(1)
    mask = (torch.rand(members, 1, nj // 4, ni // 4) > 0.3).float()
    mask = mask.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    y, x = torch.meshgrid(12.5 * torch.arange(nj), 12.5 * torch.arange(ni), indexing="ij")
    mesh = torch.stack([x - 0.3 * y - 1000, y + 0.3 * x + 200]).expand(members, 2, nj, ni)
    time = torch.linspace(0.1, 0.9, members)[:, None]
    attitude, resolution = torch.eye(3).repeat(members, 1)[:members], 12.5 * torch.arange(1.0, members + 1)[:, None]
    return (torch.randn(members, 24, nj, ni), mesh, mask), (time, attitude, resolution)


def test_network_of_published_size_has_the_published_parameters():
    with torch.device("meta"):
        network = GenSIMNetwork()
    assert sum(p.numel() for p in network.parameters()) == 28_121_088
    buffers = {"embedder.time_embedder.0", "embedder.augment_embedder.0", "embedder.resolution_embedder.0"}
    layout = {k: v for k, v in published_layout().items() if k.removesuffix(".frequencies") not in buffers}
    assert sum(torch.Size(shape).numel() for shape in layout.values()) == 28_121_088


@torch.no_grad()
def test_loaded_weights_are_those_of_the_file_each_in_its_place(tmp_path):
    tensors = weights(**SMALL)
    network = load_gensim(saved(tmp_path, tensors), GenSIMConfig(**SMALL))
    block, theirs = network.trunk.outward[1], "out_blocks.1"
    for ours, name in (
        (network.embed["attitude"][0].frequencies, "embedder.augment_embedder.0.frequencies"),
        (network.gate.weight, "head.gate_layer.weight"),
        (block.gate.weight, f"{theirs}.gate_layer.weight"),
        (block.attention.key_scale, f"{theirs}.self_attention.k_norm.weight"),
        (block.perceptron.out.weight, f"{theirs}.mlp_layer.out_layer.0.weight"),
    ):
        assert torch.equal(ours, tensors[name])
    fields, told = arguments(2, 8, 12)
    assert network(*fields, *told).shape == (2, 6, 8, 12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"head.out_layer.weight": None}, r"expected tensor 'head.out_layer.weight' of shape \(24, 32\), got none"),
        ({"log_scale": torch.zeros(6)}, "got 1 more, the first of which is 'log_scale'"),
        ({"skip_embedding.weight": torch.zeros(96, 8)}, r"shape \(96, 16\) of floating point, got \(96, 8\)"),
        ({"head.out_layer.weight": torch.zeros(24, 32).int()}, r"got \(24, 32\) of torch.int32"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, change, sentence):
    tensors = {k: v for k, v in (weights(**SMALL) | change).items() if v is not None}
    with pytest.raises(ValueError, match=sentence) as error:
        load_gensim(saved(tmp_path, tensors), GenSIMConfig(**SMALL))
    assert "weights of another architecture" in str(error.value)


def test_file_that_holds_no_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_gensim(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("weights")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        load_gensim(tmp_path / "text")


@torch.no_grad()
def test_weights_of_keys_matter_only_where_keys_have_a_projection(tmp_path):
    tensors = weights(**SMALL)
    path, fields, told = saved(tmp_path, tensors), *arguments(1, 8, 8)
    other = {k: v.clone() for k, v in tensors.items()}
    for name in other:
        if name.endswith("qkv_layer.weight"):
            other[name][32:64] += 1.0
    (tmp_path / "other").mkdir()
    changed = saved(tmp_path / "other", other)
    for keys_from_values in (True, False):
        config = GenSIMConfig(**SMALL, keys_from_values=keys_from_values)
        first, second = (load_gensim(p, config)(*fields, *told) for p in (path, changed))
        assert torch.equal(first, second) == keys_from_values


@torch.no_grad()
def test_tile_of_the_domain_is_a_window_with_its_halo_and_borders_repeat_the_last_cell(tmp_path):
    network = load_gensim(saved(tmp_path, weights(**SMALL)), GenSIMConfig(**SMALL))
    fields, told = arguments(2, 24, 32)
    whole = evaluate_on_tiles(network, fields, told, tile=(8, 16), halo=(2, 4))
    rows, columns = torch.arange(6, 18), torch.arange(12, 36).clamp(max=31)  # second row and column of tiles
    window = [field[:, :, rows][..., columns] for field in fields]
    torch.testing.assert_close(
        whole[..., 8:16, 16:32], network(*window, *told)[..., 2:-2, 4:-4], rtol=0, atol=1e-5
    )  # to rounding: batches of another size


@torch.no_grad()
def test_tiles_do_not_depend_on_the_batch_and_mixing_members_matters_where_they_differ(tmp_path):
    network = load_gensim(saved(tmp_path, weights(**SMALL)), GenSIMConfig(**SMALL))
    fields, told = arguments(2, 16, 24)
    tiles = {"tile": (8, 8), "halo": (2, 2)}
    whole = evaluate_on_tiles(network, fields, told, **tiles)
    torch.testing.assert_close(evaluate_on_tiles(network, fields, told, **tiles, batch=5), whole, rtol=0, atol=1e-5)
    mixed = evaluate_on_tiles(network, fields, told, **tiles, members_mixed=True)
    assert (mixed - whole).abs().max() > 1e-2
    alike = tuple(value[:1].expand(2, -1) for value in told)
    own, published = (evaluate_on_tiles(network, fields, alike, **tiles, members_mixed=m) for m in (False, True))
    assert torch.equal(own, published)


def test_domain_that_tiles_do_not_cover_is_refused():
    with pytest.raises(ValueError, match="24 x 30 cells, expected multiples of the tile of 8 x 8"):
        evaluate_on_tiles(torch.nn.Identity(), *arguments(1, 24, 30), tile=(8, 8), halo=(2, 2))


def published_code() -> tuple[types.ModuleType, types.ModuleType]:
    """Imports network and wrapper of the published code, without what else its package imports."""
    folder = Path(os.environ.get("HALOCLINE_GENSIM", "")) / "gensim"
    if "HALOCLINE_GENSIM" not in os.environ or not (folder / "network.py").is_file():
        pytest.skip("HALOCLINE_GENSIM names no checkout of github.com/cerea-daml/gensim")
    if not importlib.util.find_spec("einops"):
        pytest.skip("the published code needs einops, which is not installed")
    package = types.ModuleType("gensim")
    package.__path__ = [str(folder)]
    sys.modules["gensim"] = package
    return importlib.import_module("gensim.network"), importlib.import_module("gensim.wrapper")


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "members", "nj", "ni"),
    [(SMALL, 3, 128, 192), ({"width": 512, "blocks": 8, "heads": 8, "hidden": 2, "embedding": 512}, 2, 64, 128)],
    ids=["small", "published"],
)
def test_outputs_are_those_of_the_published_code(tmp_path, size, members, nj, ni):
    theirs, wrapper = published_code()
    torch.manual_seed(0)
    published = theirs.Transformer(
        n_input=24, n_output=6, n_features=size["width"], n_blocks=size["blocks"], n_embedding=size["embedding"],
        n_features_head=size["width"] // size["heads"], n_heads=size["heads"], mult=size["hidden"],
        n_rope_features=size["width"] // size["heads"] // 2, lengthscale=10.0, patch_size=2,
    )  # fmt: skip
    for name, parameter in published.named_parameters():
        if "norm" in name:  # ones would not tell queries from keys
            parameter += 0.3 * torch.randn_like(parameter)
    network = load_gensim(saved(tmp_path, published.state_dict()), GenSIMConfig(**size))
    fields, told = arguments(members, nj, ni)
    names = ("mesh", "mask", "pseudo_time", "labels", "resolution")
    window = (*(field[..., :80, 24:88] for field in fields), *told)
    for ours, reference in (
        (network(*window), published(window[0], **dict(zip(names, window[1:], strict=True)))),
        (
            evaluate_on_tiles(network, fields, told, batch=2, members_mixed=True),
            wrapper.PatchedNetwork(published)(fields[0], **dict(zip(names, (*fields[1:], *told), strict=True))),
        ),
    ):
        assert reference.std() > 0.1
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)
