import torch

from srpipe.gradients import gradient_map


def test_a_flat_image_has_the_root_of_the_floor_everywhere():
    assert torch.allclose(gradient_map(torch.full((1, 3, 4, 5), 0.7)), torch.tensor(1e-3))


def test_a_ramp_rises_by_twice_its_slope_inside_and_once_at_the_border():
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 3, 5) * 0.1
    wanted = torch.tensor([0.1, 0.2, 0.2, 0.2, 0.1])
    assert torch.allclose(gradient_map(ramp)[0, 0, 1], (wanted**2 + 1e-6).sqrt())


def test_a_single_bright_pixel_is_seen_by_its_four_neighbours_only():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 2] = 1
    wanted = torch.full((5, 5), 1e-3)
    for y, x in ((1, 2), (3, 2), (2, 1), (2, 3)):
        wanted[y, x] = (1 + 1e-6) ** 0.5
    assert torch.allclose(gradient_map(image)[0, 0], wanted)


def test_both_directions_count_as_the_sides_of_a_right_triangle():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    image = (0.03 * y + 0.04 * x).view(1, 1, 5, 5)  # 2 * (0.03, 0.04): a length of 0.1
    assert torch.allclose(gradient_map(image)[..., 2, 2], torch.tensor((0.01 + 1e-6) ** 0.5))


def test_zero_padding_paints_a_frame_and_replication_does_not():
    white = torch.ones(1, 1, 4, 4)
    framed = gradient_map(white, padding="zero")[0, 0]
    assert framed[0, 1] > 0.99
    assert framed[1, 1] < 2e-3
    assert gradient_map(white).max() < 2e-3


def test_the_map_is_full_precision_within_autocast_and_its_slope_is_finite_where_flat():
    image = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        edges = gradient_map(image)
    assert edges.dtype == torch.float32
    edges.sum().backward()
    assert torch.isfinite(image.grad).all()
