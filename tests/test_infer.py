"""Tiles give what the whole image gives, and what goes wrong is mended or said in one line."""

import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from srpipe import infer
from srpipe.device import _Live
from srpipe.errors import Cancelled, ConfigError, DeviceError, PixelError
from srpipe.infer import Upscaler
from srpipe.models.pooling import ChannelGate, GroupNorm, held, pools, whole
from srpipe.tiling import Tiles, smallest


class Stack(nn.Module):
    """Convolutions that see ``depth + 1`` pixels far, and a float32 base and tail."""

    float32: tuple[str, ...] | None = ("tail",)

    def __init__(self, *, depth=3, scale=2, width=6):
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.body = nn.ModuleList(
            nn.Conv2d(3 if i == 0 else width, width, 3, padding=1) for i in range(depth - 1)
        )
        self.grow = nn.Conv2d(width if depth > 1 else 3, 3 * scale**2, 3, padding=1)
        self.tail = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        y = x.to(self.grow.weight.dtype)
        for layer in self.body:
            y = F.leaky_relu(layer(y), 0.2)
        y = F.pixel_shuffle(self.grow(y), self.scale)
        base = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return base + self.tail(y.to(self.tail.weight.dtype))


class Coarse(nn.Module):
    """Works on squares of 4 x 4 pixels and their neighbours: sees 7 far, from starts at 4 n."""

    def __init__(self, scale=2):
        super().__init__()
        torch.manual_seed(1)
        self.scale = scale
        self.squares = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        y = self.squares(F.avg_pool2d(padded, 4))
        y = F.interpolate(y, scale_factor=4, mode="nearest")[..., :height, :width]
        return F.interpolate(x + y, scale_factor=self.scale, mode="nearest")


class Smooth(nn.Module):
    """Looks 12 pixels far, ever less the farther: an effective radius is shorter than that."""

    def __init__(self):
        super().__init__()
        ramp = 0.6 ** torch.arange(-12, 13).abs()
        self.kernel = nn.Parameter((ramp / ramp.sum()).repeat(3, 1, 1, 1))

    def forward(self, x):
        y = F.conv2d(x, self.kernel, padding=(0, 12), groups=3)
        y = F.conv2d(y, self.kernel.mT, padding=(12, 0), groups=3)
        return F.interpolate(y, scale_factor=2, mode="nearest")


class Script:
    """What happens at each call of a network; shared by its copies."""

    def __init__(self, act):
        self.act, self.calls, self.shapes, self.begun = act, 0, [], False

    def __deepcopy__(self, memo):
        return self

    def __call__(self, x, network):
        if not self.begun:
            return None  # asked for its cost
        self.calls += 1
        self.shapes.append(tuple(x.shape))
        return self.act(self.calls, x, network)


class Scripted(Stack):
    """A stack to which something happens."""

    def __init__(self, act, **options):
        super().__init__(**options)
        self.script = Script(act)

    def forward(self, x):
        instead = self.script(x, self)
        return super().forward(x) if instead is None else instead


def upscaler(network, **options):
    choices = {"scale": 2, "halo": 4, "exact": True, "device": "cpu", "precision": "fp32"}
    made = Upscaler(network, **(choices | options))
    if isinstance(network, Scripted):
        assert made.cost.bytes_per_pixel > 0
        network.script.begun = True
    return made


def picture(height, width, count=1):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(count, 3, height, width, generator=generator)


def room_for(monkeypatch, made, images, side):
    """Let the device have as much memory as tiles of this side take."""
    pixels = images.shape[0] * images.shape[2] * images.shape[3]
    output = pixels * 12 * made.scale**2
    free = 2 * (output + made.cost.bytes_per_pixel * side**2) + 2
    monkeypatch.setattr(infer, "free_bytes", lambda device: int(free))


