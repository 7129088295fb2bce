r"""GenSIM's published network, its weights, and its evaluation on tiles.

Written anew from the published architecture (arXiv 2508.14984), on the blocks of `halocline.flow.networks.blocks`;
with the published weights it returns what the published code does. Three things differ from our own networks:

- Pseudo-time runs from noise (0) to data (1), 1 minus our path time, and the result is the velocity in that direction:
  standardised increment minus noise.
- Positions are kilometres of a polar stereographic map, divided by 10 and by the resolution in kilometres.
- Keys come from the projection of the values: the third of the projections that keys were meant to come from is in the
  files and has no effect. The published weights were trained so. `GenSIMConfig.keys_from_values` tells which is meant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn
from torch.nn import functional

from halocline.flow.networks.blocks import Attention, Block, Trunk, normalise
from halocline.flow.networks.silu import SiLU, silu

__all__ = ["GenSIMConfig", "GenSIMNetwork", "evaluate_on_tiles", "load_gensim"]

LENGTH = 10.0  # of positions: kilometres over this and over the resolution in kilometres
FOURIER = {"time": (1, 0.15), "attitude": (3, 1.0), "resolution": (1, 1.5)}  # inputs and scale of random frequencies


@dataclass(frozen=True)
class GenSIMConfig:
    """Size of the network; the defaults are those of the published weights (28,121,088 parameters).

    Attributes:
        inputs: Channels: six of the noisy increment, then 18 that condition it.
        outputs: Channels of the velocity.
        width, blocks, heads, hidden, embedding: See `TransformerConfig`.
        patch: Cells along the side of a token.
        keys_from_values: True: keys are the normalised values, as in the published code, whose weights need it. False:
            keys have a projection of their own.
    """

    inputs: int = 24
    outputs: int = 6
    width: int = 512
    blocks: int = 8
    heads: int = 8
    hidden: int = 2
    embedding: int = 512
    patch: int = 2
    keys_from_values: bool = True

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "width", "blocks", "heads", "hidden", "embedding", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"GenSIMConfig.{name} is {getattr(self, name)}, expected at least 1.")
        if self.width % (4 * self.heads) or self.embedding % 2:
            raise ValueError(
                f"GenSIMConfig has width {self.width}, {self.heads} heads and embedding {self.embedding}, expected "
                "heads of a multiple of 4 features each and an even embedding."
            )


class RandomWaves(nn.Module):
    """Sines and cosines of random combinations of the inputs, of unit length: (sample, inputs) -> (sample, size)."""

    frequencies: Tensor

    def __init__(self, inputs: int, size: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(inputs, size // 2) / scale)

    def forward(self, x: Tensor) -> Tensor:
        phase = x @ self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=-1) / math.sqrt(self.frequencies.shape[1])


class ValueKeyAttention(Attention):
    """Attention whose keys are its values; the weights of keys are kept for the files, and never read."""

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        queries, _, values = self.project.weight.chunk(3)
        parts = functional.linear(x, torch.cat([queries, values])).unflatten(-1, self.split)
        return parts, parts[:, :, 1]


class GenSIMNetwork(nn.Module):
    """The published network: velocity of the standardised increment of sea ice on a window.

    Arguments:
        config: Size.
    """

    def __init__(self, config: GenSIMConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GenSIMConfig()
        size, area = config.embedding, config.patch**2
        self.embed = nn.ModuleDict({name: _embedder(inputs, size, s) for name, (inputs, s) in FOURIER.items()})
        self.enter = nn.Linear((config.inputs + 1) * area, config.width, bias=False)
        self.trunk = Trunk(self._block, config.blocks, config.width, size, balance=0.0)
        self.gate = nn.Linear(size, config.width, bias=False)
        self.leave = nn.Linear(config.width, config.outputs * area, bias=False)

    def _block(self) -> Block:
        config = self.config
        kind = ValueKeyAttention if config.keys_from_values else Attention
        waves = (2 * math.pi, 2 * math.pi * 10 ** (1 / 3))  # in units of the position
        attention = kind(config.width, config.heads, waves)
        return Block(attention, config.width, config.hidden * config.width, config.embedding)

    def forward(
        self, x: Tensor, mesh: Tensor, mask: Tensor, pseudo_time: Tensor, attitude: Tensor, resolution: Tensor
    ) -> Tensor:
        """Evaluates the network on a batch of windows.

        Arguments:
            x: Noisy increment and conditions, standardised, shape (sample, inputs, j, i).
            mesh: Position on the map, along its x and its y axis, km, shape (sample, 2, j, i).
            mask: 1 on water, 0 on land, shape (sample, 1, j, i).
            pseudo_time: 0 for noise, 1 for data, shape (sample, 1).
            attitude: Which flips and rotation the window has gone through, 0 or 1, shape (sample, 3); 0 in forecasts.
            resolution: Width of a cell, km, shape (sample, 1).

        Returns:
            Velocity, shape (sample, outputs, j, i), zero on land.

        Collective: no.
        """
        patch = self.config.patch
        told = {"time": pseudo_time, "attitude": attitude, "resolution": resolution.log()}
        embedding = silu(torch.stack([self.embed[name](value) for name, value in told.items()]).sum(dim=0))
        # A channel of ones, before land is masked: a bias for water only.
        water = functional.pad(x, (0, 0, 0, 0, 0, 1), value=1.0) * mask
        where, wet = functional.avg_pool2d(mesh, patch), functional.max_pool2d(mask, patch)
        where = where.flatten(2).transpose(1, 2) / LENGTH / resolution.unsqueeze(1)
        tokens = self.enter(functional.pixel_unshuffle(water, patch).flatten(2).transpose(1, 2)).float()
        tokens = self.trunk(tokens, where, wet.flatten(2).transpose(1, 2), embedding)
        tokens = self.leave(functional.relu(normalise(tokens) * (1 + self.gate(embedding)).unsqueeze(1)))
        return functional.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, wet.shape[-2:]), patch) * mask


def _embedder(inputs: int, size: int, scale: float) -> nn.Sequential:
    return nn.Sequential(RandomWaves(inputs, size, scale), nn.Linear(size, size), SiLU(), nn.Linear(size, size))


def evaluate_on_tiles(
    network: nn.Module,
    fields: tuple[Tensor, Tensor, Tensor],
    told: tuple[Tensor, Tensor, Tensor],
    tile: tuple[int, int] = (64, 64),
    halo: tuple[int, int] = (8, 8),
    batch: int = 0,
    members_mixed: bool = False,
) -> Tensor:
    """Evaluates GenSIM's network on a whole domain as the published code does, serially.

    The domain is continued by its outermost cells, positions and land as well, cut into tiles with their halos, and put
    together again from the interiors.

    Arguments:
        network: `GenSIMNetwork`.
        fields: `x`, `mesh` and `mask` of its forward, on the domain instead of a window, member instead of sample.
        told: `pseudo_time`, `attitude` and `resolution`, shape (member, number).
        tile, halo: Cells along j and i.
        batch: Windows in one evaluation; 0: all, as the published code has it.
        members_mixed: True: what is told goes to windows as in the published code, which lists it by (tile, member)
            beside windows listed by (member, tile), so that members are told what belongs to others. It matters only
            where they are told different things, which forecasts never are. False: each is told its own.

    Returns:
        Velocity, shape (member, outputs, j, i).

    Raises:
        ValueError: Tiles do not cover the domain.

    Collective: no.
    """
    members, _, nj, ni = fields[0].shape
    if nj % tile[0] or ni % tile[1]:
        raise ValueError(
            f"The domain has {nj} x {ni} cells, expected multiples of the tile of {tile[0]} x {tile[1]}: cut the "
            "domain, or choose another tile."
        )
    rows, columns = nj // tile[0], ni // tile[1]
    windows = [_windows(field, tile, halo) for field in fields]
    index = torch.arange(len(windows[0]))
    member = index % members if members_mixed else index // (rows * columns)
    parts = [
        network(*(window[some] for window in windows), *(value[member[some]] for value in told))
        for some in index.split(batch or len(index))
    ]
    inner = torch.cat(parts)[..., halo[0] : halo[0] + tile[0], halo[1] : halo[1] + tile[1]]
    return inner.unflatten(0, (members, rows, columns)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _windows(field: Tensor, tile: tuple[int, int], halo: tuple[int, int]) -> Tensor:
    """Cuts haloed windows, (member, channel, j, i) -> (member * tile, channel, window j, window i)."""
    field = functional.pad(field, (halo[1], halo[1], halo[0], halo[0]), mode="replicate")
    for axis, (n, h) in zip((2, 3), zip(tile, halo, strict=True), strict=True):
        field = field.unfold(axis, n + 2 * h, n)
    return field.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


STARTS = {  # how names begin in our network, and in the published files
    "embed.time": "embedder.time_embedder",
    "embed.attitude": "embedder.augment_embedder",
    "embed.resolution": "embedder.resolution_embedder",
    "enter": "tokenizer.in_encoder",
    "trunk.inward": "in_blocks",
    "trunk.bottom": "bottleneck",
    "trunk.outward": "out_blocks",
    "trunk.blend": "skip_embedding",
    "gate": "head.gate_layer",
    "leave": "head.out_layer",
}
BLOCKS = {  # what names of blocks contain, likewise
    ".gate.": ".gate_layer.",
    "attention.project": "self_attention.qkv_layer",
    "attention.query_scale": "self_attention.q_norm.weight",
    "attention.key_scale": "self_attention.k_norm.weight",
    "attention.localisation.frequencies": "self_attention.rope_layer.freqs",
    "attention.out": "self_attention.out_layer",
    "perceptron.enter": "mlp_layer.in_layer",
    "perceptron.out": "mlp_layer.out_layer.0",
}


def published_name(name: str) -> str:
    """Returns what a parameter or buffer of our network is called in the published files."""
    start = next(start for start in STARTS if name.startswith(start))
    name = STARTS[start] + name.removeprefix(start)
    for ours, theirs in BLOCKS.items():
        name = name.replace(ours, theirs)
    return name


def load_gensim(path: Path | str, config: GenSIMConfig | None = None) -> GenSIMNetwork:
    """Reads published weights, `model_weights.safetensors` or those averaged over training, `model_weights_ema…`.

    Arguments:
        path: A safetensors file with the tensors of GenSIM's network under their published names.
        config: Size, unless published.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no safetensors file, or a tensor is missing, superfluous, of another shape or not of floating
            point: the weights are of another architecture.

    Collective: no.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"GenSIM weights {path}: no such file; give the path of a safetensors file.")
    with torch.device("meta"):
        network = GenSIMNetwork(config)
    expected = {published_name(name): name for name in network.state_dict()}
    try:
        with safetensors.safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"GenSIM weights {path}: expected a safetensors file, got something else ({error}): give the published one."
        ) from error
    shapes = {theirs: network.state_dict()[ours].shape for theirs, ours in expected.items()}
    if problem := _difference(shapes, found):
        raise ValueError(
            f"GenSIM weights {path}: {problem}: these are weights of another architecture, give those of the published "
            "one or the configuration that they belong to."
        )
    network.load_state_dict({ours: found[theirs].float() for theirs, ours in expected.items()}, assign=True)
    return network.eval()


def _difference(shapes: dict[str, torch.Size], found: dict[str, Tensor]) -> str:
    """Says what is wrong with the tensors found, the first thing only, or "" if nothing is."""
    missing, more = [n for n in shapes if n not in found], [n for n in found if n not in shapes]
    if missing:
        shape = tuple(shapes[missing[0]])
        return f"expected tensor '{missing[0]}' of shape {shape}, got none ({len(missing)} of {len(shapes)} missing)"
    if more:
        return f"expected {len(shapes)} tensors, got {len(more)} more, the first of which is '{more[0]}'"
    for name, shape in shapes.items():
        if found[name].shape != shape or not found[name].is_floating_point():
            got = f"{tuple(found[name].shape)} of {found[name].dtype}"
            return f"expected tensor '{name}' of shape {tuple(shape)} of floating point, got {got}"
    return ""
