"""`select` on the models that people have: tiny ones of transformers' classes with random
weights, and small modules with the names of other libraries.

What is to be selected is written out by hand. How a fused matrix is cut is held against the
model's own forward: zero values, say, take the gradient from all queries and keys.
"""

import copy
import logging
import os

import oracles
import pytest
import torch
from torch import nn

from lrdlib.decay import low_rank_decay_
from lrdlib.matrices import Selection, select
from lrdlib.optimizer import LowRankDecay

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers, which asks for nothing then
transformers = pytest.importorskip("transformers")

SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=40)
TOKENS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
TEXT = dict(SIZES, **TOKENS, intermediate_size=48, max_position_embeddings=32)
GROUPED = dict(TEXT, num_key_value_heads=2)
GPT2 = dict(n_embd=32, n_layer=2, n_head=4, vocab_size=40, n_positions=32, **TOKENS)
IMAGE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=16)
EXPERTS = dict(GROUPED, num_local_experts=4)
LATENT = dict(q_lora_rank=16, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=8)
ROUTED = dict(n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1)
DEEPSEEK = dict(
    **(TEXT | LATENT | ROUTED),
    **dict(v_head_dim=6, first_k_dense_replace=1, moe_intermediate_size=16),
)
SPEECH = dict(
    **dict(IMAGE, vocab_size=40, intermediate_size=48, conv_dim=(16, 16)),
    **dict(conv_stride=(2, 2), conv_kernel=(3, 3), num_conv_pos_embeddings=8),
    num_conv_pos_embedding_groups=2,
)
FALCON = dict(SIZES, **TOKENS, bias=False)
BIGCODE = dict(GPT2, n_inner=48)
# class of the model, of its config, settings
MODELS = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt2 with cross-attention": (
        *("GPT2LMHeadModel", "GPT2Config"),
        dict(GPT2, add_cross_attention=True),
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 8}),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GROUPED | {"head_dim": 8}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", GROUPED),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", GROUPED),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", EXPERTS),
    "gpt_oss": ("GptOssForCausalLM", "GptOssConfig", EXPERTS | {"head_dim": 8}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", DEEPSEEK),
    "mamba": ("MambaForCausalLM", "MambaConfig", dict(SIZES, state_size=4)),
    "zamba": (
        *("ZambaForCausalLM", "ZambaConfig"),
        dict(
            TEXT,
            use_cache=False,
            layers_block_type=["mamba"] * 2,
            mamba_d_state=4,
            mamba_dt_rank=3,
        ),
    ),
    "zamba2": (
        *("Zamba2ForCausalLM", "Zamba2Config"),
        dict(
            TEXT,
            use_cache=False,
            layers_block_type=["mamba"] * 2,
            mamba_d_state=4,
            mamba_ngroups=2,
        ),
    ),
    "mamba2": (
        *("Mamba2ForCausalLM", "Mamba2Config"),
        dict(SIZES, state_size=4, num_heads=8, head_dim=8, n_groups=2),
    ),
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", SPEECH),
    "vit": (
        *("ViTForImageClassification", "ViTConfig"),
        dict(IMAGE, intermediate_size=48, patch_size=8),
    ),
    "timesformer": (
        *("TimesformerModel", "TimesformerConfig"),
        dict(IMAGE, intermediate_size=48, patch_size=8, num_frames=2),
    ),
    "bert": ("BertForMaskedLM", "BertConfig", TEXT),
    "deberta": ("DebertaForMaskedLM", "DebertaConfig", TEXT),
    "t5": (
        *("T5ForConditionalGeneration", "T5Config"),
        dict(d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4, vocab_size=40),
    ),
    "bloom": (
        *("BloomForCausalLM", "BloomConfig"),
        dict(hidden_size=32, n_layer=2, n_head=4, vocab_size=40, **TOKENS),
    ),
    "mpt": (
        *("MptForCausalLM", "MptConfig"),
        dict(d_model=32, n_layers=2, n_heads=4, vocab_size=40),
    ),
    "falcon": ("FalconForCausalLM", "FalconConfig", FALCON | {"multi_query": False}),
    "falcon, one key": ("FalconForCausalLM", "FalconConfig", FALCON),
    "falcon, grouped": (
        *("FalconForCausalLM", "FalconConfig"),
        dict(FALCON, new_decoder_architecture=True, num_kv_heads=2),
    ),
    "dbrx": (
        *("DbrxForCausalLM", "DbrxConfig"),
        dict(
            **dict(d_model=32, n_heads=4, n_layers=2, vocab_size=40, max_seq_len=32),
            attn_config={"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
            ffn_config={"ffn_hidden_size": 16, "moe_num_experts": 3, "moe_top_k": 2},
        ),
    ),
    "bigcode": ("GPTBigCodeForCausalLM", "GPTBigCodeConfig", BIGCODE),
    "bigcode, all keys": (
        *("GPTBigCodeForCausalLM", "GPTBigCodeConfig"),
        dict(BIGCODE, multi_query=False),
    ),
}


def built(name):
    """A tiny model with random weights."""
    model, config, settings = MODELS[name]
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # tiny configs lack what their classes would like
    try:
        config = getattr(transformers, config)(**settings)
        return getattr(transformers, model)(config)
    finally:
        logging.disable(logging.NOTSET)


def expanded(templates, layers):
    """Full names: each template in each layer."""
    return {template.format(i) for template in templates.split() for i in layers}


def both(prefix, names):
    """Templates of names in every layer."""
    return " ".join(f"{prefix}.{{}}.{name}.weight" for name in names.split())


LLAMA = {
    "qk": both("model.layers", "self_attn.q_proj self_attn.k_proj"),
    "vo": both("model.layers", "self_attn.v_proj self_attn.o_proj"),
    "mlp": both("model.layers", "mlp.gate_proj mlp.up_proj mlp.down_proj"),
}
OF_EXPERTS = {"down_proj": {}, "gate_up_proj": {"parts": 2}}
MOE = LLAMA | {
    "mlp": "model.layers.{}.mlp.experts.gate_up_proj model.layers.{}.mlp.experts.down_proj"
}
NEOX = {
    "fused": both("gpt_neox.layers", "attention.query_key_value"),
    "vo": both("gpt_neox.layers", "attention.dense"),
    "mlp": both("gpt_neox.layers", "mlp.dense_h_to_4h mlp.dense_4h_to_h"),
}
OF_GPT2 = {
    "fused": both("transformer.h", "attn.c_attn"),
    "vo": both("transformer.h", "attn.c_proj"),
    "mlp": both("transformer.h", "mlp.c_fc mlp.c_proj"),
}
OF_FALCON = {
    "fused": both("transformer.h", "self_attention.query_key_value"),
    "vo": both("transformer.h", "self_attention.dense"),
    "mlp": both("transformer.h", "mlp.dense_h_to_4h mlp.dense_4h_to_h"),
}
DIVIDED = "attention.attention temporal_attention.attention"
T5 = [f"{side}.block.{{}}.layer.0.SelfAttention" for side in ("encoder", "decoder")]
T5 += ["decoder.block.{}.layer.1.EncDecAttention"]
EXPECTED = {
    "gpt2": OF_GPT2,
    "gpt2 with cross-attention": {
        "fused": both("transformer.h", "attn.c_attn crossattention.c_attn"),
        "qk": both("transformer.h", "crossattention.q_attn"),
        "vo": both("transformer.h", "attn.c_proj crossattention.c_proj"),
        "mlp": OF_GPT2["mlp"],
    },
    "gpt_neox": NEOX,
    **dict.fromkeys(("llama", "qwen3", "gemma3", "olmo2"), LLAMA),
    "phi3": {
        "fused": both("model.layers", "self_attn.qkv_proj"),
        "vo": both("model.layers", "self_attn.o_proj"),
        "mlp": both("model.layers", "mlp.gate_up_proj mlp.down_proj"),
    },
    "mixtral": MOE,
    "gpt_oss": MOE,
    "mamba": {
        "mlp": both(
            "backbone.layers", "mixer.in_proj mixer.x_proj mixer.dt_proj mixer.out_proj"
        )
    },
    "zamba": {
        "mlp": both("model.layers", "mamba.in_proj mamba.out_proj")
        + " model.layers.{}.mamba.x_proj_weight model.layers.{}.mamba.dt_proj_weight"
    },
    "zamba2": {"mlp": both("model.layers", "mamba.in_proj mamba.out_proj")},
    "mamba2": {"mlp": both("backbone.layers", "mixer.in_proj mixer.out_proj")},
    "wav2vec2": {
        "qk": both("encoder.layers", "attention.q_proj attention.k_proj"),
        "vo": both("encoder.layers", "attention.v_proj attention.out_proj"),
        "mlp": both(
            "encoder.layers", "feed_forward.intermediate_dense feed_forward.output_dense"
        ),
    },
    "vit": {
        "qk": both("vit.layers", "attention.q_proj attention.k_proj"),
        "vo": both("vit.layers", "attention.v_proj attention.o_proj"),
        "mlp": both("vit.layers", "mlp.fc1 mlp.fc2"),
    },
    "bert": {
        "qk": both("bert.encoder.layer", "attention.self.query attention.self.key"),
        "vo": both("bert.encoder.layer", "attention.self.value attention.output.dense"),
        "mlp": both("bert.encoder.layer", "intermediate.dense output.dense"),
    },
    "deberta": {
        "fused": both("deberta.encoder.layer", "attention.self.in_proj"),
        "vo": both("deberta.encoder.layer", "attention.output.dense"),
        "mlp": both("deberta.encoder.layer", "intermediate.dense output.dense"),
    },
    "t5": {
        "qk": " ".join(f"{at}.{name}.weight" for at in T5 for name in "qk"),
        "vo": " ".join(f"{at}.{name}.weight" for at in T5 for name in "vo"),
        "mlp": both("encoder.block", "layer.1.DenseReluDense.wi layer.1.DenseReluDense.wo")
        + " "
        + both("decoder.block", "layer.2.DenseReluDense.wi layer.2.DenseReluDense.wo"),
    },
    "bloom": OF_FALCON,
    "mpt": {
        "fused": both("transformer.blocks", "attn.Wqkv"),
        "vo": both("transformer.blocks", "attn.out_proj"),
        "mlp": both("transformer.blocks", "ffn.up_proj ffn.down_proj"),
    },
    **dict.fromkeys(("falcon", "falcon, one key", "falcon, grouped"), OF_FALCON),
    **dict.fromkeys(("bigcode", "bigcode, all keys"), OF_GPT2),
    "dbrx": {
        "fused": both("transformer.blocks", "norm_attn_norm.attn.Wqkv"),
        "vo": both("transformer.blocks", "norm_attn_norm.attn.out_proj"),
        "mlp": " ".join(
            f"transformer.blocks.{{}}.ffn.experts.mlp.{name}" for name in ("w1", "v1", "w2")
        ),
    },
}
# how what is fused is cut, by the last part of its name; all else is one matrix
LAYOUTS = {
    "gpt2": {"c_attn": {"parts": 3, "dim": 1}},
    "gpt_neox": {"query_key_value": {"parts": 3, "interleaved": 4}},
    "phi3": {"qkv_proj": {"parts": (32, 16, 16)}, "gate_up_proj": {"parts": 2}},
    "mixtral": {"gate_up_proj": {"parts": 2}},
    "gpt_oss": {"gate_up_proj": {"parts": 2, "dim": 1, "interleaved": 48}},
    "deepseek_v3": {
        "kv_a_proj_with_mqa": {"parts": (8, 4)},
        "kv_b_proj": {"parts": (8, 6), "interleaved": 4},
        "gate_up_proj": {"parts": 2},
    },
    "mamba": {"in_proj": {"parts": 2}, "x_proj": {"parts": (2, 4, 4)}},
    "zamba": {
        "in_proj": {"parts": 2, "interleaved": 64},
        "x_proj_weight": {"parts": (3, 4, 4)},
    },
    **{key: {"in_proj": {"parts": (64, 64, 8, 8, 8)}} for key in ("zamba2", "mamba2")},
    "timesformer": {"qkv": {"parts": 3}},
    "deberta": {"in_proj": {"parts": 3, "interleaved": 4}},
    "bloom": {"query_key_value": {"parts": 3, "interleaved": 4}},
    "mpt": {"Wqkv": {"parts": 3}},
    "falcon": {"query_key_value": {"parts": (8, 8, 8), "interleaved": 4}},
    "falcon, one key": {"query_key_value": {"parts": (32, 8, 8)}},
    "falcon, grouped": {"query_key_value": {"parts": (16, 8, 8), "interleaved": 2}},
    "dbrx": {"Wqkv": {"parts": (32, 16, 16)}}
    | {name: {"parts": 3} for name in ("w1", "v1", "w2")},
    "bigcode": {"c_attn": {"parts": (32, 8, 8)}},
    "bigcode, all keys": {"c_attn": {"parts": 3, "interleaved": 4}},
}


def words_hold(model, expected, layers=(0, 1)):
    """Every word selects what is expected, and no more."""
    names = {word: expanded(text, layers) for word, text in expected.items()}
    assert set(select(model, "attention+mlp")) == set().union(*names.values())
    assert set(select(model, "mlp")) == names["mlp"]
    if "qk" in names or "fused" in names:
        attention = set().union(*(names.get(word, ()) for word in ("qk", "vo", "fused")))
        assert set(select(model, "attention")) == attention
    for word in ("qk", "vo"):
        if "fused" in names:
            with pytest.raises(ValueError, match=r"which must not part .* are one matrix"):
                select(model, word)
        elif word in names:
            assert set(select(model, word)) == names[word]
        else:
            with pytest.raises(ValueError, match="which must select at least one"):
                select(model, word)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_word_selects_its_matrices_and_no_more(name):
    words_hold(built(name), EXPECTED[name])


@pytest.mark.parametrize("name", [n for n in MODELS if n != "gpt2 with cross-attention"])
def test_a_fused_matrix_says_how_it_is_cut(name):
    selection = select(built(name), "attention+mlp")
    expected = LAYOUTS.get(name, {})
    last = {n: n.removesuffix(".weight").rpartition(".")[2] for n in selection}
    assert selection.layouts == {
        n: expected[last[n]] for n in selection if last[n] in expected
    }
    assert {last[n] for n in selection.layouts} == expected.keys()


def test_deepseek_s_latent_attention():
    """Compressed queries are queries; what keys and values share is not to be parted."""
    model = built("deepseek_v3")
    at = both(
        "model.layers",
        "self_attn.q_a_proj self_attn.q_b_proj self_attn.kv_a_proj_with_mqa "
        "self_attn.kv_b_proj self_attn.o_proj",
    )
    assert set(select(model, "attention")) == expanded(at, (0, 1))
    mlp = expanded(both("model.layers", "mlp.gate_proj mlp.up_proj mlp.down_proj"), [0])
    shared = "mlp.shared_experts.gate_proj mlp.shared_experts.up_proj"
    mlp |= expanded(both("model.layers", f"{shared} mlp.shared_experts.down_proj"), [1])
    mlp |= expanded(MOE["mlp"], [1])
    assert set(select(model, "mlp")) == mlp
    with pytest.raises(ValueError, match=r"kv_a_proj_with_mqa.*, in which keys and values"):
        select(model, "qk")


def test_two_attentions_in_one_block():
    """TimeSformer attends in space and in time, and has a matrix after the second."""
    model = built("timesformer")
    blocks = "encoder.layer"
    fused = both(blocks, " ".join(f"{at}.qkv" for at in DIVIDED.split()))
    dense = "attention.output.dense temporal_attention.output.dense"
    expected = {
        "fused": fused,
        "vo": both(blocks, dense),
        "mlp": both(blocks, "temporal_dense intermediate.dense output.dense"),
    }
    words_hold(model, expected)


def test_experts_of_an_unknown_class_may_lie_either_way():
    model = model_of({"mlp.experts.gate_up_proj": (4, 16, 8)}, ["mlp.experts.gate_up_proj"])
    assert set(select(model, "mlp").layouts.values()) == {None}
    assert select(model, "mlp").groups() == [
        {"params": [(name, W) for name, W in select(model, "mlp").items()]}
    ]


def test_keys_and_values_of_cross_attention_are_two_parts():
    layouts = select(built("gpt2 with cross-attention"), "attention").layouts
    assert layouts["transformer.h.0.attn.c_attn.weight"] == {"parts": 3, "dim": 1}
    assert layouts["transformer.h.0.crossattention.c_attn.weight"] == {"parts": 2, "dim": 1}


def test_columns_are_cut_in_a_projection_that_fsdp_wraps_by_itself():
    model = copy.deepcopy(built("gpt2"))
    c_attn = model.get_submodule("transformer.h.0.attn.c_attn")
    c_attn.__class__ = type("FSDPConv1D", (type(c_attn),), {})  # as fully_shard does
    layouts = select(model, "attention").layouts
    assert layouts["transformer.h.0.attn.c_attn.weight"] == {"parts": 3, "dim": 1}


# --- a layout, held against the model's own forward


def indices(layout, W):
    """The places along the cut side of W that each part has: the slow, obvious way."""
    heads, parts = layout.get("interleaved", 1), layout["parts"]
    each = W.shape[layout.get("dim", 0) - 2] // heads
    sizes = [each // parts] * parts if isinstance(parts, int) else list(parts)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        torch.tensor([h * each + start + j for h in range(heads) for j in range(size)])
        for start, size in zip(starts, sizes, strict=True)
    ]


def output(model, name):
    """What a model makes of fixed input."""
    torch.manual_seed(1)
    if name == "timesformer":
        return model(torch.randn(1, 2, 3, 16, 16)).last_hidden_state
    if name == "mha":
        return model(torch.randn(7, 1, 32))
    return model(torch.randint(3, 40, (4, 24))).logits


VALUES, QUERIES = (2, {0, 1}), (0, {1})  # part that is zero, parts without a gradient then
GATE = (0, {1})


@pytest.mark.parametrize(
    "name, leaf, zeroed, without",
    [
        *(
            (name, leaf, *case)
            for name, leaf in (
                ("gpt2", "attn.c_attn"),
                ("gpt_neox", "query_key_value"),
                ("phi3", "qkv_proj"),
                ("timesformer", ".attention.attention.qkv"),
                ("deberta", "in_proj"),
                ("bloom", "query_key_value"),
                ("mpt", "Wqkv"),
                ("falcon", "query_key_value"),
                ("falcon, one key", "query_key_value"),
                ("falcon, grouped", "query_key_value"),
                ("dbrx", "Wqkv"),
                ("bigcode", "c_attn"),
                ("bigcode, all keys", "c_attn"),
                ("mha", "in_proj_weight"),
            )
            for case in (VALUES, QUERIES)
        ),
        ("phi3", "gate_up_proj", *GATE),
        ("mixtral", "gate_up_proj", *GATE),
        ("gpt_oss", "gate_up_proj", *GATE),
        ("deepseek_v3", "kv_b_proj", 1, {0}),  # values; keys
        ("deepseek_v3", "kv_a_proj_with_mqa", 0, {1}),  # what is compressed; the position
        ("mamba", "in_proj", 1, {0}),  # gate; what is gated
        ("mamba", "x_proj", 2, {0, 1}),  # C; the step and B
        ("zamba", "in_proj", 1, {0}),
        ("zamba", "x_proj_weight", 2, {0, 1}),
        ("zamba2", "in_proj", 3, {2, 4}),  # C; B and the steps
        ("mamba2", "in_proj", 3, {2, 4}),
        ("mamba2", "in_proj", 0, {1, 2, 3, 4}),  # gate; what is gated
    ],
)
def test_the_forward_reads_the_parts_as_the_layout_says(name, leaf, zeroed, without):
    if name == "mha":
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(32, 4, 48)
        model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    else:
        model = built(name)
    model.eval()
    selection = select(model, "attention+mlp")
    where = next(n for n in selection if n.removesuffix(".weight").endswith(leaf))
    W, layout = selection[where], selection.layouts[where]
    parts, dim = indices(layout, W), layout.get("dim", 0) - 2
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "bias" in n:
                p.zero_()
        W.index_fill_(dim, parts[zeroed], 0)
    y = output(model, name)
    (y * torch.randn_like(y)).sum().backward()
    others = tuple(d for d in range(W.ndim) if d != W.ndim + dim)
    sizes = W.grad.abs().sum(others)  # (side,)
    for i, part in enumerate(parts):
        assert (sizes[part] == 0).all() == (i in without)
        assert (sizes[part] > 0).all() == (i not in without)


@pytest.mark.parametrize("name", LAYOUTS)
def test_groups_decay_each_part_by_itself(name):
    """Part by part, picked by its places and decayed alone."""
    model = built(name).double()
    selection = select(model, "attention+mlp")
    expected = {}
    for n, W in selection.items():
        layout = selection.layouts.get(n, {"parts": 1})
        dim, by_hand = layout.get("dim", 0) - 2, W.detach().clone()
        for part in indices(layout, W):
            alone = W.detach().index_select(dim, part)
            low_rank_decay_(alone, weight_decay=0.1, method="svd")
            by_hand.index_copy_(dim, part, alone)
        expected[n] = by_hand
    LowRankDecay(selection.groups(), weight_decay=0.1, method="svd").step(lr=1.0)
    for n, W in selection.items():
        torch.testing.assert_close(W.detach(), expected[n], rtol=1e-9, atol=1e-10)


# those of EXPECTED that are trained on one input
TRAINED = [name for name in EXPECTED if name not in ("t5", "gpt2 with cross-attention")]


def loss_of(model, name, step):
    """What a model is trained on at a step: random input, random weights of its output."""
    torch.manual_seed(step)
    shapes = {"wav2vec2": (2, 64), "vit": (2, 3, 16, 16)}
    if name in shapes:
        y = model(torch.randn(shapes[name], dtype=torch.float64))
    else:
        y = model(torch.randint(3, 40, (2, 6)))
    y = y.logits if hasattr(y, "logits") else y.last_hidden_state
    return (y * torch.randn_like(y)).mean()


@torch.no_grad()
def decayed_by_hand(model, name, t):
    """Each matrix of EXPECTED after a decay of strength t, each part of LAYOUTS by itself,
    by a float64 SVD."""
    named = dict(model.named_parameters())
    for n in set().union(*(expanded(text, (0, 1)) for text in EXPECTED[name].values())):
        W, leaf = named[n], n.removesuffix(".weight").rpartition(".")[2]
        layout = LAYOUTS.get(name, {}).get(leaf, {"parts": 1})
        dim = layout.get("dim", 0) - 2
        for part in indices(layout, W):
            alone = W.index_select(dim, part)
            decayed = oracles.decayed_stack(alone, t, rule="low_rank", scale="norm")
            W.index_copy_(dim, part, decayed)


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_is_trained_as_with_the_decay_by_hand(name):
    """Two steps of AdamW; without dropout, so that both see the same."""
    lr, strength = 1e-2, 3.0
    models = [built(name).double().eval() for _ in range(2)]
    for model in models:
        model.set_experts_implementation("eager")  # the others take no float64
    optimizers = [torch.optim.AdamW(m.parameters(), lr=lr) for m in models]
    chosen = select(models[0], "attention+mlp")
    decay = LowRankDecay(chosen, weight_decay=strength, method="svd")
    decay.attach(optimizers[0])
    for step in range(2):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(model, name, step).backward()
            optimizer.step()
        decayed_by_hand(models[1], name, lr * strength)
    assert {group["steps_taken"] for group in decay.param_groups} == {2}
    expected = dict(models[1].named_parameters())
    for n, W in models[0].named_parameters():
        told = f"{n}: {{}}".format  # rounding makes 5e-13 at most
        torch.testing.assert_close(W, expected[n], rtol=0, atol=1e-11, msg=told)


def test_a_selection_goes_into_the_decay_as_it_is():
    whole, grouped = built("phi3"), built("phi3")
    for model, way in ((whole, lambda chosen: chosen), (grouped, Selection.groups)):
        decay = LowRankDecay(way(select(model, "attention+mlp")), weight_decay=0.1)
        decay.step(lr=1.0)
    assert all(map(torch.equal, whole.parameters(), grouped.parameters()))
    decay = LowRankDecay(select(whole, "attention"), weight_decay=0.1)
    fused = "model.layers.0.self_attn.qkv_proj.weight"
    assert {name for name in decay.ranks() if fused in name} == {
        f"{fused}[{i}]" for i in range(3)
    }


# --- names of other libraries


def model_of(shapes, owners=(), blocks=2):
    """A model whose blocks have these modules: by dotted name, the shape of an nn.Linear's
    weight, or of a parameter where the name is in `owners`."""

    def block():
        root = nn.Module()
        for name, shape in shapes.items():
            *path, leaf = name.split(".")
            at = root
            for module in path:
                if not hasattr(at, module):
                    at.add_module(module, nn.Module())
                at = getattr(at, module)
            linear = nn.Linear(*reversed(shape[-2:]), bias=False)
            new = nn.Parameter(torch.randn(shape)) if name in owners else linear
            setattr(at, leaf, new)
        return root

    model = nn.Module()
    model.blocks = nn.ModuleList([block() for _ in range(blocks)])
    return model


SQUARE, THIRDS = (8, 8), (24, 8)


@pytest.mark.parametrize(
    "qk, vo, mlp",
    [
        (  # diffusers
            "attn1.to_q attn1.to_k attn1.add_q_proj attn1.add_k_proj",
            "attn1.to_v attn1.add_v_proj attn1.to_add_out",
            "ff.net",
        ),
        ("attention.q_lin attention.k_lin", "attention.v_lin", "ffn.lin1"),  # DistilBERT
        (  # ESPnet, Conformer
            "self_attn.linear_q self_attn.linear_k self_attn.linear_pos",
            "self_attn.linear_v self_attn.linear_out",
            "feed_forward.w_1",
        ),
        ("attention.wq attention.wk", "attention.wv attention.wo", "feed_forward.w1"),
        ("attn.wq_a attn.wq_b", "attn.wo", "ffn.w2"),  # DeepSeek's own
        ("slf_attn.w_qs slf_attn.w_ks", "slf_attn.w_vs slf_attn.fc", "pos_ffn.w_1"),
        ("att.key att.query", "att.value", "ffn.key ffn.value"),  # RWKV: ffn.key is no key
        (
            "attn.query_global",
            "attn.value_global attn.output",
            "output.dense",
        ),  # Longformer
        ("attn.k_content_proj attn.q_pos_sine_proj", "attn.v_content_proj", "fc1"),  # DETR
        (  # DeBERTa
            "attention.self.query_proj attention.self.pos_key_proj",
            "attention.self.value_proj",
            "intermediate.dense",
        ),
    ],
)
def test_the_names_of_other_libraries(qk, vo, mlp):
    model = model_of(dict.fromkeys(f"{qk} {vo} {mlp}".split(), SQUARE))
    expected = {"qk": both("blocks", qk), "vo": both("blocks", vo)}
    words_hold(model, expected | {"mlp": both("blocks", mlp)})
    assert select(model, "attention+mlp").layouts == {}


def test_transformer_lens_keeps_a_matrix_per_head():
    shapes = dict.fromkeys(("attn.W_Q", "attn.W_K", "attn.W_V"), (2, 8, 4))
    shapes |= {"attn.W_O": (2, 4, 8), "mlp.W_in": (8, 16), "mlp.W_out": (16, 8)}
    biases = dict.fromkeys(("attn.b_Q", "attn.b_K"), (2, 4))
    model = model_of(shapes | biases, owners=(*shapes, *biases))
    at = "blocks.{}.attn"
    assert set(select(model, "qk")) == expanded(f"{at}.W_Q {at}.W_K", (0, 1))
    assert set(select(model, "vo")) == expanded(f"{at}.W_V {at}.W_O", (0, 1))
    mlp = "blocks.{}.mlp.W_in blocks.{}.mlp.W_out"
    assert set(select(model, "mlp")) == expanded(mlp, (0, 1))


@pytest.mark.parametrize(
    "leaf, shape, printed",
    [
        ("attn.qkv", THIRDS, "fused, parts=3"),  # timm
        ("attn.to_qkv", THIRDS, "fused, parts=3"),
        ("attn.c_attn", THIRDS, "fused, parts=3"),  # nanoGPT
        ("attn.to_kv", (16, 8), "fused, parts=2"),
        ("mlp.gate_up_proj", (16, 8), "mlp, parts=2"),
        ("attn.qkv", (16, 8), "fused, layout unknown: decayed as one"),
        ("attn.qkv_proj", THIRDS, "fused, layout unknown: decayed as one"),
        ("attn.query_key_value", THIRDS, "fused, layout unknown: decayed as one"),
        ("attn.linear_kv", (16, 8), "fused, layout unknown: decayed as one"),
        ("attn.wkv_b", (16, 8), "fused, layout unknown: decayed as one"),
        ("attn.kv_b_proj", (16, 8), "fused, layout unknown: decayed as one"),
        ("linear_attn.in_proj_qkvz", (32, 8), "fused, layout unknown: decayed as one"),
        ("mixer.in_proj", (40, 8), "mlp, layout unknown: decayed as one"),
        ("attn.to_q", SQUARE, "qk"),
    ],
)
def test_what_is_fused_is_printed_with_its_layout(leaf, shape, printed):
    selection = select(
        model_of({leaf: shape, "mlp.fc1": SQUARE}, blocks=1), "attention+mlp"
    )
    line = repr(selection).splitlines()[0]
    assert line.split(maxsplit=3)[-1].endswith(printed)
    assert line.split(") ")[1].strip() == printed


# --- what holds blocks, and what is left out


@pytest.mark.parametrize("kind", [nn.ModuleList, nn.Sequential, nn.ModuleDict])
def test_blocks_are_found_in_what_repeats_them(kind):
    """timm and torchvision keep blocks in a Sequential, torchtitan in a ModuleDict."""
    model = model_of({"attn.qkv": THIRDS, "mlp.fc1": SQUARE})
    blocks = {str(i): block for i, block in enumerate(model.blocks)}
    model.blocks = kind(
        *[blocks]
        if kind is nn.ModuleDict
        else ([list(blocks.values())] if kind is nn.ModuleList else blocks.values())
    )
    model.head = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 5))
    names = expanded("blocks.{}.attn.qkv.weight blocks.{}.mlp.fc1.weight", (0, 1))
    assert set(select(model, "attention+mlp")) == names


