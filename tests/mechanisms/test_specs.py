from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from castbench.errors import CastbenchError
from castbench.mechanisms import registry
from castbench.mechanisms.cast import SPEC as CAST
from castbench.mechanisms.cast import CastParams, together
from castbench.mechanisms.spec import LengthMix, MechanismSpec, Problem
from tests.mechanisms.cases import CLUSTERINGS, bytes_kept

NAMES = sorted(registry.all_specs())
SHIPPED = {"busy", "cast", "mixing_ceiling", "module_ceiling", "naive", "plus", "sdpa"}
SMALL = LengthMix((24,), (1.0,))


def built(spec: MechanismSpec, width: int = 32, heads: int = 4) -> Any:
    """A mechanism's module with its defaults, resolved for short texts."""
    return registry.load(spec.build)(spec.resolve(spec.params(), SMALL), embed_dim=width, num_heads=heads)


@pytest.fixture
def fresh_registry() -> Any:
    """The registry's memory, emptied before and after."""
    registry.all_specs.cache_clear()
    yield
    registry.all_specs.cache_clear()


def offered(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    """One installed entry point whose loading is `load`."""
    point = SimpleNamespace(value="theirs:SPEC", load=load)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "castbench.mechanisms" else [])


def test_every_shipped_mechanism_is_found() -> None:
    """All seven folders are registered under their own names; four of them are hidden and two exact."""
    specs = registry.all_specs()
    assert set(specs) >= SHIPPED
    assert all(specs[name].name == name for name in specs)
    assert {name for name in SHIPPED if not specs[name].hidden} == {"cast", "naive", "sdpa"}
    assert {name for name in SHIPPED if specs[name].exact} == {"naive", "sdpa"}


@pytest.mark.usefixtures("fresh_registry")
def test_third_parties_register_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MechanismSpec behind an entry point of the group is found like a shipped one."""
    theirs = replace(CAST, name="theirs")
    offered(monkeypatch, lambda: theirs)
    assert registry.find("theirs") is theirs


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("loaded", "sentence"),
    [
        (CAST, "a mechanism named 'cast' is already there"),
        ("no spec", "is not a MechanismSpec"),
        (ImportError("no module named theirs"), "cannot be loaded: no module named theirs"),
    ],
)
def test_entry_points_that_cannot_be_used_are_named(
    loaded: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third party cannot replace a shipped mechanism, and its failures become a sentence that names it."""

    def load() -> Any:
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    offered(monkeypatch, load)
    with pytest.raises(CastbenchError, match=f"entry point theirs:SPEC.*{sentence}"):
        registry.all_specs()


def test_descriptions_import_no_torch() -> None:
    """Reading every mechanism's parameters, limits and work in a fresh interpreter loads neither torch nor numpy."""
    program = (
        "import sys\n"
        "from castbench.mechanisms import registry\n"
        "from castbench.mechanisms.spec import Problem\n"
        "for spec in registry.all_specs().values():\n"
        "    spec.work(spec.params(), Problem(2, 64, 32, 4, 4)), spec.limits(spec.params(), Problem(2, 64, 32, 4, 4))\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in NAMES if registry.get(name).hidden])
@pytest.mark.parametrize("masked", [False, True])
def test_known_answers_and_ceilings_equal_their_references(name: str, masked: bool) -> None:
    """What a spec builds agrees in fp32 with what its reference computes, on real tokens, and says what ran."""
    torch.manual_seed(2)
    spec = registry.get(name)
    module, x_BNM = built(spec), torch.randn(2, 24, 32)
    mask_BN = torch.arange(24) >= torch.tensor([[24], [17]])
    with torch.inference_mode():
        found_BNM = module(x_BNM, mask_BN if masked else None).double()
        wanted_BNM = registry.load(spec.reference)(module, x_BNM, mask_BN if masked else None)
    torch.testing.assert_close(found_BNM[~mask_BN], wanted_BNM[~mask_BN], rtol=1e-4, atol=1e-5)
    assert wanted_BNM.dtype == torch.float64
    assert isinstance(module.ran_as, str)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_counted_as_they_are(name: str) -> None:
    """A spec's number of weights is the number its module holds."""
    spec = registry.get(name)
    params = spec.resolve(spec.params(), SMALL)
    if name == "plus":
        params = spec.params(of="naive")
    module = registry.load(spec.build)(params, embed_dim=32, num_heads=4)
    assert spec.weights(params, 32, 4) == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["naive", "sdpa", "mixing_ceiling", "module_ceiling"])
def test_counted_flops_are_those_torch_counts(name: str) -> None:
    """The FLOPs of a spec are what torch's own counter sees in a pass of its module."""
    spec = registry.get(name)
    module = built(spec)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        module(torch.randn(2, 24, 32))
    assert counter.get_total_flops() == spec.work(spec.params(), Problem(2, 24, 32, 4, 4)).flops


