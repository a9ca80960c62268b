"""Which matrices of a model `select` takes, by the names that people give them."""

import operator
import re

import pytest
import torch
from torch import nn
from weights import net

from lrdlib.decay import low_rank_decay_
from lrdlib.matrices import Selection, _part_of, select
from lrdlib.model import ModelConfig, init_params, role, stack_params
from lrdlib.optimizer import LowRankDecay


@pytest.mark.parametrize(
    "where, roles",
    [
        ("vo+mlp", ("value", "output", "up", "down")),
        ("embedding+head", ("embedding", "position", "head")),
        ("attention", ("query", "key", "value", "output")),
    ],
)
def test_select_takes_several_places(where, roles):
    config = ModelConfig(vocab=5, seq_len=3, classes=4, d_model=8, heads=2)
    params = init_params(config, torch.Generator().manual_seed(0))
    assert {role(name) for name in select(params, where)} == {*roles}


@pytest.mark.parametrize("where", ["qk+qk", "vo+", "", "qk+tail"])
def test_select_refuses_other_places(where):
    with pytest.raises(ValueError, match="which must be"):
        select({"0.query": torch.ones(2, 2)}, where)


BLOCK = {"query", "key", "value", "output", "up", "down"}


@pytest.mark.parametrize("stacked", [False, True])
def test_select_on_lrdlib_parameters(stacked):
    config = ModelConfig(vocab=7, seq_len=3, classes=7, d_model=8, heads=2, layers=2)
    params = init_params(config, torch.Generator().manual_seed(0))
    params = stack_params([params] * 2) if stacked else params
    assert set(select(params, "attention+mlp")) == {
        f"{layer}.{name}" for layer in (0, 1) for name in BLOCK
    }
    assert set(select(params, "qk")) == {"0.query", "0.key", "1.query", "1.key"}
    assert set(select(params, lambda name, W: role(name) == "head")) == {"head"}
    assert all(W is params[name] for name, W in select(params, "attention+mlp").items())


def test_select_on_a_transformer_encoder():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    names = {
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    }
    assert set(select(encoder, "attention+mlp")) == {
        f"layers.{i}.{name}" for i in (0, 1) for name in names
    }
    outer = nn.Sequential(nn.Embedding(5, 8), encoder, nn.Linear(8, 5))
    assert set(select(outer, "attention+mlp")) == {
        f"1.layers.{i}.{name}" for i in (0, 1) for name in names
    }


def test_select_on_a_gpt_like_module_leaves_embedding_positions_and_head():
    names = {"attention.in_proj_weight", "attention.out_proj.weight", "mlp.weight"}
    for tied in (True, False):
        model = net(tied=tied)
        assert set(select(model, "attention+mlp")) == {
            f"blocks.{i}.{name}" for i in (0, 1) for name in names
        }


def test_select_when_the_model_is_itself_a_module_list():
    assert set(
        select(nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)]), "attention+mlp")
    ) == {"0.weight", "1.weight"}


def test_select_leaves_a_tied_embedding_inside_a_list_alone():
    """A matrix shared by an embedding and a block is named once, as torch names it, and is
    an embedding."""
    model = nn.Module()
    model.tables = nn.ModuleList([nn.Embedding(5, 3)])
    model.blocks = nn.ModuleList([nn.Linear(3, 5, bias=False), nn.Linear(3, 3, bias=False)])
    model.blocks[0].weight = model.tables[0].weight
    assert set(select(model, "attention+mlp")) == {"blocks.1.weight"}


def test_select_by_predicate_on_a_module():
    model = net()
    chosen = select(model, lambda name, W: name.endswith("in_proj_weight"))
    assert set(chosen) == {
        "blocks.0.attention.in_proj_weight",
        "blocks.1.attention.in_proj_weight",
    }
    assert all(W is dict(model.named_parameters())[name] for name, W in chosen.items())


