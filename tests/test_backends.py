"""A generator that only computes gives what the trained one gives, however it is run."""

import gc
import sys
import weakref

import pytest
import torch

from sr_zoo import backends
from sr_zoo.backends import BackendError, compiled_generator, onnx_generator, prepared
from sr_zoo.generators import GENERATORS, Residual
from tests.test_generators import NETWORKS

SIZES = [(1, 1, 1), (1, 1, 50), (1, 50, 1), (2, 23, 9), (1, 40, 56)]


def trained(name: str = "residual", **options):
    torch.manual_seed(0)
    network = GENERATORS.build({"name": name, "width": 16, "depth": 3} | options, 2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.to(memory_format=torch.channels_last).eval()


def inputs(size, noise_channels: int = 0):
    batch, *sides = size
    lr = torch.rand(batch, 3, *sides)
    return (lr, torch.randn(batch, noise_channels, *sides)) if noise_channels else (lr,)


@pytest.mark.parametrize("options", [{}, {"activation": "silu"}, {"activation": "prelu"}, {"noise_channels": 2}], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_bands_compute_what_the_whole_does(size, options, monkeypatch):
    """For any size of the bands, the picture's border among them, as exactly as convolutions of another height can."""
    network = trained(**options)
    x = inputs(size, options.get("noise_channels", 0))
    with torch.no_grad():
        whole = network(*x)
    for limit in (1, 16 * 4 * 9 * 7, 8 << 20):
        monkeypatch.setattr(backends, "BAND_BYTES", limit)
        raw = prepared(network, "float32")(*x)
        assert raw.dtype == torch.float32 and raw.is_contiguous()
        assert (raw - whole).abs().max() <= 1e-5 * whole.abs().max(), limit


@pytest.mark.parametrize("size", SIZES)
def test_bf16_rounds_as_under_autocast(size, monkeypatch):
    """Where the picture is nearly white, too: bf16 is coarser there than its 8 bits, so it must be centred before."""
    monkeypatch.setattr(backends, "BAND_BYTES", 1)
    network, x = trained(), (0.95 + inputs(size)[0] / 20,)
    with torch.no_grad():
        truth = network(*x)
        with torch.autocast("cpu", torch.bfloat16):
            before = network(*x).float()
    raw = prepared(network, "bf16")(*x)
    assert 0 < (raw - truth).abs().max() <= 1.2 * (before - truth).abs().max()
    assert (raw - before).abs().mean() <= 0.3 * (before - truth).abs().mean()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_generator_can_be_prepared(name):
    network = trained(name, **({"kernel": 5} if name == "depthwise" else {}))
    lr = torch.rand(1, 3, 20, 13)
    runner = prepared(network, "float32")
    assert (runner.radius, runner.noise_channels) == (network.radius, 0)
    with torch.no_grad():
        truth = network(lr)
    assert torch.allclose(runner(lr), truth, atol=1e-5 * float(truth.abs().max()))
    low = prepared(network, "bf16")(lr)
    assert low.dtype == torch.float32 and 1e-4 < (low - truth).abs().max() / truth.abs().max() < 0.03


def test_weights_are_converted_once_and_again_when_they_change():
    network, lr = trained(), torch.rand(1, 3, 8, 8)
    runner = prepared(network, "float32")
    before = runner(lr)
    assert prepared(network, "float32") is runner and prepared(network, "bf16") is not runner
    network.tail.weight.data.mul_(3)
    assert torch.equal(runner(lr), before), "what was prepared does not change under way"
    assert prepared(network, "float32") is not runner
    assert torch.allclose(prepared(network, "float32")(lr), network(lr), atol=1e-4)


def test_training_goes_on_undisturbed():
    network, lr = trained(), torch.rand(1, 3, 8, 8)
    runner = prepared(network, "bf16")
    runner(lr)
    assert not list(runner.parameters()) and all(p.dtype == torch.float32 for p in network.parameters())
    network(lr).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_what_is_made_in_inference_mode_also_serves_outside():
    network, lr = trained(activation="prelu"), torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        runner = prepared(network, "float32")
    assert not any(t.is_inference() for t in (*runner.head, *runner.tail, runner.body[0][1].weight))
    assert not runner(lr).is_inference()


def test_what_was_prepared_goes_with_its_generator():
    network = Residual(2, 8, 1)
    prepared(network, "float32")
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="precision: 'half'"):
        prepared(trained(), "half")


@pytest.mark.parametrize(
    "make, noise_channels", [(onnx_generator, 0), (onnx_generator, 2), (compiled_generator, 2)], ids=str
)
def test_other_backends_compute_the_same(make, noise_channels):
    if make is onnx_generator:
        pytest.importorskip("onnxruntime")
    network = trained(noise_channels=noise_channels, depth=1)
    runner = make(network)
    assert (runner.radius, runner.noise_channels) == (network.radius, noise_channels)
    assert make(network) is runner
    for size in SIZES:
        x = inputs(size, noise_channels)
        with torch.no_grad():
            truth = network(*x)
        raw = runner(*x)
        assert raw.dtype == torch.float32 and not raw.requires_grad
        assert (raw - truth).abs().max() <= 1e-5 * truth.abs().max(), size


def test_compiled_in_bf16(model):
    """A whole model may be given; the rounding is that of autocast."""
    lr, network = torch.rand(1, 3, 20, 13), model.inference_generator
    torch.nn.init.normal_(network.tail.weight)
    runner = compiled_generator(model, "bf16")
    with torch.no_grad():
        truth = network(lr)
    assert 1e-4 < (runner(lr) - truth).abs().max() / truth.abs().max() < 0.03


def test_what_a_backend_lacks_is_one_line(monkeypatch):
    network = trained()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="onnxruntime: is missing; pip install 'sr_zoo.onnx.'"):
        onnx_generator(network)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendError, match="there is no no-such-compiler; install it"):
        compiled_generator(network)

    def broken(*_, **__):
        def run(*_):
            raise RuntimeError("CppCompileError: C++ compile error\nwith very\nmany lines")

        return run

    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(BackendError, match="fails here .CppCompileError: C.. compile error.$"):
        compiled_generator(network)