SIDES = st.sampled_from([1, 2, 3, 5, 7, 13, 23, 24, 25, 31, 47, 48, 49, 53, 71, 72, 73])
STACKS = {
    (depth, scale): Stack(depth=depth, scale=scale) for depth in (1, 3) for scale in range(1, 9)
}


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.sampled_from(sorted(STACKS)), st.integers(0, 3))
def test_tiles_give_what_the_whole_image_gives(height, width, which, more):
    depth, scale = which
    images = picture(height, width, 2)
    made = upscaler(STACKS[which], scale=scale, halo=depth + 1 + more, tile=24)
    with torch.no_grad():
        whole = STACKS[which](images)
    tiled = made(images)
    assert tiled.shape == (2, 3, height * scale, width * scale)
    assert tiled.dtype == torch.float32
    assert (tiled.double() - whole.double()).abs().max() <= 1e-5


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES, st.sampled_from([27, 28, 29, 30]))
def test_tiles_that_start_aligned_give_what_the_whole_image_gives(height, width, tile):
    network, images = Coarse(), picture(height, width)
    made = upscaler(network, halo=7, alignment=4, tile=tile)
    with torch.no_grad():
        whole = network(images)
    assert (made(images).double() - whole.double()).abs().max() <= 1e-5


def test_the_alignment_matters_for_a_network_that_strides():
    network, images = Coarse(), picture(73, 61)
    with torch.no_grad():
        whole = network(images)
    assert (upscaler(network, halo=7, alignment=1, tile=29)(images) - whole).abs().max() > 1e-2


# on squares of 4 the seams lie so that a halo of 3 is still enough
@pytest.mark.parametrize(
    ("network", "halo", "alignment", "short"),
    [(Stack(depth=3), 4, 1, 3), (Coarse(), 7, 4, 2), (Smooth(), 12, 1, 11)],
)
def test_the_toys_look_as_far_as_their_halo_and_a_shorter_one_is_noticed(
    network, halo, alignment, short
):
    side = 2 * halo + 9
    reach = 0
    for middle in range(halo + 2, halo + 6):  # all places within a square of 4
        x = picture(side, side).requires_grad_()
        network(x)[..., 2 * middle : 2 * middle + 2, 2 * middle : 2 * middle + 2].sum().backward()
        seen = x.grad[0].abs().sum(0).nonzero() - middle
        reach = max(reach, int(seen.abs().max()))
    assert reach == halo
    images = picture(8, 72)
    with torch.no_grad():
        whole = network(images)

    def error(halo):
        tile = smallest(8, 72, Tiles(size=1, halo=halo, alignment=alignment))
        made = upscaler(network, halo=halo, alignment=alignment, tile=tile)
        return float((made(images) - whole).abs().max())

    assert error(halo) <= 1e-5
    assert error(short) > 1e-5


def test_mixing_is_much_closer_to_the_whole_image_than_cutting_at_an_effective_radius():
    network, images = Smooth(), picture(120, 120)
    with torch.no_grad():
        whole = network(images)

    def error(blend):
        made = upscaler(network, halo=6, exact=False, blend=blend, tile=48)
        return float((made(images) - whole).abs().max())

    assert upscaler(network, exact=False).blend == "hann"
    assert upscaler(network, exact=True).blend == "crop"
    assert error("hann") < 0.35 * error("crop")


def test_mixing_changes_nothing_where_the_halo_is_whole():
    images = picture(90, 70)
    made = upscaler(Stack(depth=3), blend="hann", tile=33)
    with torch.no_grad():
        whole = Stack(depth=3)(images)
    assert (made(images) - whole).abs().max() <= 1e-5


def test_tiles_have_one_shape_and_the_caller_hears_of_each():
    network, told = Scripted(lambda *_: None), []
    made = upscaler(network, tile=24)
    images = picture(50, 61)
    before = images.clone()
    made(images, on_tile=lambda done, total: told.append((done, total)))
    assert len(set(network.script.shapes)) == 1
    assert told == [(i + 1, network.script.calls) for i in range(network.script.calls)]
    assert made.plan(50, 61)[0].size == 24
    assert len(made.plan(50, 61)[1]) == network.script.calls
    assert torch.equal(images, before)


def test_an_image_that_fits_is_not_cut(monkeypatch):
    network, images = Scripted(lambda *_: None), picture(40, 50)
    made = upscaler(network)
    made(images)
    assert network.script.shapes == [(1, 3, 40, 50)]


