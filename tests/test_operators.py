"""A, Aᵀ, A⁺ and Π keep their identities for every kernel, scale, size and precision."""

import contextlib
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from sr_zoo import _bands
from sr_zoo.operators import Downsampler, IllConditionedKernel, full_products, make_kernel

radius = torch.arange(9, dtype=torch.float64) - 4
ROUND = torch.exp(-torch.sqrt(radius[:, None] ** 2 + radius[None] ** 2)).tolist()  # symmetric, not separable
i, j = torch.arange(6.0, dtype=torch.float64)[:, None], torch.arange(7.0, dtype=torch.float64)
# As measured: off centre, slanted, of no parity that suits all scales; neither separable nor symmetric.
SKEW = torch.exp(-((i - 2.3) ** 2 + (j - 3.4) ** 2 + (i - 2.3) * (j - 3.4)) / 1.2).tolist()
KERNELS = ["bicubic", "box", "gaussian", "round", "skew"]
SCALES = [2, 3, 4, 8]
SIZES = [(1, 1), (1, 5), (3, 7), (20, 33)]
LARGER = [(66, 70)]  # where separable kernels go by blocks
ACCURACY = {torch.float32: 1e-6, torch.float64: 1e-10}


def make(kernel: str, scale: int) -> Downsampler:
    named = {"gaussian": f"gaussian:{0.36 * scale}", "round": ROUND, "skew": SKEW}
    return Downsampler(named.get(kernel, kernel), scale)


def cases(test):
    test = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])(test)
    return pytest.mark.parametrize("scale", SCALES)(pytest.mark.parametrize("kernel", KERNELS)(test))


def largest(x: torch.Tensor) -> float:
    return float(x.detach().abs().max())


@cases
def test_identities(kernel, scale, dtype):
    operator, random = make(kernel, scale), torch.Generator().manual_seed(1)
    for height, width in SIZES + LARGER * (kernel in ("bicubic", "gaussian")):
        x = torch.rand(2, height, width, dtype=dtype, generator=random)
        y = torch.rand(2, height * scale, width * scale, dtype=dtype, generator=random)
        projected = operator.project(y, x)
        limit = ACCURACY[dtype] * max(1.0, largest(projected))
        assert largest(operator.A(operator.pinv(x)) - x) < limit, "A A⁺ = I"
        assert largest(operator.A(projected) - x) < limit, "A Π = x"
        assert largest(operator.project(projected, x) - projected) < limit, "Π Π = Π"
        assert largest(operator.project(y, operator.A(y)) - y) < limit, "Π(y, A y) = y"


@cases
def test_symmetry(kernel, scale, dtype):
    operator, random = make(kernel, scale), torch.Generator().manual_seed(2)
    for height, width in SIZES + LARGER * (kernel in ("bicubic", "gaussian")):
        x = torch.rand(height, width, dtype=dtype, generator=random)
        u, v = torch.rand(2, height * scale, width * scale, dtype=dtype, generator=random)
        size = float(u.norm() * v.norm())
        inner = float((operator.A(u) * x).sum() - (u * operator.adjoint(x)).sum())
        assert abs(inner) < ACCURACY[dtype] * float(u.norm() * x.norm()), "⟨A u, x⟩ = ⟨u, Aᵀ x⟩"
        inner = float((operator.pinv(operator.A(u)) * v).sum() - (u * operator.pinv(operator.A(v))).sum())
        assert abs(inner) < ACCURACY[dtype] * size, "A⁺A is symmetric: the projection is orthogonal, not oblique"