@pytest.mark.parametrize("by_products", [True, False])
@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize(("clusters", "size"), [(4, None), (5, None), (3, 9)])
def test_counted_flops_of_cast_are_those_torch_counts(
    clustering: Any, clusters: int, size: int | None, by_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The FLOPs of cast are what torch's counter sees in inference, but for the summaries, on which `torch` spends
    4 per member and width by products and 2·H beside the fused kernel, where the formula says 2 (the gate's product
    with a vector is counted by none).
    """
    if not by_products:
        monkeypatch.setattr(together, "clusters_at_once", lambda *_: 0)
    params = CastParams(clusters, size, clustering)
    module = registry.load(CAST.build)(params, embed_dim=32, num_heads=4)
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        torch.inference_mode(),
    ):
        module(torch.randn(2, 24, 32))
    members = 2 * clusters * (size or -(-24 // clusters))
    beyond = 2 * (1 if by_products else 4 - 1) * members * 32
    assert counter.get_total_flops() - beyond == CAST.work(params, Problem(2, 24, 32, 4, 4)).flops


def test_work_of_cast_is_the_published_formula() -> None:
    """With C·K = N, CAST costs N·M·(4K + 6C + 2) FLOPs beyond its projections' 8·N·M²."""
    tokens, width, clusters = 4096, 512, 32
    work = CAST.work(CastParams(clusters), Problem(1, tokens, width, 8, 4))
    size = tokens // clusters
    assert work.flops == 8 * tokens * width**2 + tokens * width * (4 * size + 6 * clusters + 2)


@given(st.lists(st.tuples(st.integers(1, 20000), st.floats(0.01, 1)), min_size=1, max_size=5))
def test_auto_clusters_cost_least_over_the_mix(pairs: list[tuple[int, float]]) -> None:
    """The resolved C is within a step of 8 of the cheapest C: none further away costs less over the mix."""
    mix = LengthMix(tuple(n for n, _ in pairs), tuple(share for _, share in pairs))
    resolved = CAST.resolve(CastParams(), mix)
    clusters = resolved.num_clusters
    assert isinstance(clusters, int)
    assert clusters >= 1
    assert clusters < 8 or clusters % 8 == 0

    def cost(c: float) -> float:
        return sum(share * n * (4 * n / c + (6 + 10) * c) for n, share in pairs)

    best = min(range(1, 600), key=cost)
    assert abs(clusters - best) <= 5


def test_auto_clusters_with_a_size_hold_the_longest_row() -> None:
    """With cluster_size given, auto takes as many clusters as the longest row needs."""
    resolved = CAST.resolve(CastParams(cluster_size=100), LengthMix((10, 1001), (0.9, 0.1)))
    assert resolved.num_clusters == 11


def test_limits_refuse_rows_single_assignment_cannot_place() -> None:
    """A plan is told, before anything is timed, where C·K is below the row and which size would do."""
    params = CastParams(4, 8, "single_assignment")
    sentence = CAST.limits(params, Problem(1, 33, 32, 4, 4))
    assert sentence is not None
    assert "the smallest cluster_size that holds them is 9" in sentence
    assert CAST.limits(params, Problem(1, 32, 32, 4, 4)) is None
    assert CAST.limits(CastParams(4, 8), Problem(1, 33, 32, 4, 4)) is None


def test_building_with_auto_clusters_is_refused() -> None:
    """`auto` is a number by the time anything is built; else the sentence says what is missing."""
    with pytest.raises(ValueError, match="num_clusters: auto must be resolved"):
        registry.load(CAST.build)(CastParams(), embed_dim=8, num_heads=2)


def test_plus_counts_its_inner_work_and_its_share() -> None:
    """plus(percent=10) has 1.1 times the FLOPs and bytes of what it wraps, and no more memory."""
    problem = Problem(2, 64, 32, 4, 4)
    plus, sdpa = (registry.get(name) for name in ("plus", "sdpa"))
    inner = sdpa.work(sdpa.params(), problem)
    outer = plus.work(plus.params(), problem)
    assert outer.flops == pytest.approx(1.1 * inner.flops)
    assert outer.elementwise_bytes == pytest.approx(1.1 * inner.elementwise_bytes)
    assert outer.activation_bytes == inner.activation_bytes


def test_busy_counts_only_its_wait() -> None:
    """Busy has no work but time that no device makes shorter."""
    work = registry.get("busy").work(registry.get("busy").params(ms=3.0), Problem(2, 64, 32, 4, 4))
    assert (work.wait_s, work.flops, work.launches) == (3e-3, 0.0, 0)


def test_cast_attention_is_where_users_expect_it() -> None:
    """castbench.mechanisms.cast.CastAttention is the module's class; other names are AttributeErrors as anywhere."""
    import castbench.mechanisms.cast as package
    from castbench.mechanisms.cast.module import CastAttention

    assert package.CastAttention is CastAttention
    with pytest.raises(AttributeError, match="has no attribute 'CastAttentions'"):
        _ = package.CastAttentions


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("naive", {}),
        ("sdpa", {}),
        ("mixing_ceiling", {}),
        ("cast", {"num_clusters": 8}),
        ("cast", {"num_clusters": 24}),
    ],
)
def test_memory_of_training_is_what_autograd_keeps(name: str, params: dict[str, Any]) -> None:
    """The activations counted for training are, to a tenth, the tensors a forward pass keeps for its backward pass."""
    spec, x_BNM = registry.get(name), torch.randn(2, 256, 64, requires_grad=True)
    module = registry.load(spec.build)(spec.params(**params), embed_dim=64, num_heads=4)
    measured = bytes_kept(module, x_BNM)
    counted = spec.work(spec.params(**params), Problem(2, 256, 64, 4, 4, training=True)).activation_bytes
    assert counted == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("name", [name for name in NAMES if registry.get(name).parity_tokens])
def test_a_run_checks_a_mechanism_where_it_is_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What computes short rows in another way is checked before a run on rows as long as it asks for, and agrees."""
    from castbench.measure import parity
    from tests.encoder.served import SERVED, arm

    lengths, seen = [], parity._error
    monkeypatch.setattr(parity, "_error", lambda *args: lengths.append(args[2].shape[1]) or seen(*args))
    params = {"max_seq_len": 512} if name == "linformer" else {}
    parity.parity_error(SERVED, arm(name, **params), torch.device("cpu"), torch.float32)
    assert set(lengths) == {registry.get(name).parity_tokens}