def wrapped_by_checkpointing(model):
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper

    for i, layer in enumerate(model.transformer.h):
        model.transformer.h[i] = checkpoint_wrapper.checkpoint_wrapper(layer)
    return model


def compiled_in_part(model):
    for layer in model.transformer.h:
        layer.attn = torch.compile(layer.attn, backend="eager")
    return model


@pytest.mark.parametrize(
    "wrap, inserted",
    [
        (nn.DataParallel, "module."),  # and DistributedDataParallel
        (lambda model: torch.compile(model, backend="eager"), "_orig_mod."),
        (compiled_in_part, "_orig_mod."),
        (wrapped_by_checkpointing, "_checkpoint_wrapped_module."),
    ],
)
def test_a_wrapper_adds_to_the_names_alone(wrap, inserted):
    """And a state of the one is a state of the other."""
    plain = select(built("gpt2"), "attention+mlp")
    found = select(wrap(built("gpt2")), "attention+mlp")
    decays = [LowRankDecay(chosen, weight_decay=0.1) for chosen in (plain, found)]
    decays[0].step(lr=0.1)
    decays[1].load_state_dict(decays[0].state_dict())
    decays[0].load_state_dict(decays[1].state_dict())
    assert [name.replace(inserted, "") for name in found] == list(plain)
    assert any(inserted in name for name in found)
    assert [part.split(") ")[1] for part in repr(found).splitlines()] == [
        part.split(") ")[1] for part in repr(plain).splitlines()
    ]