def imresize(picture: np.ndarray, scale: int) -> np.ndarray:
    """MATLAB's imresize(picture, 1/scale, 'bicubic') from its documentation, by explicit weights and indices."""

    def cubic(t):
        t = np.abs(t)
        return (1.5 * t**3 - 2.5 * t**2 + 1) * (t <= 1) + (-0.5 * t**3 + 2.5 * t**2 - 4 * t + 2) * ((t > 1) & (t <= 2))

    for axis in (0, 1):
        size = picture.shape[axis]
        out = -(-size // scale)
        width = 4.0 * scale
        u = np.arange(1, out + 1) * scale + 0.5 * (1 - scale)
        left = np.floor(u - width / 2)
        index = left[:, None] + np.arange(int(np.ceil(width)) + 2)
        weights = cubic((u[:, None] - index) / scale) / scale
        weights /= weights.sum(1, keepdims=True)
        table = np.concatenate([np.arange(size), np.arange(size)[::-1]])
        index = table[np.mod(index.astype(int) - 1, 2 * size)]
        picture = np.einsum("ok,ok...->o...", weights, np.moveaxis(picture, axis, 0)[index])
        picture = np.moveaxis(picture, 0, axis)
    return picture


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (13, 70)])
def test_bicubic_is_imresize(scale, size):
    picture = np.random.default_rng(0).random((size[0] * scale, size[1] * scale))
    expected = torch.from_numpy(imresize(picture, scale))
    assert largest(Downsampler("bicubic", scale).A(torch.from_numpy(picture)) - expected) < 1e-12
    assert largest(Downsampler("bicubic", scale).A(torch.from_numpy(picture).float()) - expected) < 1e-6


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pinv_is_moore_penrose(scale):
    """Against numpy's pseudo-inverse of A written out as a matrix."""
    for kernel in KERNELS:
        operator = make(kernel, scale)
        rows = torch.eye(36 * scale**2, dtype=torch.float64).reshape(-1, 4 * scale, 9 * scale)
        matrix = operator.A(rows).flatten(1).T
        x = torch.rand(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        assert largest(operator.pinv(x).flatten() - torch.linalg.pinv(matrix) @ x.flatten()) < 1e-10


@pytest.mark.parametrize("what", ["down", "adjoint", "pinv"])
def test_bands_equal_dense(what, monkeypatch):
    """The two ways of computing one axis are the same map."""
    operator = Downsampler("bicubic", 4)
    x = torch.rand(3, 4 * 75, 4 * 50, dtype=torch.float64) if what == "down" else torch.rand(3, 75, 50, dtype=torch.float64)
    run = operator.A if what == "down" else getattr(operator, what)
    blocks = run(x)
    monkeypatch.setattr(_bands, "DENSE", 1000)
    assert largest(run(x) - blocks) < 1e-14


def test_projection_in_place_leaves_its_input_alone():
    """Without gradients Π adds to a copy of its own; the result is the same as with them."""
    for kernel in ("bicubic", "skew"):
        operator, y, x = make(kernel, 2), torch.rand(1, 3, 140, 20), torch.rand(1, 3, 70, 10)
        before = y.clone()
        with torch.no_grad():
            projected = operator.project(y, x)
        assert torch.equal(y, before)
        assert largest(operator.project(y.requires_grad_(), x) - projected) < 1e-6


def test_gradients_are_the_adjoint():
    for kernel in ("bicubic", "skew"):
        operator = make(kernel, 2)
        x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
        y = torch.rand(6, 8, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(operator.project, (y, x))


def test_constant_stays_constant():
    for kernel in KERNELS:
        for scale in SCALES:
            operator = make(kernel, scale)
            assert largest(operator.A(torch.full((5 * scale, 9 * scale), 0.3, dtype=torch.float64)) - 0.3) < 1e-12


@pytest.mark.parametrize("rows, columns", [(4, 4), (4, 0), (0, -4)])
def test_a_kernel_far_off_centre_is_ill_conditioned_at_the_border(rows, columns):
    """Its spectrum alone, which knows no border, would pass."""
    lines = [torch.exp(-((torch.arange(20.0, dtype=torch.float64) - 9.5 - off) ** 2) / 4.5) for off in (rows, columns)]
    kernel = torch.outer(*lines)
    with pytest.raises(IllConditionedKernel, match=re.escape(f"lies {rows:+.1f} rows and {columns:+.1f} columns off")):
        Downsampler(kernel, 4)
    plane = _bands.PlaneFilter(kernel / kernel.sum(), 4, 0.0, False, 128)
    if rows == columns:  # where it is built all the same, no nonsense comes of it
        with pytest.raises(ValueError, match="border of a picture of 16×12"):
            plane.pinv(torch.rand(1, 12, 16), 1e-8)
    x = torch.rand(1, 12, 16, dtype=torch.float64)
    near = Downsampler(torch.outer(*(line.roll(-off + 1) for line, off in zip(lines, (rows, columns)))), 4)
    assert near.condition < 100 and (near.A(near.pinv(x)) - x).abs().max() < 1e-10


def test_ill_conditioned_kernel_says_so_and_takes_a_ridge():
    with pytest.raises(IllConditionedKernel, match=r"condition number of A Aᵀ is .*ridge"):
        Downsampler("gaussian:6", 2)
    operator = Downsampler("gaussian:6", 2, ridge=1e-3)
    assert not operator.exact and Downsampler().exact
    x = torch.rand(6, 7, dtype=torch.float64)
    rows = torch.eye(12 * 14, dtype=torch.float64).reshape(-1, 12, 14)
    matrix = operator.A(rows).flatten(1).T
    tikhonov = matrix.T @ torch.linalg.inv(matrix @ matrix.T + 1e-3 * torch.eye(42, dtype=torch.float64)) @ x.flatten()
    assert largest(operator.pinv(x).flatten() - tikhonov) < 1e-9


@pytest.mark.parametrize("scale, condition", [(2, 2.12), (3, 2.05), (4, 2.06), (8, 2.06)])
def test_condition_of_bicubic(scale, condition):
    """Per axis these were measured independently; in the plane they multiply."""
    assert Downsampler("bicubic", scale).condition == pytest.approx(condition**2, rel=5e-3)


def test_paper_gaussian():
    operator = Downsampler("gaussian:1.09:9", 4)
    assert make_kernel("gaussian:1.09:9", 4).shape == (10, 10)
    assert operator.condition == pytest.approx(1.15**2, rel=5e-3)


@pytest.mark.parametrize("around", [contextlib.nullcontext, full_products])
def test_works_in_float32_under_autocast_and_after_inference_mode(around):
    operator, x = Downsampler(), torch.rand(1, 3, 9, 9)
    with torch.inference_mode():
        operator.project(torch.rand(1, 3, 36, 36), x)
    with around(), torch.autocast("cpu", torch.bfloat16):
        y = torch.rand(1, 3, 36, 36, requires_grad=True)
        sr = operator.project(y, x)
    assert sr.dtype == torch.float32 and largest(operator.A(sr) - x) < 1e-6
    sr.square().sum().backward()
    assert torch.isfinite(y.grad).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("bicubic", 1), "scale"), (("bicubic", 2.0), "scale"), (("lanczos", 4), "kernel"), (("gaussian:x", 4), "kernel"),
        (("gaussian:-1", 4), "kernel"), (("gaussian", 4), "kernel"), (("gaussian:inf", 4), "kernel"),
        (("gaussian:1:1e12", 4), "kernel"), (([[1.0, float("nan")]], 4), "kernel"),
        (([1.0, 2.0], 4), "kernel"), (([[0.0]], 4), "kernel"), (("bicubic", 4, -1.0), "ridge"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Downsampler(*arguments)


def test_size_must_be_a_multiple():
    with pytest.raises(ValueError, match="10×9 is not a multiple of the scale 4"):
        Downsampler().A(torch.zeros(9, 10))


@pytest.mark.parametrize("kernel, scale", [("bicubic", 4), ("gaussian:3", 2), (ROUND, 3), (SKEW, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ridge_weighs_agreement_against_size(kernel, scale, dtype):
    """Its A⁺x is where the gradient of ‖A y − x‖² + ε‖y‖² is zero."""
    operator, random = Downsampler(kernel, scale, ridge=1e-2), torch.Generator().manual_seed(4)
    for size in ((1, 1), (3, 7), (70, 66)):
        x = torch.rand(2, *size, dtype=dtype, generator=random)
        y = operator.pinv(x)
        gradient = operator.adjoint(operator.A(y) - x) + operator.ridge * y
        assert largest(gradient) < ACCURACY[dtype] * largest(y) and largest(y) > 0.1


def interior(operator: Downsampler, halo: int) -> float:
    """How much Π of a crop with a halo differs, inside, from that of the whole picture; values in [0, 1]."""
    inside, scale, random = 12, operator.scale, torch.Generator().manual_seed(3)
    size = inside + 2 * halo + 40
    x = torch.rand(size, size + 3, generator=random)
    y = torch.rand(scale * size, scale * (size + 3), generator=random)
    first, last = 19, 19 + inside + 2 * halo
    rows = slice(scale * first, scale * last)
    piece = operator.project(y[rows, rows], x[first:last, first:last])
    kept = slice(scale * halo, scale * (halo + inside))
    return largest(piece[kept, kept] - operator.project(y, x)[rows, rows][kept, kept])


@pytest.mark.parametrize(
    "kernel, scale, ridge",
    [
        ("bicubic", 2, 0), ("bicubic", 3, 0), ("bicubic", 4, 0), ("bicubic", 8, 0), ("box", 3, 0), ("gaussian:1.2", 2, 0),
        ("gaussian:1.2", 4, 0), (SKEW, 2, 0), (SKEW, 4, 0), (ROUND, 4, 0), ("bicubic", 4, 1e-2), (SKEW, 3, 1e-2),
        ("gaussian:3", 2, 1e-3), ([[1.0]], 3, 0),
    ],
)  # fmt: skip
def test_pieces_that_overlap_by_the_radius_are_projected_as_the_whole(kernel, scale, ridge):
    operator = Downsampler(kernel, scale, ridge)
    assert interior(operator, operator.radius) < 1e-6


@pytest.mark.parametrize("kernel, ridge", [("bicubic", 0), ("gaussian:1.2", 0), ("bicubic", 1e-2), (SKEW, 0)])
def test_the_radius_is_not_far_larger_than_needed(kernel, ridge):
    operator = Downsampler(kernel, 2, ridge)
    assert interior(operator, operator.radius // 3) > 1e-6
    assert operator.radius < 40


def test_the_radius_is_found_where_the_inverse_is_longer_than_the_first_period():
    operator = Downsampler(ROUND, 2, ridge=1e-3)
    expected = operator.radius
    operator._filter.period = 16
    assert operator._filter.reach(1e-8) == expected > 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kernel", KERNELS)
def test_gpu_equals_cpu(kernel):
    operator, x, y = make(kernel, 4), torch.rand(2, 3, 70, 20), torch.rand(2, 3, 280, 80)
    assert largest(operator.project(y.cuda(), x.cuda()).cpu() - operator.project(y, x)) < 1e-5


@pytest.mark.parametrize(
    "setting",
    ["set_float32_matmul_precision('medium')", "backends.cuda.matmul.allow_tf32 = True", "backends.fp32_precision = 'tf32'"],
)
def test_precision_settings_of_the_user_are_kept_and_do_no_harm(setting):
    """In a process of its own: torch's switches are global, and some cannot be taken back."""
    code = f"""
import torch
torch.{setting}
state = lambda: [getattr(b, "fp32_precision", None) for b in (torch.backends, torch.backends.cuda.matmul)]
before = state()
from sr_zoo.operators import Downsampler
operator, x = Downsampler(), torch.rand(3, 9, 70)
error = float((operator.A(operator.project(torch.rand(3, 36, 280), x)) - x).abs().max())
assert error < 1e-6 and state() == before, (error, state(), before)
if "medium" in {setting!r}:
    assert torch.get_float32_matmul_precision() == "medium"
"""
    if "fp32_precision" in setting and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no such setting")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torch_without_a_switch_for_the_processor():
    code = """
import torch
real = torch.backends.mkldnn
class Old:
    def __getattr__(self, name):
        if name == "matmul":
            raise AttributeError(name)
        return getattr(real, name)
torch.backends.mkldnn = Old()
torch.set_float32_matmul_precision("medium")
from sr_zoo.operators import Downsampler
operator, x = Downsampler(), torch.rand(3, 9, 70)
error = float((operator.A(operator.project(torch.rand(3, 36, 280), x)) - x).abs().max())
assert error < 1e-6 and torch.get_float32_matmul_precision() == "medium"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_gram_kernel_is_the_autocorrelation():
    """By the sum that defines it; also for kernels shorter than the scale."""
    for taps, stride in ((torch.rand(5, 8, dtype=torch.float64), (3, 2)), (torch.rand(2, 7, dtype=torch.float64), (3, 3))):
        gram = _bands._gram(taps, stride)
        (rows, columns), (down, right) = taps.shape, stride
        for m, j in enumerate(range(-((rows - 1) // down), (rows - 1) // down + 1)):
            for n, k in enumerate(range(-((columns - 1) // right), (columns - 1) // right + 1)):
                expected = sum(
                    float(taps[a, b] * taps[a + down * j, b + right * k])
                    for a in range(rows) for b in range(columns)
                    if 0 <= a + down * j < rows and 0 <= b + right * k < columns
                )  # fmt: skip
                assert abs(float(gram[m, n]) - expected) < 1e-14


@pytest.mark.parametrize("kernel", ["gaussian:1.2:9999", "gaussian:900", torch.ones(3, 2000)])
def test_kernels_wider_than_any_blur_are_refused(kernel):
    """A config from elsewhere shall not ask for minutes and gigabytes."""
    with pytest.raises(ValueError, match="kernel: .*(is not 'bicubic'|of 2000 pixels a side, at most 512)"):
        Downsampler(kernel, 4, ridge=0.1)
    assert Downsampler("gaussian:2:512", 4, ridge=0.1).reach > 1
