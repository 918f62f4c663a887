"""The networks: what they see of a stack, what they cannot know, and that they run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from twobe3.models.nn.networks import (
    Block,
    PlanesNetwork,
    SliceBranch,
    Spacing,
    StackBranch,
    VolumeNetwork,
    init_smoothing,
    plan_blocks,
)
from twobe3.models.nn.resnet3d import compact_resnet


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def receptive_field(blocks: Sequence[Block]) -> tuple[int, ...]:
    """How many slices, rows and columns of its input one output position of the last block sees.

    Each block adds (kernel − 1) times the product of the strides before it (Araujo et al., Distill 2019, equation 2).
    """
    seen, apart = [1, 1, 1], [1, 1, 1]
    for block in blocks:
        for axis in range(3):
            seen[axis] += (block.kernel[axis] - 1) * apart[axis]
            apart[axis] *= block.stride[axis]
    return tuple(seen)


SPACINGS = [None, (4.0, 64.0, 64.0), (4.0, 4.0, 4.0), (8.0, 1.0, 1.0)]


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("slices", [1, 2, 8, 17, 64, 96, 256])
def test_one_output_of_a_stack_branch_sees_every_slice(slices: int, spacing_mm: Spacing | None) -> None:
    branch = StackBranch((4, slices, 3, 4), reduced=4, width=8, spacing_mm=spacing_mm)
    for parameter in branch.parameters():
        nn.init.constant_(parameter, 0.1)  # all paths open: the gradient is positive wherever the output looks
    maps = torch.ones(1, 4, slices, 3, 4, requires_grad=True)
    before_pooling = nn.Sequential(branch.reduction, *branch.blocks)(maps)
    middle = tuple(length // 2 for length in before_pooling.shape[2:])
    (gradient,) = torch.autograd.grad(before_pooling[(0, slice(None), *middle)].sum(), maps)
    assert (gradient.abs().amax(dim=(0, 1, 3, 4)) > 0).all()
    assert receptive_field(branch.plan)[0] >= slices


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_an_impulse_at_one_end_of_the_stack_reaches_the_last_block_from_the_other(spacing_mm: Spacing | None) -> None:
    branch = StackBranch((1, 96, 4, 4), reduced=4, width=4, spacing_mm=spacing_mm)
    for parameter in branch.parameters():
        nn.init.constant_(parameter, 0.1)
    network = nn.Sequential(branch.reduction, *branch.blocks)
    silence = torch.zeros(1, 1, 96, 4, 4)
    for end in (0, -1):
        impulse = silence.clone()
        impulse[:, :, end] = 1.0
        assert network(impulse).shape[2] == 1
        assert (network(impulse) > network(silence)).any()


def test_receptive_field_is_that_of_the_textbook() -> None:
    # Two 3×3×3 convolutions, the first of stride 2: 3 + 2 · 2. Without strides: 3 + 2. A kernel of 1 adds nothing.
    blocks = [Block((3, 3, 1), (2, 1, 1)), Block((3, 3, 1), (2, 1, 1))]
    assert receptive_field(blocks) == (7, 5, 1)
    assert receptive_field([]) == (1, 1, 1)


def test_the_receptive_field_is_what_a_gradient_finds() -> None:
    blocks = plan_blocks((12, 12, 12))[:2]
    layers = [nn.Conv3d(1, 1, block.kernel, block.stride) for block in blocks]
    for layer in layers:
        nn.init.ones_(layer.weight)
    maps = torch.zeros(1, 1, 12, 12, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(nn.Sequential(*layers)(maps)[0, 0, 0, 0, 0], maps)
    assert tuple(len(torch.unique(at)) for at in gradient[0, 0].nonzero().T) == receptive_field(blocks)


def test_by_spacing_the_finest_axes_are_convolved_and_halved_until_all_are_alike() -> None:
    blocks = plan_blocks((64, 8, 8), (4.0, 32.0, 32.0))
    along, even = Block((3, 1, 1), (2, 1, 1)), Block((3, 3, 3), (2, 2, 2))
    # 4, 8 and 16 mm along the stack against 32 mm across; then all are 32 mm apart.
    assert blocks == (along, along, along, even, even, even)


def test_by_spacing_a_fine_plane_of_thick_slices_shrinks_first() -> None:
    blocks = plan_blocks((4, 16, 16), (40.0, 10.0, 10.0))
    assert blocks[:2] == (Block((1, 3, 3), (1, 2, 2)),) * 2
    assert blocks[2:] == (Block((3, 3, 3), (2, 2, 2)),) * 2


@pytest.mark.parametrize("slices", [8, 64, 256])
def test_the_features_of_a_stack_depend_on_its_first_and_last_slice(slices: int) -> None:
    branch = StackBranch((4, slices, 4, 4), reduced=8, width=8)
    maps = torch.randn(1, 4, slices, 4, 4)
    for position in (0, -1):
        changed = maps.clone()
        changed[:, :, position] += 1.0
        assert (branch(changed) - branch(maps)).abs().max() > 1e-4


@pytest.mark.parametrize("stride", [(2, 1, 1), (2, 2, 2), (1, 2, 1)])
def test_a_block_starts_as_a_binomial_average_along_the_axes_that_it_halves(stride: tuple[int, int, int]) -> None:
    convolution = nn.Conv3d(2, 3, 3, stride, 1)
    init_smoothing(convolution, noise=0.0)
    maps = np.random.default_rng(0).random((2, 9, 5, 7))
    for channel, got in enumerate(convolution(torch.from_numpy(maps).float()).detach().numpy()):
        expected = maps[channel % 2]
        for axis in (axis for axis in range(3) if stride[axis] == 2):
            expected = ndimage.convolve1d(expected, [0.25, 0.5, 0.25], axis, mode="constant")
        np.testing.assert_allclose(got, expected[tuple(slice(None, None, by) for by in stride)], atol=1e-6)


def test_only_a_share_of_the_random_start_is_kept_other_outputs_the_average() -> None:
    convolution = nn.Conv3d(4, 4, 3, (2, 1, 1), 1)
    before = convolution.weight.detach().clone()
    init_smoothing(convolution, noise=0.3)
    others = ~torch.eye(4, dtype=torch.bool)  # from another channel there is nothing but chance
    torch.testing.assert_close(convolution.weight[others], 0.3 * before[others])


@pytest.mark.parametrize(("taps", "kept"), [(0, (0, 1, 2, 3, 4, 5)), (2, (0, 4, 5)), (9, (0, 1, 2, 3, 4, 5))])
def test_average_and_maximum_are_those_of_the_reduction_and_of_the_last_blocks(
    taps: int, kept: tuple[int, ...]
) -> None:
    branch = StackBranch((4, 32, 3, 4), reduced=5, width=6, taps=taps)
    maps = torch.randn(2, 4, 32, 3, 4)
    stages = list(itertools.accumulate(branch.blocks, lambda x, block: block(x), initial=branch.reduction(maps)))
    assert len(stages) == 6
    expected = [part for stage in kept for part in (stages[stage].mean((2, 3, 4)), stages[stage].amax((2, 3, 4)))]
    torch.testing.assert_close(branch(maps), torch.cat(expected, dim=1))
    assert branch.features == branch(maps).shape[1]


def test_slice_branch_does_not_know_the_order_of_slices_and_stack_branch_does() -> None:
    maps = torch.randn(2, 4, 16, 4, 4)
    order = torch.randperm(16)
    unordered = SliceBranch((4, 16, 4, 4), reduced=4, width=8)
    ordered = StackBranch((4, 16, 4, 4), reduced=4, width=8)
    torch.testing.assert_close(unordered(maps[:, :, order]), unordered(maps), rtol=1e-5, atol=1e-5)
    assert (ordered(maps[:, :, order]) - ordered(maps)).abs().max() > 1e-2


@pytest.mark.parametrize("branch", [StackBranch, SliceBranch])
@pytest.mark.parametrize("shape", [(3, 8, 1, 1), (5, 20, 2, 2), (4, 6, 16, 4)])
def test_a_branch_gives_as_many_features_as_it_says(
    branch: type[StackBranch] | type[SliceBranch], shape: tuple[int, int, int, int]
) -> None:
    made = branch(shape, reduced=4, width=8)
    assert made(torch.randn(2, *shape)).shape == (2, made.features)
    assert parameters(made) > 0


@pytest.mark.parametrize("branch", [StackBranch, SliceBranch])
def test_several_planes_give_one_risk_a_patient_whoever_else_is_in_the_batch(
    branch: type[StackBranch] | type[SliceBranch],
) -> None:
    shapes = {"axial": (3, 12, 2, 2), "coronal": (3, 8, 3, 2)}
    branches = {plane: branch(shape, reduced=4, width=8) for plane, shape in shapes.items()}
    network = PlanesNetwork(branches, dropout=0.5).eval()
    stacks = [torch.randn(4, *shape) for shape in shapes.values()]
    risk = network(stacks)
    assert risk.shape == (4,)
    torch.testing.assert_close(network([stack[2:3] for stack in stacks]), risk[2:3], rtol=1e-5, atol=1e-6)
    for number in range(2):
        changed = [stack + (i == number) for i, stack in enumerate(stacks)]
        assert (network(changed) - risk).abs().max() > 1e-4


def test_covariates_join_at_the_last_layer_past_the_dropout_and_add_what_their_weights_say() -> None:
    branch = StackBranch((3, 8, 2, 2), reduced=4, width=4)
    network = PlanesNetwork({"axial": branch}, dropout=0.9, covariates=2)
    stack, covariates = torch.randn(5, 3, 8, 2, 2), torch.randn(5, 2)
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data[:, :-2] = 0.0
    expected = covariates @ last.weight[0, -2:] + last.bias
    torch.testing.assert_close(network.train()([stack, covariates]), expected)


def test_several_outputs_keep_their_axis() -> None:
    branch = StackBranch((3, 8, 2, 2), reduced=4, width=4)
    assert PlanesNetwork({"axial": branch}, dropout=0.0, outputs=4)([torch.randn(5, 3, 8, 2, 2)]).shape == (5, 4)


@pytest.mark.parametrize("depth", [10, 18])
def test_volume_network_gives_one_risk_a_patient_and_trains_every_parameter(depth: int) -> None:
    network = VolumeNetwork((5.0, 25.0), compact_resnet(2, depth=depth, width=4), 32, dropout=0.0)
    volumes = 5.0 * torch.rand(3, 1, 16, 12, 16)
    risk = network([volumes])
    risk.square().sum().backward()
    assert risk.shape == (3,)
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert parameters(network) > 0


def test_volume_network_sees_suv_through_its_windows() -> None:
    network = VolumeNetwork((5.0,), compact_resnet(1, depth=10, width=4), 32, dropout=0.0).eval()
    volume = 4.0 * torch.rand(1, 1, 16, 16, 16)
    hot = volume.clone()
    hot[:, :, 4:8] = 6.0
    hotter = volume.clone()
    hotter[:, :, 4:8] = 60.0
    assert (network([hot]) != network([volume])).all()
    assert (network([hot]) == network([hotter])).all()  # both beyond the window
