"""What every layer has to live through: gradients twice, copies, compilation, export, mixed precision, odd batches.

`Case` says how to make a layer and what it reads; each function in `CHECKS` is one requirement. A test file
parametrizes over both, or calls `check_layer` for all of them at once::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_layers(check): check(Case(lambda **options: nn.Conv2d(2, 3, 3, **options), (2, 2, 5, 6)))
"""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["CHECKS", "SLOW_CHECKS", "Case", "check_layer", "export_onnx"]

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Case:
    """A layer to check.

    Attributes:
        make: Makes the layer; takes ``device`` and ``dtype``.
        input_shape: (N, C, *spatial), with N of at least 2.
        other_shape: The shape to run an exported layer at; all sizes but C one larger by default.
        tiny_shape: The shape to take finite differences at; (1, C, *(3, 2, 2)) by default.
        dtype: For all checks that do not choose one.
        onnx: The operators that its ONNX graph may have, None for any; an empty tuple for a layer without export.
        unbatched: Whether it takes inputs without N.
        keeps_layout: Whether channels last goes in and out (no layout is defined for 1-D).
    """

    make: Callable[..., nn.Module]
    input_shape: tuple[int, ...]
    other_shape: tuple[int, ...] | None = None
    tiny_shape: tuple[int, ...] | None = None
    dtype: torch.dtype = torch.float32
    onnx: tuple[str, ...] | None = None
    unbatched: bool = True
    keeps_layout: bool = True

    def layer(self, dtype: torch.dtype | None = None) -> nn.Module:
        """The layer with weights that are the same at every call."""
        torch.manual_seed(0)
        layer = self.make(device="cpu", dtype=dtype or self.dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64) * 0.3)
        return layer

    def input(self, dtype: torch.dtype | None = None, shape: Sequence[int] | None = None) -> Tensor:
        """An input that is the same at every call."""
        generator = torch.Generator().manual_seed(1)
        drawn = torch.randn(tuple(shape or self.input_shape), generator=generator, dtype=torch.float64)
        return drawn.to(dtype or self.dtype)

    @property
    def other(self) -> tuple[int, ...]:
        """The shape to run an exported layer at."""
        n, channels, *sizes = self.input_shape
        return self.other_shape or (n + 1, channels, *(size + 1 for size in sizes))

    @property
    def dynamic(self) -> tuple[dict[int, Any]]:
        """Batch and spatial sizes left open."""
        return (dict.fromkeys([0, *range(2, len(self.input_shape))], torch.export.Dim.DYNAMIC),)


def same(found: Tensor, wanted: Tensor, tolerance: float | None = None) -> None:
    if tolerance is None:
        tolerance = 1e-10 if wanted.dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def results(layer: Callable[[Tensor], Tensor], parameters: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Output and the gradients with respect to the input and all parameters, of a loss that is not symmetric."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    loss = (y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view(y.shape)).square().sum()
    return [y, *torch.autograd.grad(loss, [x, *parameters])]


# ---------------------------------------------------------------------------------------------------------- gradients


def differentiable_twice(case: Case) -> None:
    """First and second derivatives with respect to input and parameters against finite differences."""
    layer = case.layer(torch.float64)
    tiny = case.tiny_shape or (1, case.input_shape[1], *(3, 2, 2)[: len(case.input_shape) - 2])
    names = [name for name, _ in layer.named_parameters()]
    x = case.input(torch.float64, tiny).requires_grad_()

    def run(x: Tensor, *values: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))
        return found.square() if found.numel() else found  # a linear layer's second derivative would be nothing

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=len(tiny) > 3)
    assert torch.autograd.gradgradcheck(run, (x, *values), fast_mode=True)


def some_gradients(case: Case) -> None:
    """A gradient is right whichever of the others are wanted; frozen weights cost none."""
    layer = case.layer()
    x = case.input()
    whole = dict(zip(["y", "x", *(n for n, _ in layer.named_parameters())],
                     results(layer, list(layer.parameters()), x), strict=True))  # fmt: skip
    layer.requires_grad_(False)
    same(results(layer, [], x)[1], whole["x"])
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_()
        y = layer(x)
        loss = (y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view(y.shape)).square().sum()
        same(torch.autograd.grad(loss, parameter)[0], whole[name])
        parameter.requires_grad_(False)
    with torch.no_grad():
        assert not layer(x).requires_grad
        same(layer(x), whole["y"])
    with torch.inference_mode():
        same(layer(x).clone(), whole["y"])