def test_layers_in_a_sequential_are_no_blocks():
    for layers in ([nn.Linear(4, 4)] * 2, [nn.Linear(4, 4), nn.Linear(4, 4)]):
        with pytest.raises(ValueError, match="which must select at least one"):
            select(nn.Sequential(*layers), "attention+mlp")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_what_is_no_weight_matrix_is_left_out():
    tables = {
        "attn.relative_position_bias_table": (9, 2),
        "attn.rel_pos_h": (5, 4),
        "attn.pos_bias_u": (2, 4),
        "attn.emb_rel_k": (5, 4),
        "attn.rpb": (2, 5, 5),
        "pos_embed": (6, 8),
        "register_tokens": (3, 8),
        "perceiver.latents": (6, 8),
        "perceiver.latents_2d": (6, 8),
        "attn.latent": (6, 8),
        "attn.prompt": (5, 8),
        "attn.soft_prompts": (2, 5, 8),
        "query_tokens": (4, 8),
        "attn.relpos": (9, 2),
        "attn.relpos_bias_h": (9, 4),
        "cls_token": (2, 8),
        "image_positions": (6, 8),
        "mixer.A_log": (8, 4),
        "mlp.experts.down_proj_bias": (4, 8),
    }
    model = model_of({**tables, "attn.to_q": SQUARE}, owners=tables)
    for block in model.blocks:
        block.prompts = nn.ParameterList(nn.Parameter(torch.ones(5, 8)) for _ in range(2))
        block.router = nn.Module()
        block.router.classifier = nn.Linear(8, 4)
        block.old = nn.utils.weight_norm(nn.Linear(8, 8))
        block.norm = GatedRMSNormGated()
    assert set(select(model, "attention+mlp")) == expanded(
        "blocks.{}.attn.to_q.weight", (0, 1)
    )