@pytest.mark.parametrize("side", [20, 33])
def test_the_tile_is_the_largest_that_half_the_free_memory_holds(monkeypatch, side):
    network, images = Scripted(lambda *_: None), picture(100, 100)
    made = upscaler(network)
    room_for(monkeypatch, made, images, side)
    assert made.plan(100, 100)[0].size == side
    made(images)
    assert all(height * width <= side**2 for _, _, height, width in network.script.shapes)


@pytest.mark.parametrize("k", range(1, 10))
def test_memory_that_runs_out_at_any_tile_changes_nothing(monkeypatch, k):
    def act(call, x, network):
        if call == k:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    network, images = Scripted(act), picture(40, 40)
    made = upscaler(network)
    room_for(monkeypatch, made, images, 20)
    assert len(made.plan(40, 40)[1]) == 9
    with torch.no_grad():
        whole = Stack()(images)
    assert (made(images) - whole).abs().max() <= 1e-5
    assert made.shrunk == 1
    # and is not tried again with the next image
    calls = network.script.calls
    made(images)
    assert made.shrunk == 1
    assert max(h * w for _, _, h, w in network.script.shapes[calls:]) <= 10 * 10


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_is_known_by_all_its_names(error):
    def act(call, x, network):
        if call == 1:
            raise error

    made = upscaler(Scripted(act))
    made(picture(30, 30))
    assert made.shrunk == 1


@pytest.mark.parametrize("most", [9 * 9, 16 * 16, 20 * 50])
def test_tiles_shrink_until_they_fit(most):
    def act(call, x, network):
        if x.shape[2] * x.shape[3] > most:
            raise MemoryError

    images = picture(20, 70)
    made = upscaler(Scripted(act))
    with torch.no_grad():
        whole = Stack()(images)
    assert (made(images) - whole).abs().max() <= 1e-5
    assert 1 <= made.shrunk <= 8


def test_memory_that_never_suffices_ends_after_few_tries():
    def act(call, x, network):
        raise RuntimeError("CUDA error: out of memory")

    network = Scripted(act)
    made = upscaler(network)
    words = r"ran out even with tiles of 9 px \(CUDA error: out of memory\); free memory"
    with pytest.raises(DeviceError, match=words) as caught:
        made(picture(500, 60))
    assert network.script.calls <= 9
    assert "\n" not in str(caught.value)


def test_a_tile_that_the_user_fixed_is_never_changed():
    def act(call, x, network):
        if call == 3:
            raise MemoryError

    network = Scripted(act)
    with pytest.raises(DeviceError, match="the fixed tile of 24 px"):
        upscaler(network, tile=24)(picture(60, 60))
    assert network.script.calls == 3


def test_an_error_that_is_not_about_memory_is_not_retried():
    def act(call, x, network):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    network = Scripted(act)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        upscaler(network)(picture(60, 60))
    assert network.script.calls == 1


def test_an_image_for_which_there_is_no_memory_at_all_is_refused(monkeypatch):
    monkeypatch.setattr(infer, "free_bytes", lambda device: 10_000)
    network = Scripted(lambda *_: None)
    with pytest.raises(DeviceError, match=r"need .* MiB of memory and cpu has 0 MiB free"):
        upscaler(network)(picture(100, 100))
    assert network.script.calls == 0


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_tiles_that_are_not_finite_are_computed_again_in_float32(k, value, whole):
    def act(call, x, network):
        if call == k and network.grow.weight.dtype != torch.float32:
            y = Stack.forward(network, x)
            y[0, 1, 2, 3] = value
            return y
        return None

    network, images = Scripted(act), picture(40, 40)
    if whole:
        network.float32 = None  # so that all of it is lowered, and its input and output converted
    made = upscaler(network, precision="bf16", tile=20)
    with torch.no_grad():
        truth = Stack()(images)
    result = made(images)
    assert made.recomputed == 1
    assert result.isfinite().all()
    assert (result - truth).abs().max() < (0.05 if whole else 1 / 255)


def test_values_that_are_not_finite_in_float32_either_are_an_error():
    def act(call, x, network):
        return torch.full((1, 3, 2 * x.shape[2], 2 * x.shape[3]), float("nan"))

    for precision in ("fp32", "bf16"):
        with pytest.raises(DeviceError, match="not finite on cpu, in fp32"):
            upscaler(Scripted(act), precision=precision)(picture(8, 8))