def trains_as_it_infers(case: Case) -> None:
    """The same output with and without gradients, in both modes, also after every kind of change of the weights."""
    layer = case.layer().eval()
    x = case.input()

    def agrees() -> Tensor:
        with torch.no_grad():
            first, second = layer(x), layer(x)  # the second may use what the first has kept
        layer.train()
        wanted: Tensor = layer(x).detach()
        layer.eval()
        same(first, wanted)
        same(second, wanted)
        return wanted

    seen = [agrees()]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)
    seen.append(agrees())
    layer.load_state_dict({name: value * 2 for name, value in layer.state_dict().items()})
    seen.append(agrees())
    for parameter in layer.parameters():
        parameter.data = parameter.data + 0.1
    seen.append(agrees())
    for parameter in layer.parameters():
        parameter.data.mul_(0.7)  # no version counter sees this one
    seen.append(agrees())
    optimizer = torch.optim.SGD(layer.parameters(), 0.01)
    layer(x).square().mean().backward()
    optimizer.step()
    seen.append(agrees())
    for name, parameter in list(layer.named_parameters()):
        *path, last = name.split(".")
        setattr(layer.get_submodule(".".join(path)), last, nn.Parameter(parameter.detach() * 1.3))
    seen.append(agrees())
    for before, after in itertools.pairwise(seen):
        assert not torch.allclose(before, after)


# -------------------------------------------------------------------------------------------------------------- copies


def copies(case: Case) -> None:
    """deepcopy and pickle give equal, independent layers, also after a run."""
    layer, x = case.layer(), case.input()
    wanted = layer(x).detach()
    with torch.no_grad():
        layer.eval()(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin).__mro__[-4:] == type(layer).__mro__[-4:]  # a parametrized layer has a class of its own
        assert type(twin).__name__ == type(layer).__name__
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), layer(x))
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        same(layer(x), wanted)


def state(case: Case) -> None:
    """The state holds the parameters and nothing else of weight; it survives a file read without executing code."""
    layer, x = case.layer(), case.input()
    layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    other = case.make(device="cpu", dtype=case.dtype)
    assert not torch.allclose(other(x), layer(x))
    other.load_state_dict(loaded, strict=True)
    assert torch.equal(other(x), layer(x))
    again = case.make(device="cpu", dtype=case.dtype)
    again.load_state_dict(loaded, strict=True, assign=True)
    assert torch.equal(again(x), layer(x))