def test_maps_with_the_names_of_tables_are_taken():
    """What a table is called may be the name of a module whose weight is a map, or of what
    a map goes to."""
    maps = "attn.latents attn.prompt prompts attn.pos positions tokens attn.latent_proj"
    expected = expanded(both("blocks", maps), (0, 1))
    raw = {"mlp.prompts_visual_projection": SQUARE, "mlp.latent_proj": SQUARE}
    expected |= {f"blocks.{i}.{name}" for i in (0, 1) for name in raw}
    model = model_of(dict.fromkeys(maps.split(), SQUARE) | raw, owners=raw)
    assert set(select(model, "attention+mlp")) == expected


class GatedRMSNormGated(nn.Module):
    """A norm with a weight per head."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 8))


def test_a_copy_of_mamba_is_selected_alike():
    """A copy loses the mark that its matrix A has."""
    model = built("mamba")
    names = list(select(model, "attention+mlp"))
    assert list(select(copy.deepcopy(model), "attention+mlp")) == names


def test_frozen_weights_are_left_out():
    model = built("llama")
    model.model.layers[0].requires_grad_(False)
    assert set(select(model, "qk")) == expanded(LLAMA["qk"], [1])


# --- groups


def test_groups_hold_one_layout_each_and_every_matrix_once():
    selection = select(built("phi3"), "attention+mlp")
    groups = selection.groups(weight_decay=0.2)
    named = [entry for group in groups for entry in group["params"]]
    assert sorted(name for name, W in named) == sorted(selection)
    assert all(W is selection[name] for name, W in named)
    assert [group.get("parts") for group in groups] == [None, (32, 16, 16), 2]
    assert all(group["weight_decay"] == 0.2 for group in groups)


# --- adapters

# peft asks transformers by a name that these replaced
OF_PEFT = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.* is deprecated")


def adapted(name, targets):
    """The model with LoRA on the modules of these names."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=targets, fan_in_fan_out=name == "gpt2")
    return peft.get_peft_model(built(name), config)