def test_an_image_that_is_not_finite_is_named_as_the_cause():
    images = picture(8, 8)
    images[0, 0, 4, 4] = float("nan")
    with pytest.raises(PixelError, match="the image holds values that are not finite"):
        upscaler(Stack())(images)


def test_recomputing_keeps_what_the_network_came_to_hold_since():
    def act(call, x, network):
        if network.grow.weight.dtype != torch.float32:
            return torch.full((1, 3, 2 * x.shape[2], 2 * x.shape[3]), float("nan"))
        return torch.full((1, 3, 2 * x.shape[2], 2 * x.shape[3]), network.held)

    network = Scripted(act)
    network.held = 0.0
    made = upscaler(network, precision="bf16")
    made.network.held = 0.25
    assert (made(picture(8, 8)) == 0.25).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_within_one_level_of_8_bits(precision):
    images, network = picture(48, 48), Stack(depth=4)
    with torch.no_grad():
        truth = network(images)
    made = upscaler(network, halo=5, precision=precision, tile=30)
    assert made.network.grow.weight.dtype != torch.float32
    assert made.network.tail.weight.dtype == torch.float32
    assert network.grow.weight.dtype == torch.float32
    result = made(images)
    assert result.dtype == torch.float32
    assert 0 < (result - truth).abs().max() <= 1 / 255


def test_calls_at_the_same_time_do_not_mix():
    made, results = upscaler(Stack(), tile=20), {}
    images = {side: picture(side, side + 3) for side in (30, 41, 50, 57)}

    def work(side):
        results[side] = made(images[side])

    threads = [threading.Thread(target=work, args=(side,)) for side in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for side, image in images.items():
        assert torch.equal(results[side], made(image))


def test_cancelling_stops_before_the_next_tile():
    network = Scripted(lambda *_: None)
    made = upscaler(network, tile=20)
    with pytest.raises(Cancelled, match="before tile 4 of"):
        made(picture(60, 60), cancelled=lambda: network.script.calls == 3)
    assert network.script.calls == 3


def test_the_result_may_be_changed_in_place():
    for tile in (20, "auto"):
        upscaler(Stack(), tile=tile)(picture(40, 40)).clamp_(0, 1)


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(3, 8, 8),
        torch.rand(1, 4, 8, 8),
        torch.rand(1, 3, 0, 8),
        torch.rand(1, 3, 8, 8).double(),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        None,
    ],
)
def test_other_shapes_and_types_are_refused(images):
    with pytest.raises(PixelError, match=r"float32|\(N, 3, H, W\)"):
        upscaler(Stack())(images)


def test_a_network_of_another_scale_is_noticed():
    with pytest.raises(ConfigError, match="at scale 3 it should be"):
        upscaler(Stack(scale=2), scale=3)(picture(8, 8))


def test_a_tile_without_room_for_the_halo_names_the_smallest_that_has():
    fits = smallest(100, 100, Tiles(size=1, halo=4))
    with pytest.raises(ConfigError, match=f"use a tile of {fits} px or more"):
        upscaler(Stack(), tile=fits - 1)(picture(100, 100))
    upscaler(Stack(), tile=fits - 1)(picture(fits - 1, fits - 1))  # needs no cut


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "gpu"}, ConfigError, "no device is called 'gpu'"),
        ({"device": "cuda:9"}, DeviceError, "no device cuda:9 here; there is .*cpu"),
        ({"precision": "int8"}, ConfigError, "use auto, fp32, bf16, fp16"),
        ({"blend": "mean"}, ConfigError, "use auto, crop, hann"),
        ({"tile": 0}, ConfigError, "a tile of 0 makes no sense"),
        ({"tile": "big"}, ConfigError, "a tile of 'big' makes no sense"),
    ],
)
def test_names_that_mean_nothing_are_refused_in_one_line(options, error, words):
    with pytest.raises(error, match=words) as caught:
        upscaler(Stack(), **options)
    assert "\n" not in str(caught.value)


def test_what_was_chosen_can_be_told():
    told = upscaler(Stack(), tile=64).describe()
    assert told["device"] == "cpu"
    assert told["precision"] == "fp32"
    assert told["tile"] == 64
    assert told["blend"] == "crop"
    assert told["halo"] == 4
    assert told["bytes_per_pixel"] > 12