@pytest.mark.parametrize(
    "which, words",
    [
        ("qk", r"which must not part blocks\.0\.attention\.in_proj_weight.*got 'qk'"),
        ("embedding", "which must be one of 'attention\\+mlp'.*got 'embedding'"),
        (None, "which must be one of.*got None"),
        (lambda name, W: False, "which must select at least one"),
    ],
    ids=["qk", "word", "none", "empty"],
)
def test_select_refuses_what_it_cannot_find_in_a_module(which, words):
    with pytest.raises(ValueError, match=words):
        select(net(), which)


def test_select_refuses_the_kernel_of_a_convolution_that_looks_like_a_stack():
    model = nn.ModuleDict({"conv": nn.Conv1d(4, 6, 3), "up": nn.Linear(4, 8)})
    with pytest.raises(
        ValueError, match=r"leave out kernels .* got conv.weight \(6, 4, 3\)"
    ):
        select(model, lambda name, W: W.ndim > 1)
    assert list(select(model, lambda name, W: W.ndim == 2)) == ["up.weight"]
    with pytest.raises(ValueError, match="got weight"):
        select(model["conv"], re.compile("weight"))


def test_select_refuses_an_empty_selection_and_another_model():
    with pytest.raises(ValueError, match="at least one of the 2 parameters"):
        select(nn.Linear(3, 3), "attention+mlp")
    with pytest.raises(ValueError, match="at least one of the 1 parameters"):
        select({"embedding": torch.ones(3, 3)}, "qk")
    for wrong in (None, [torch.ones(3, 3)], "model"):
        with pytest.raises(TypeError, match="model must be"):
            select(wrong, "attention+mlp")


def test_select_takes_matrices_only_and_stacks_of_experts():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 6)
            self.experts = torch.nn.Parameter(torch.randn(3, 4, 5))
            self.gain = torch.nn.Parameter(torch.randn(4, 1))
            self.tied = torch.nn.Linear(4, 7, bias=False)

    model = torch.nn.Module()
    model.blocks = torch.nn.ModuleList([Block()])
    model.embedding = torch.nn.Embedding(7, 4)
    model.embedding.weight = model.blocks[0].tied.weight
    assert sorted(select(model, "attention+mlp")) == [
        "blocks.0.experts",
        "blocks.0.linear.weight",
    ]


@pytest.mark.parametrize(
    ("model", "error"),
    [({}, ValueError), ({1: torch.ones(2, 2)}, TypeError), ({"0.query": None}, TypeError)],
)
def test_select_from_no_model(model, error):
    with pytest.raises(error, match=r"^model"):
        select(model, "qk")


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = (
            nn.Linear(8, 4, bias=False),
            nn.ModuleList([nn.Linear(8, 8)]),
        )


class Mixed(nn.Module):
    """A block of what a decay is for and what it is not for."""

    def __init__(self):
        super().__init__()
        self.self_attn = nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self.self_attn, name, nn.Linear(8, 8))
        self.mlp = Experts()
        self.conv, self.flat = nn.Conv1d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.A_log = nn.Parameter(torch.randn(8, 4))
        self.A_log._no_weight_decay = True
        self.lm_head, self.frozen = nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False)


QKVO = [f"blocks.0.self_attn.{name}_proj.weight" for name in "qkvo"]
EXPERT = "blocks.0.mlp.experts.0.weight"


@pytest.mark.parametrize(
    "which, options, names",
    [
        ("attention+mlp", {}, [*QKVO, EXPERT]),
        ("qk", {}, QKVO[:2]),
        ("vo", {}, QKVO[2:]),
        ("mlp", {}, [EXPERT]),
        ("vo+mlp", {}, [*QKVO[2:], EXPERT]),
        ("attention+mlp", {"exclude": r"[vo]_proj"}, [*QKVO[:2], EXPERT]),
        (re.compile(r"[qk]_proj\.weight$"), {}, QKVO[:2]),
        (re.compile(r"_proj\.weight$"), {"exclude": "o_proj"}, QKVO[:3]),
    ],
)
def test_select_takes_what_is_in_the_blocks_and_nothing_else(which, options, names):
    model = nn.Module()
    model.blocks = nn.ModuleList([Mixed()])
    assert list(select(model, which, **options)) == names