@OF_PEFT
def test_lora_trains_and_so_gives_its_factors_alone():
    model = adapted("llama", ["q_proj", "v_proj", "down_proj"])
    at = "base_model.model.model.layers.{}"
    factors = {
        word: " ".join(f"{at}.{leaf}.lora_{side}.default.weight" for side in "AB")
        for word, leaf in (
            ("qk", "self_attn.q_proj"),
            ("vo", "self_attn.v_proj"),
            ("mlp", "mlp.down_proj"),
        )
    }
    words_hold(model, factors)
    assert select(model, "attention+mlp").layouts == {}


@OF_PEFT
def test_lora_on_a_fused_matrix_is_cut_in_its_second_factor():
    model = adapted("gpt2", ["c_attn"])
    layouts = select(model, "attention").layouts
    at = "base_model.model.transformer.h.{}.attn.c_attn.lora_B.default.weight"
    assert layouts == {name: {"parts": 3} for name in expanded(at, (0, 1))}
    model = adapted("phi3", ["qkv_proj"])
    layouts = select(model, "attention").layouts
    at = "base_model.model.model.layers.{}.self_attn.qkv_proj.lora_B.default.weight"
    assert layouts == {name: {"parts": (32, 16, 16)} for name in expanded(at, (0, 1))}


def test_a_class_under_another_name_is_still_known():
    """FSDP2 gives a module a class of its own, with the first one as its base."""
    model = built("gpt_neox")
    for layer in model.gpt_neox.layers:
        attention = layer.attention
        kind = type(attention)
        attention.__class__ = type(f"FSDP{kind.__name__}", (SimpleMixin, kind), {})
    layouts = select(model, "attention").layouts
    assert set(map(str, layouts.values())) == {"{'parts': 3, 'interleaved': 4}"}


class SimpleMixin:
    """What FSDP2 puts before the class."""