class Averaging(nn.Module):
    """Norms and weighs channels by what the whole image is like; else it sees 3 pixels far."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), GroupNorm(2, 8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, padding=1), ChannelGate(8, 2, maximum=True), nn.ReLU()),
            *(nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)),
        )

    def forward(self, x):
        return self.body(x.to(self.body[0].weight.dtype)).float()


def uneven(height, width):
    """A picture that grows brighter to the right, so that no tile is like another."""
    return picture(height, width) * torch.linspace(0.1, 1, width)


@pytest.mark.parametrize("most", [16 * 16, 20 * 20])
def test_statistics_are_gathered_from_windows_that_fit(monkeypatch, most):
    """Memory that ran out there alone, as for a shot of a video, was not tried again."""

    images, forward = picture(64, 64), Averaging.forward
    made = upscaler(Averaging(), halo=3, blend="crop")
    room_for(monkeypatch, made, images, 40)

    def full(self, x):
        if len(x) * x.shape[2] * x.shape[3] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x)

    monkeypatch.setattr(Averaging, "forward", full)
    assert made.statistics(images) is not None
    assert 1 <= made.shrunk <= 8


@pytest.mark.parametrize(("tile", "blend"), [(20, "crop"), (24, "hann"), (17, "crop")])
def test_tiles_share_the_statistics_of_the_whole_image(tile, blend):
    x = uneven(45, 67)
    made = upscaler(Averaging(), halo=3, tile=tile, blend=blend)
    wanted = upscaler(Averaging(), halo=3)(x)
    with torch.no_grad(), held(made.network, whole(made.network, x)):
        exact = made._joined(x, made.plan(45, 67)[1], 1, None, None)
        alone = torch.cat([made.network(part) for part in x.split(17, 3)], 3)
    assert (exact - wanted).abs().max() < 1e-5
    found = (made(x) - wanted).abs().max()
    assert found < 2e-4
    assert (alone - wanted).abs().max() > 20 * found


def test_statistics_can_be_taken_once_and_used_for_an_image_like_it():
    x = uneven(45, 67)
    made = upscaler(Averaging(), halo=3, tile=20)
    statistics = made.statistics(x)
    assert torch.equal(made(x, statistics=statistics), made(x))
    darker = made(x / 2, statistics=statistics)
    assert not torch.allclose(darker, made(x / 2), atol=1e-3)
    part = upscaler(Averaging(), halo=3)(x[..., 40:], statistics=statistics)
    assert torch.allclose(part[..., 6:], made(x)[..., 86:], atol=1e-5)


def test_no_statistics_are_taken_where_an_image_fits_or_the_network_is_local():
    assert upscaler(Averaging(), halo=3).statistics(uneven(45, 67)) is None
    assert upscaler(Stack(), halo=4, tile=20).statistics(uneven(45, 67)) is None


def test_images_of_a_batch_have_their_own_statistics_and_the_caller_hears_of_all_tiles():
    x = torch.cat((uneven(40, 40), uneven(40, 40).flip(3) / 3))
    made, told = upscaler(Averaging(), halo=3, tile=28), []
    found = made(x, on_tile=lambda *now: told.append(now))
    assert torch.equal(found, torch.cat([made(image) for image in x.split(1)]))
    assert told == [(i + 1, 8) for i in range(8)]


def test_the_statistics_leave_nothing_behind_when_the_work_is_cancelled():
    made = upscaler(Averaging(), halo=3, tile=20)
    with pytest.raises(Cancelled, match="statistics"):
        made(uneven(45, 67), cancelled=lambda: True)
    assert all(p.held is None and p.record is None for p in pools(made.network).values())


def test_calls_that_hold_statistics_do_not_mix_either():
    made = upscaler(Averaging(), halo=3, tile=28)
    inputs = [uneven(40, 40) / n for n in range(1, 4)]
    wanted, found = [made(x) for x in inputs], {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: made(inputs[n])})) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[n], wanted[n]) for n in range(3))


class Lopsided(nn.Module):
    """Looks to one side only, and down more than up: another picture for each way to lay it."""

    def __init__(self, scale=2):
        super().__init__()
        self.scale = scale
        kernel = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.4, 0.3], [0.0, 0.2, 0.0]])
        self.kernel = nn.Parameter(kernel.expand(3, 1, 3, 3).clone())

    def forward(self, x):
        y = F.conv2d(x, self.kernel, padding=1, groups=3)
        return F.interpolate(y, scale_factor=self.scale, mode="nearest")


def eight_ways(network, images):
    """What a network makes of flips and rotations, laid back again by other means than ours."""
    results = []
    with torch.no_grad():
        for rotations in range(4):
            for mirrored in (False, True):
                x = images.rot90(rotations, (2, 3))
                y = network(x.flip(3) if mirrored else x)
                results.append((y.flip(3) if mirrored else y).rot90(-rotations, (2, 3)))
    return torch.stack(results).double()


@pytest.mark.parametrize("blend", ["crop", "hann"])
@pytest.mark.parametrize("tile", ["auto", 27])
@pytest.mark.parametrize(("network", "alignment"), [(Lopsided(), 1), (Coarse(), 4)])
def test_an_ensemble_is_the_mean_over_eight_ways(network, alignment, tile, blend):
    images = picture(31, 46, 2)
    options = {"halo": 7, "alignment": alignment, "tile": tile, "blend": blend}
    ways = eight_ways(network, images)
    assert (ways[0] - ways.mean(0)).abs().max() > 1e-2
    mean = upscaler(network, ensemble=True, **options)(images)
    assert (mean.double() - ways.mean(0)).abs().max() < 1e-5
    mean, spread = upscaler(network, **options).mean_and_spread(images)
    assert (mean.double() - ways.mean(0)).abs().max() < 1e-5
    assert (spread.double() - ways.std(0, correction=0)).abs().max() < 1e-5


def test_an_ensemble_of_a_network_that_sees_all_ways_alike_is_what_it_makes_of_one():
    images = picture(20, 33)
    network = nn.Upsample(scale_factor=2)
    mean, spread = upscaler(network, halo=0, tile=12).mean_and_spread(images)
    assert torch.equal(mean, upscaler(network, halo=0)(images))
    assert not spread.any()


def test_an_ensemble_tells_of_the_tiles_of_all_eight_ways():
    told = []
    made = upscaler(Lopsided(), halo=1, tile=20, ensemble=True)
    made(picture(31, 46), on_tile=lambda done, total: told.append((done, total)))
    total = 8 * len(made.plan(31, 46)[1])
    assert told == [(i + 1, total) for i in range(total)]


def test_an_ensemble_can_be_cancelled_in_each_of_its_ways():
    network = Scripted(lambda *_: None)
    made = upscaler(network, ensemble=True)
    with pytest.raises(Cancelled):
        made(picture(10, 20), cancelled=lambda: network.script.calls == 5)
    assert network.script.calls == 5


def test_memory_that_runs_out_amid_an_ensemble_changes_nothing(monkeypatch):
    def act(call, x, network):
        if call == 6:
            raise MemoryError

    images = picture(30, 44)
    made = upscaler(Scripted(act), ensemble=True)
    mean = made(images)
    assert made.shrunk == 1
    assert (mean.double() - eight_ways(Stack(), images).mean(0)).abs().max() < 1e-5


def test_an_ensemble_takes_the_memory_of_one_result_more():
    made = upscaler(nn.Upsample(scale_factor=2), halo=0, ensemble=True)
    images = picture(64, 64)
    size, plane = images.nbytes * 4, images.nbytes * 4 // 3
    live = _Live()
    with live:
        made(images)
    assert live.peak_bytes <= 2 * size + 2 * plane + images.nbytes


class Padded(Stack):
    """Brings all that is smaller to 40 px, as some networks want it."""

    smallest = 40

    def forward(self, x):
        height, width = x.shape[2:]
        whole = F.pad(x, (0, max(40 - width, 0), 0, max(40 - height, 0)))
        return super().forward(whole)[..., : height * self.scale, : width * self.scale]


def test_the_cost_is_measured_beyond_the_size_to_which_all_is_brought():
    plain, padded = upscaler(Stack()).cost, upscaler(Padded()).cost
    assert padded.bytes_per_pixel >= plain.bytes_per_pixel
    assert padded.numbers_per_pixel >= plain.numbers_per_pixel