def meta(case: Case) -> None:
    """Made without memory, run for its shapes, then given memory and its start values."""
    layer = case.make(device="meta", dtype=case.dtype)
    assert all(p.is_meta for p in layer.parameters())
    wanted = case.layer()(case.input())
    found = layer(torch.empty(case.input_shape, dtype=case.dtype, device="meta"))
    assert found.is_meta
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    layer.to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.constant_(parameter, float("nan"))
    torch.manual_seed(3)
    layer.reset_parameters()
    torch.manual_seed(3)
    fresh = case.make(device="cpu", dtype=case.dtype)
    for parameter, usual in zip(layer.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(parameter, usual)


def says_what_it_is(case: Case) -> None:
    """Its repr is a call that makes the same layer."""
    layer = case.layer()
    text = repr(layer)
    assert text.startswith(f"{type(layer).__name__}(")
    assert "\n" not in text
    made = eval(text, {type(layer).__name__: type(layer)})  # its own text, to be read as it was written
    assert repr(made) == text
    made = made.to(case.dtype)
    made.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(made(case.input()), layer(case.input()))


# ------------------------------------------------------------------------------------------------------ shapes, layouts


def batches(case: Case) -> None:
    """No batch axis, an empty batch (gradients too), a single one, slices of a larger tensor, expanded inputs."""
    layer, x = case.layer(), case.input()
    wanted = layer(x).detach()
    if case.unbatched:
        same(layer(x[0]), wanted[0])
    same(layer(x[1:]), wanted[1:])
    empty = x[:0].clone().requires_grad_()
    y = layer(empty)
    assert y.shape == (0, *wanted.shape[1:])
    y.sum().backward()
    assert empty.grad is not None
    assert empty.grad.shape == empty.shape
    for parameter in layer.parameters():
        assert parameter.grad is None or not parameter.grad.any()
    wider = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
    wider[..., ::2] = x
    same(layer(wider[..., ::2]), wanted)
    same(layer(x[:1].expand_as(x)), wanted[:1].expand_as(wanted))
    same(layer(x.transpose(0, -1).contiguous().transpose(0, -1)), wanted)


def layouts(case: Case) -> None:
    """The memory format of the input is that of the output, and of the input's gradient."""
    layer, x = case.layer(), case.input()
    wanted = results(layer, list(layer.parameters()), x)
    assert wanted[0].is_contiguous()
    layout = LAYOUTS.get(x.dim())
    if layout is None or not case.keeps_layout:
        return
    last = x.to(memory_format=layout)
    found = results(layer, list(layer.parameters()), last)
    assert found[0].is_contiguous(memory_format=layout)
    for a, b in zip(found, wanted, strict=True):
        same(a, b)
    layer.to(memory_format=layout)
    found = results(layer, list(layer.parameters()), last)
    assert found[0].is_contiguous(memory_format=layout)
    for a, b in zip(found, wanted, strict=True):
        same(a, b)


# ----------------------------------------------------------------------------------------------------------- precision


def half_precision(case: Case) -> None:
    """bfloat16 and float16 parameters: finite, close to float32's, of their own dtype, gradients too."""
    for dtype, tolerance in ((torch.bfloat16, 3e-2), (torch.float16, 4e-3)):
        layer, x = case.layer(dtype), case.input(dtype)
        exact = copy.deepcopy(layer).float()
        found = results(layer, list(layer.parameters()), x)
        wanted = results(exact, list(exact.parameters()), x.float())
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == dtype
            assert bool(a.isfinite().all())
            assert float((a.float() - b).detach().abs().max()) <= tolerance * (1 + float(b.detach().abs().max()))


def autocast(case: Case) -> None:
    """Mixed precision: outputs of the low dtype, gradients of the parameters', both close to float32's."""
    for dtype, tolerance in ((torch.bfloat16, 3e-2), (torch.float16, 4e-3)):
        layer, x = case.layer(torch.float32), case.input(torch.float32)
        wanted = results(layer, list(layer.parameters()), x)

        def mixed(x: Tensor, layer: nn.Module = layer, dtype: torch.dtype = dtype) -> Tensor:
            with torch.autocast("cpu", dtype):
                found: Tensor = layer(x)
            assert found.dtype == dtype  # as from a plain convolution
            return found.float()

        for a, b in zip(results(mixed, list(layer.parameters()), x), wanted, strict=True):
            assert a.dtype == torch.float32
            assert bool(a.isfinite().all())
            assert float((a - b).detach().abs().max()) <= tolerance * (1 + float(b.detach().abs().max()))
        with torch.autocast("cpu", dtype):
            assert layer(x[:0]).dtype == dtype
            if case.unbatched:
                assert layer(x[0]).dtype == dtype


# --------------------------------------------------------------------------------------------------- compiled, exported


def compiled(case: Case) -> None:
    """One graph, the same outputs and gradients."""
    torch._dynamo.reset()
    layer, x = case.layer(), case.input()
    fast = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = results(fast, list(layer.parameters()), x)
    for a, b in zip(found, results(layer, list(layer.parameters()), x), strict=True):
        same(a, b)
    torch._dynamo.reset()


def compiled_dynamic(case: Case) -> None:
    """One graph for all sizes."""
    torch._dynamo.reset()
    layer = case.layer()
    fast = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in (case.input_shape, case.other):
        x = case.input(shape=shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = results(fast, list(layer.parameters()), x)
        for a, b in zip(found, results(layer, list(layer.parameters()), x), strict=True):
            same(a, b)
    torch._dynamo.reset()


def exported(case: Case) -> None:
    """torch.export with open sizes, in both modes, run at another size; through a file."""
    for training in (False, True):
        layer = case.layer().train(training)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(layer, (case.input(),), dynamic_shapes=case.dynamic)
            if not training:
                file = io.BytesIO()
                torch.export.save(program, file)
                file.seek(0)
                program = torch.export.load(file)
        for shape in (case.input_shape, case.other):
            x = case.input(shape=shape)
            same(program.module()(x), layer(x))


def export_onnx(layer: nn.Module, x: Tensor, dynamic: Any) -> Any:
    """The ONNX program of a layer in evaluation mode, after the exporter's own optimization."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(layer.eval(), (x,), dynamo=True, dynamic_shapes=dynamic, verbose=False)


def run_onnx(program: Any, x: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    (found,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x.numpy())})
    return torch.from_numpy(found)


def onnx(case: Case) -> None:
    """Exported with open sizes and run by onnxruntime at two of them."""
    if case.onnx == ():
        return
    layer = case.layer(torch.float32)
    program = export_onnx(layer, case.input(torch.float32), case.dynamic)
    if case.onnx is not None:
        operators = [node.op_type for node in program.model.graph]
        assert operators == list(case.onnx)
    for shape in (case.input_shape, case.other):
        x = case.input(torch.float32, shape)
        same(run_onnx(program, x), layer(x).detach())


def data_parallel(case: Case) -> None:
    """DistributedDataParallel: gradients reach the parameters, as without it."""
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        layer, x = case.layer(), case.input()
        wanted = results(layer, list(layer.parameters()), x)[2:]
        y = DistributedDataParallel(layer)(x)
        (y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view(y.shape)).square().sum().backward()
        for parameter, gradient in zip(layer.parameters(), wanted, strict=True):
            assert parameter.grad is not None
            same(parameter.grad, gradient)
    finally:
        distributed.destroy_process_group()


CHECKS: tuple[Callable[[Case], None], ...] = (
    differentiable_twice,
    some_gradients,
    trains_as_it_infers,
    copies,
    state,
    meta,
    says_what_it_is,
    batches,
    layouts,
    half_precision,
    autocast,
)
SLOW_CHECKS: tuple[Callable[[Case], None], ...] = (compiled, compiled_dynamic, exported, onnx, data_parallel)


def check_layer(
    make: Callable[..., nn.Module], input_shape: tuple[int, ...], *, slow: bool = True, **more: Any
) -> None:
    """All checks of one layer; see `Case` for the arguments, `SLOW_CHECKS` for what ``slow=False`` leaves out."""
    case = Case(make, input_shape, **more)
    for check in CHECKS + (SLOW_CHECKS if slow else ()):
        check(case)
