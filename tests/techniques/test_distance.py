import pytest
import torch

from oofline.techniques.distance import relative_distance


def test_distance_is_that_of_one_long_vector():
    torch.manual_seed(0)
    a = [torch.randn(3, 4), torch.randn(5)]
    b = [torch.randn(3, 4), torch.randn(5)]
    one, two = (torch.cat([t.double().flatten() for t in tensors]) for tensors in (a, b))
    expected = float((one - two).norm() / two.norm())
    assert float(relative_distance(a, b)) == pytest.approx(expected, rel=1e-6)
    mean_of_each = sum(float((x - y).norm() / y.norm()) for x, y in zip(a, b, strict=True)) / 2
    assert expected != pytest.approx(mean_of_each, rel=1e-2)


def test_equal_tensors_are_at_distance_zero_and_zeros_do_not_divide():
    a = [torch.ones(3)]
    assert float(relative_distance(a, a)) == 0
    assert float(relative_distance([torch.zeros(2)], [torch.zeros(2)])) == 0


def test_parameters_give_a_figure_without_a_graph():
    weight = torch.nn.Parameter(torch.ones(2))
    assert not relative_distance([weight], [torch.zeros(2)]).requires_grad