@pytest.mark.parametrize(
    "name, part",
    [
        ("h.0.attn.c_attn.weight", "fused"),
        ("h.0.attn.c_proj.weight", "vo"),
        ("h.0.mlp.c_proj.weight", "mlp"),
        ("layers.0.attention.query_key_value.weight", "fused"),
        ("layers.0.attention.dense.weight", "vo"),
        ("encoder.layer.0.attention.attention.query.weight", "qk"),
        ("encoder.layer.0.attention.output.dense.weight", "vo"),
        ("encoder.layer.0.output.dense.weight", "mlp"),
        ("layers.0.self_attn.qkv_proj.weight", "fused"),
        ("layers.0.mlp.gate_up_proj.weight", "mlp"),
        ("transformer_blocks.0.attn1.to_q.weight", "qk"),
        ("transformer_blocks.0.attn1.to_out.0.weight", "vo"),
        ("layers.0.attention.wk.weight", "qk"),
        ("layers.0.feed_forward.w1.weight", "mlp"),
        ("layers.0.self_attn.q_proj.base_layer.weight", "qk"),
        ("layers.0.self_attn.q_proj.lora_A.default.weight", "qk"),
        ("attn_layers.layers.1.1.ff.0.weight", "mlp"),
    ],
)
def test_the_usual_names_say_what_a_matrix_is(name, part):
    assert _part_of(name) == part


def test_a_selection_is_printed_a_line_each():
    model = nn.Module()
    model.blocks = nn.ModuleList([Mixed()])
    lines = repr(select(model, "attention+mlp")).splitlines()
    assert [line.split()[0] for line in lines] == [*QKVO, EXPERT]
    assert [line.split()[-1] for line in lines] == ["qk", "qk", "vo", "vo", "mlp"]
    assert all("(8, 8)" in line for line in lines)


# ---- what is made of a selection


class Mixture(nn.Module):
    """Experts as stacks beside their gate, and attention by another name."""

    def __init__(self, gate="gate"):
        super().__init__()
        self.mha = nn.MultiheadAttention(8, 2, kdim=6, vdim=6)
        self.w1 = nn.Parameter(torch.randn(4, 8, 16))
        setattr(self, gate, nn.Linear(8, 4))


@pytest.mark.parametrize("gate", ["gate", "wg"])
def test_a_gate_beside_stacks_of_experts_is_a_router(gate):
    chosen = select(nn.ModuleList([Mixture(gate), Mixture(gate)]), "attention+mlp")
    assert "0.w1" in chosen and not [name for name in chosen if gate in name]
    plain = nn.ModuleList([nn.ModuleDict({gate: nn.Linear(8, 4)}) for _ in range(2)])
    assert len(select(plain, "mlp")) == 2  # of a gated MLP


def test_torch_s_attention_is_attention_whatever_its_name():
    model = nn.ModuleList([Mixture(), Mixture()])
    assert set(select(model, "mlp")) == {"0.w1", "1.w1"}
    assert "0.mha.out_proj.weight" in select(model, "vo")
    assert "0.mha.out_proj.weight  (8, 8)         vo" in repr(select(model, "vo"))


def test_a_part_of_a_selection_keeps_its_layouts():
    blocks = [nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2)}) for _ in range(2)]
    both = select(nn.ModuleList(blocks), "attention")
    first = both.only(lambda name, W: name.startswith("0."))
    rest = both.only(lambda name, W: name.startswith("1."))
    assert len(first) == 2 and first.groups()[0]["parts"] == 3
    for same in (first | rest, both.copy()):
        assert dict(same) == dict(both) and same.layouts == both.layouts
        assert repr(same) == repr(both)
    by_group = LowRankDecay([{"params": first, "every": 2}], weight_decay=0.1)
    assert [g["parts"] for g in by_group.param_groups] == [3, 1]
    assert {g["every"] for g in by_group.param_groups} == {2}
    fused = first.only(lambda name, W: "in_proj" in name)
    own = LowRankDecay([{"params": fused, "parts": 6}], weight_decay=0.1)
    assert [g["parts"] for g in own.param_groups] == [6]


def test_a_cut_beside_a_selection_is_of_its_plain_matrices_alone():
    block = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2)})
    chosen = select(nn.ModuleList([block]), "attention")
    fused, plain = (
        {name: group[name] for name in ("parts", "dim", "interleaved")}
        for group in LowRankDecay(chosen, weight_decay=0.1, dim=1, parts=2).param_groups
    )
    assert fused == {"parts": 3, "dim": 0, "interleaved": 1}
    assert plain == {"parts": 2, "dim": 1, "interleaved": 1}
    assert [group["dim"] for group in chosen.groups(dim=1)] == [0, 1]


def test_exclude_is_any_regular_expression():
    model = nn.ModuleList([Mixture(), Mixture()])
    words = [set(select(model, "mlp", exclude=x)) for x in (r"^0", re.compile(r"^0"))]
    assert words == [{"1.w1"}] * 2
    with pytest.raises(ValueError, match=r"exclude must be a regular expression, got '\('"):
        select(model, "mlp", exclude="(")
    with pytest.raises(TypeError, match="exclude must be a regular expression, got 3"):
        select(model, "mlp", exclude=3)


def test_why_nothing_is_selected():
    model = nn.ModuleList([Mixture(), Mixture()]).requires_grad_(False)
    with pytest.raises(ValueError, match="leaves out the frozen: 18 here"):
        select(model, "mlp")
    with pytest.raises(ValueError, match=r"give it the nn\.Module"):
        select(model.state_dict(), "mlp")


def updated(one, other):
    one.update(other)
    return one


@pytest.mark.parametrize(
    "join",
    [lambda a, b: a | b, operator.ior, updated, lambda a, b: dict(a) | b],
    ids=["|", "|=", "update", "dict |"],
)
def test_selections_that_are_joined_keep_what_is_known_of_both(join):
    model = net()
    attention, mlp = select(model, "attention"), select(model, "mlp")
    whole = select(model, "attention+mlp")
    joined = join(mlp, attention)
    assert isinstance(joined, Selection) and {*joined} == {*whole}
    fused = {f"blocks.{i}.attention.in_proj_weight": {"parts": 3} for i in (0, 1)}
    assert joined.layouts == whole.layouts == fused
    assert joined.roles == {n: whole.roles[n] for n in joined if n in joined.roles}
    assert all(W is whole[name] for name, W in joined.items())
    start = whole["blocks.0.attention.in_proj_weight"].detach().clone()
    LowRankDecay(joined, weight_decay=0.1, method="svd").step(lr=1.0)
    expected = start.clone()
    for part in expected.chunk(3):
        low_rank_decay_(part, weight_decay=0.1, method="svd")
    after = joined["blocks.0.attention.in_proj_weight"].detach()
    torch.testing.assert_close(after, expected)


def test_what_the_second_selection_knows_of_a_name_holds():
    W, V = torch.ones(6, 2), torch.ones(4, 2)
    one = Selection({"x": W}, {"x": {"parts": 3}}, {"x": "fused"})
    assert (one | Selection({"x": V})).layouts == {}
    assert (Selection({"x": V}) | one).layouts == {"x": {"parts": 3}}
    assert one.layouts == {"x": {"parts": 3}} and one["x"] is W  # `|` makes a new one
    for wrong in (lambda: one | [("y", V)], lambda: [("y", V)] | one, lambda: one | None):
        with pytest.raises(TypeError, match="unsupported operand"):
            wrong()
