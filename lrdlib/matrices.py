"""Which matrices to decay: the words for parts of a model, and `select`, which picks them.

A word stands for roles of lrdlib's own parameters (`PLACES`); in another nn.Module, for the
matrices inside repeated blocks, told apart by the names that the usual libraries give them.
Where a library keeps several matrices in one parameter, `LAYOUTS` says how it is cut, and
`cut` cuts it. At the end, whether two names are of one parameter.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from lrdlib._check import check_choice, check_instance, shown
from lrdlib.model import role

# settings of LowRankDecay that cut a fused matrix, and those of one that is not
Layout = dict[str, Any]
UNCUT: Layout = {"parts": 1, "dim": 0, "interleaved": 1}

# words for parts of the model, and the roles of its parameters there
PLACES = {
    "qk": ("query", "key"),
    "vo": ("value", "output"),
    "mlp": ("up", "down"),
    "embedding": ("embedding", "position"),
    "head": ("head",),
}
GROUPS = ("qk", "vo", "mlp")  # the words for what is in a block


class Selection(dict[str, Tensor]):
    """Matrices by name, as `select` picks them; printed, a line each: name, shape, role,
    and how a fused one is cut.

    layouts: by name, the settings of `LowRankDecay` (parts, dim, interleaved) that cut a fused
    matrix into those that it holds; None where it is fused and nobody can say how. A name
    that is missing here is one plain matrix. roles: by name, what is printed of it.

    A plain dict that is made of it has forgotten both: choose some of it by `only`, and join
    two by `|`, `|=` or `update`.
    """

    def __init__(
        self,
        matrices: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = (),
        layouts: Mapping[str, Layout | None] | None = None,
        roles: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(matrices)
        self.layouts = dict(layouts or {})
        self.roles = dict(roles or {})

    def only(self, which: Callable[[str, Tensor], bool]) -> "Selection":
        """Those of which a predicate (name, tensor) -> bool is true."""
        chosen = {name: W for name, W in self.items() if which(name, W)}
        return Selection(chosen, self.layouts, self.roles)

    def copy(self) -> "Selection":
        """The same again."""
        return Selection(self, self.layouts, self.roles)

    def update(  # type: ignore[override]
        self,
        other: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] = (),
        /,
        **matrices: Tensor,
    ) -> None:
        """Take in others too; those of a Selection with what it knows of them."""
        super().update(other, **matrices)
        if isinstance(other, Selection):
            known: list[tuple[dict[str, Any], Mapping[str, Any]]]
            known = [(self.layouts, other.layouts), (self.roles, other.roles)]
            for mine, theirs in known:
                for name in other:
                    mine.pop(name, None)
                mine |= {name: theirs[name] for name in other if name in theirs}

    def __or__(self, other: Mapping[str, Tensor]) -> "Selection":  # type: ignore[override]
        if not isinstance(other, Mapping):
            return NotImplemented
        joined = self.copy()
        joined.update(other)
        return joined

    def __ror__(self, other: Mapping[str, Tensor]) -> "Selection":  # type: ignore[override]
        return Selection(other) | self if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> "Selection":  # type: ignore[override,misc]
        self.update(other)
        return self

    def groups(self, **settings: Any) -> list[dict[str, Any]]:
        """Parameter groups for `LowRankDecay`, one for each layout, each with `settings`
        too. A matrix of unknown layout is in the group of the plain ones. Of a cut that
        settings have (parts, dim, interleaved) a matrix of known layout takes none.

        >>> block = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2)})
        >>> for group in select(nn.ModuleList([block]), "attention").groups(every=4):
        ...     print([name for name, W in group.pop("params")], group)
        ['0.attention.in_proj_weight'] {'every': 4, 'parts': 3}
        ['0.attention.out_proj.weight'] {'every': 4}
        """
        found: dict[str, dict[str, Any]] = {}
        for name, W in self.items():
            layout = self.layouts.get(name) or {}
            own = {key: UNCUT[key] for key in UNCUT if layout and key in settings} | layout
            group = found.setdefault(repr(layout), {"params": [], **settings, **own})
            group["params"].append((name, W))
        return list(found.values())

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        known = {name for names in PLACES.values() for name in names}
        parts = {n: role(n) if role(n) in known else _part_of(n) for n in self} | self.roles
        return "\n".join(
            f"{name:{width}}  {tuple(W.shape)!s:14} {parts[name]}{self._cut(name)}"
            for name, W in self.items()
        )

    def _cut(self, name: str) -> str:
        """What is printed of a layout: ", parts=3, dim=1"; nothing for a plain matrix."""
        layout = self.layouts.get(name, {})
        if layout is None:
            return ", layout unknown: decayed as one"
        return "".join(f", {setting}={value}" for setting, value in layout.items())


def select(
    model: nn.Module | Mapping[str, Tensor],
    which: str | re.Pattern[str] | Callable[[str, Tensor], bool],
    *,
    exclude: str | re.Pattern[str] | None = None,
) -> Selection:
    """The matrices to decay, by name, picked by what they do in the model.

    model: lrdlib parameters (whose roles `lrdlib.model` defines) or any nn.Module. which:

    "attention+mlp": the matrices inside the transformer blocks, as the paper decays them.
        In an nn.Module these are the matrices and stacks of matrices (2-D and 3-D
        parameters, no side of length 1; a stack is along the first side, as experts and
        heads are) of the modules inside an nn.ModuleList, or inside
        an nn.Sequential or nn.ModuleDict of two or more modules of one class: repeated
        blocks. Left out are embeddings and what is tied to one, heads (named lm_head),
        convolutions, norms, biases, the router of a mixture of experts, what a
        parametrization, weight_norm or pruning keeps, what is frozen, Mamba's A_log and D,
        and what is marked _no_weight_decay; and learned tables, which are no maps, by what
        the parameter itself is called: with pos, position(s), emb or latents as a word, as
        in rel_pos_h; with prompt(s) as the last word; latent, rpb; and with embed, token,
        relpos, bias or _table in it, as in query_tokens. Print what it returns.
    "qk", "vo", "mlp": the query and key, the value and output, or the other matrices of the
        blocks. In an nn.Module these go by the usual names: q_proj, query, to_q, wq, W_Q
        and their like; what else is in a module named attn or attention is an output, and
        all else, as a Mamba mixer, is "mlp".
    "embedding" (with the positions), "head": of lrdlib's own parameters. All these words
        may be joined by "+", as in "vo+mlp".
    a compiled regular expression, searched in the name, or a predicate (name, tensor) ->
        bool: of all parameters.

    exclude: a regular expression, compiled or not; a parameter in whose name it is found
        is left out.

    What is returned is a dict by name that also knows, of a matrix in which several are
    fused (queries, keys and values; gate and up), how it is cut. `LowRankDecay` decays each
    part by itself. Where that cannot be known, the printed line says "layout unknown", and
    the matrix is decayed as one unless it is given in a group with `parts`.

    Raises ValueError for another word, for "qk" or "vo" where they are one matrix, for the
    kernel of an nn.Conv1d, and for an empty selection; TypeError for another kind of model.

    >>> import torch
    >>> W = torch.ones(4, 4)
    >>> params = {"embedding": W, "0.query": W, "0.up": W}
    >>> list(select(params, "attention+mlp")), list(select(params, "qk"))
    (['0.query', '0.up'], ['0.query'])
    >>> select(params, "attention+mlp")
    0.query  (4, 4)         query
    0.up     (4, 4)         up
    """
    named, parts = _parameters(model)
    if exclude is not None:
        if not isinstance(exclude, (str, re.Pattern)):
            raise TypeError(f"exclude must be a regular expression, got {shown(exclude)}")
        try:
            re.compile(exclude)
        except re.error as error:
            raise ValueError(
                f"exclude must be a regular expression, got {shown(exclude)}: {error}"
            ) from None
        named = {name: W for name, W in named.items() if not re.search(exclude, name)}
    if isinstance(which, re.Pattern):
        chosen = {name: W for name, W in named.items() if which.search(name)}
    elif callable(which):
        chosen = {name: W for name, W in named.items() if which(name, W)}
    else:
        known = GROUPS if isinstance(model, nn.Module) else tuple(PLACES)
        words = set(_words(which)) if isinstance(which, str) else set()
        if not words or not words <= set(known):
            check_choice(
                "which", which, ("attention+mlp", *known, "a predicate (name, tensor)")
            )
        of_attention = words & {"qk", "vo"}
        fused = [name for name in named if parts.get(name) == "fused"]
        if fused and len(of_attention) == 1:
            raise ValueError(
                f"which must not part {fused[0]}, in which "
                f"{' and '.join(_held(fused[0]))} are one matrix, got {shown(which)} "
                '(take "attention", all of it)'
            )
        taken = words | ({"fused"} if of_attention else set())
        chosen = {name: W for name, W in named.items() if parts.get(name) in taken}
    if not chosen:
        frozen = sum(not W.requires_grad for W in named.values())
        hint = (
            f" (it looks inside repeated blocks, and leaves out the frozen: {frozen} here)"
        )
        if not isinstance(model, nn.Module):
            hint = " (in a mapping it knows lrdlib's own names: give it the nn.Module)"
        raise ValueError(
            f"which must select at least one of the {len(named)} parameters, got none from "
            f"{shown(which)}{'' if callable(which) else hint}"
        )
    _check_kernels(model, chosen)
    roles = parts if isinstance(model, nn.Module) else {}
    return Selection(
        chosen, _layouts(model, chosen), {n: roles[n] for n in chosen if n in roles}
    )


def _parameters(model: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All parameters by name; and, of those that a decay may be for, the word of PLACES, or
    "fused" for queries, keys and values in one."""
    if isinstance(model, nn.Module):
        attention = tuple(
            f"{name}."
            for name, m in model.named_modules()
            if isinstance(m, nn.MultiheadAttention)
        )
        blocks = {name: _part_of(name) for name in _block_matrices(model)}
        for name, part in blocks.items():
            if part == "mlp" and name.startswith(attention):
                blocks[name] = "vo"  # what its class says, whatever its name
        return dict(model.named_parameters()), blocks
    if not isinstance(model, Mapping):
        raise TypeError(
            "model must be an nn.Module or a mapping of tensors, got "
            f"{type(model).__name__}"
        )
    for name, W in model.items():
        check_instance("model's names", name, str)
        check_instance(f"model[{name!r}]", W, Tensor)
    if not model:
        raise ValueError("model must hold at least one parameter, got none")
    words = {r: word for word, roles in PLACES.items() for r in roles}
    return dict(model), {n: words[role(n)] for n in model if role(n) in words}


# What a parameter's module, or the parameter itself, is called in the libraries that people
# use: transformers, timm, diffusers, torch. A name is cut into words; where every word is of
# HELD or BESIDES, the letters say what the matrix holds.
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
HELD = {"query": "q", "key": "k", "value": "v", "pos": "k"}  # positions act as keys do
BESIDES = {
    *("to", "add", "in", "proj", "project", "projection", "lin", "linear", "layer", "fc"),
    *("w", "a", "b", "down", "up", "attn", "self", "cross", "weight", "with", "mqa"),
    *("relative", "fused", "dense", "head", "global", "content", "sine", "points", "e"),
    *("layout", "text", "vision", "msa", "protein", "structure"),
}
OF_ALL_THREE = re.compile(r"in_proj_weight|c_attn")
OF_ADAPTERS = re.compile(r"\.(base_layer|lora_[AB](\.\w+)?)(?=\.weight$|$)")  # peft
OF_ATTENTION = re.compile(r"attn|attention", re.I)
OF_MLP = re.compile(r"mlp|ffn?|feed_?forward|experts?", re.I)


def _part_of(name: str) -> str:
    """The part of a transformer block that a parameter of this name belongs to: "qk", "vo",
    "fused" for keys and values (and queries) in one matrix, or "mlp" for all else.

    >>> _part_of("layers.0.self_attn.q_proj.weight"), _part_of("layers.0.self_attn.o_proj.weight")
    ('qk', 'vo')
    """
    modules, leaf = _place(name)
    if any(OF_MLP.fullmatch(module) for module in modules):
        return "mlp"
    held = _letters(leaf)
    if held:
        return "qk" if "v" not in held else "vo" if held == {"v"} else "fused"
    if not any(OF_ATTENTION.search(module) for module in modules):
        return "mlp"
    return "fused" if leaf == "in_proj" else "vo"


def _place(name: str) -> tuple[list[str], str]:
    """The modules of a block that a parameter is in, and the name that tells what it is:
    its own, or of its module if it is a `weight`.

    >>> _place("model.layers.0.attn.c_attn.lora_B.default.weight")
    (['attn'], 'c_attn')
    """
    *modules, leaf = OF_ADAPTERS.sub("", name).removesuffix(".weight").split(".")
    block = next((i for i, module in enumerate(modules) if module.isdigit()), -1)
    return modules[block + 1 :], leaf  # what the blocks are kept in has a name of its own


def _check_kernels(model: Any, chosen: Mapping[str, Tensor]) -> None:
    """Raise ValueError if the kernel (out, in, k) of a one-dimensional convolution of an
    nn.Module is among those chosen: it has the shape of a stack and is none."""
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    for name, module in modules:
        kernel = f"{name}.weight".lstrip(".")
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)) and kernel in chosen:
            raise ValueError(
                "which must leave out kernels of convolutions, which are no stacks of "
                f"matrices, got {kernel} {tuple(chosen[kernel].shape)}"
            )


def _letters(leaf: str) -> set[str]:
    """Which of q, k and v a matrix of this name holds; none for another matrix.

    >>> sorted(_letters("query_key_value")), sorted(_letters("W_Q")), _letters("up_proj")
    (['k', 'q', 'v'], ['q'], set())
    """
    held: set[str] = set()
    if OF_ALL_THREE.fullmatch(leaf):
        return {"q", "k", "v"}
    for word in map(str.lower, WORDS.findall(leaf)):
        letters = HELD.get(word, re.sub("^w(?=.)|(?<=.)s$", "", word))  # wq, qs
        if set(letters) <= set("qkvz"):  # z: a gate that linear attention keeps with them
            held |= set(letters) - {"z"}
        elif word not in BESIDES:
            return set()
    return held


def _held(name: str) -> list[str]:
    """What a fused matrix holds, in words."""
    words = {"q": "queries", "k": "keys", "v": "values"}
    held = _letters(_place(name)[1]) or set(words)
    return [word for letter, word in words.items() if letter in held]


def _layouts(model: Any, matrices: Mapping[str, Tensor]) -> dict[str, Layout | None]:
    """How each fused matrix of an nn.Module is cut; none of lrdlib's own are fused."""
    if not isinstance(model, nn.Module):
        return {}
    modules = dict(model.named_modules())
    found = {name: _layout(modules, name, W) for name, W in matrices.items()}
    return {name: layout for name, layout in found.items() if layout != {}}


def _layout(modules: Mapping[str, nn.Module], name: str, W: Tensor) -> Layout | None:
    """How W is cut; {} if it is one matrix, None if it may be several and nobody can say
    how."""
    if re.search(r"\.lora_A(\.\w+)?\.weight$", name):
        return {}  # (rank, in), which the parts share
    whole = OF_ADAPTERS.sub("", name).removesuffix(".weight")  # a module, or W itself
    holder, leaf = modules[whole.rpartition(".")[0]], whole.rpartition(".")[2]
    base = getattr(modules.get(whole), "weight", W)  # what an adapter is for
    owners = {kind.__name__ for kind in type(modules[name.rpartition(".")[0]]).__mro__}
    across: Layout = {"dim": 1} if "Conv1D" in owners else {}  # transformers' (in, out)
    kinds = [f"{kind.__name__}.{leaf}" for kind in type(holder).__mro__]
    for pattern, layout in LAYOUTS.items():
        if any(re.fullmatch(pattern, kind) for kind in kinds):
            return _fitting(layout(holder, base) | across, W)
    return None if _part_of(name) == "fused" or leaf == "in_proj" else {}


def _fitting(layout: Layout, W: Tensor) -> Layout | None:
    """The layout, if W can be cut so; None if it cannot."""
    side = W.shape[layout.get("dim", 0) - 2]
    times, parts = layout.get("interleaved", 1), layout.get("parts", 0)
    if isinstance(parts, int):
        fits = parts > 0 and times > 0 and side % (times * parts) == 0
    else:
        fits = min(parts) > 0 and times * sum(parts) == side
    return layout if fits else None


def _number(module: nn.Module, *names: str) -> int:
    """The first whole number of these names that a module or its config has; 0 for none."""
    config = getattr(module, "config", None)
    found = (getattr(of, name, None) for name in names for of in (module, config))
    return next((number for number in found if isinstance(number, int)), 0)


def _heads(module: nn.Module) -> int:
    """The number of heads of an attention module."""
    return _number(module, "num_heads", "num_attention_heads")


def _grouped(module: nn.Module, W: Tensor) -> Layout:
    """All queries, then the keys, then the values, of as many heads as share them."""
    heads = _number(module, "num_key_value_heads", "kv_heads", "num_kv_heads")
    shared = heads * _number(module, "head_dim")
    return {"parts": (W.shape[0] - 2 * shared, shared, shared)}


def _head_by_head(module: nn.Module, W: Tensor) -> Layout:
    """A head's query, key and value, then the next head's."""
    return {"parts": 3, "interleaved": _heads(module)}


def _of_bigcode(module: nn.Module, W: Tensor) -> Layout:
    """One key and value for all queries, or one for each; not of cross-attention."""
    if getattr(module, "is_cross_attention", False):
        return {}
    one = getattr(module, "multi_query", False)
    return _grouped(module, W) if one else _head_by_head(module, W)


def _of_falcon(module: nn.Module, W: Tensor) -> Layout:
    """One key and value after the queries that share them; or of each head; or of all."""
    size, shared = _number(module, "head_dim"), _number(module, "num_kv_heads")
    queries = _heads(module) // max(shared, 1) * size
    return {"parts": (queries, size, size)} | (
        {"interleaved": shared} if shared > 1 else {}
    )


def _of_gate_and_up(module: nn.Module, W: Tensor) -> Layout:
    """Gate, then up, of a module; or of each expert, where its class says whether they are
    rows or columns, and whether they alternate."""
    columns = getattr(module, "is_transposed", "Llama4" in type(module).__name__)
    if W.ndim == 3 and not columns and not hasattr(module, "is_transposed"):
        return {}
    layout: Layout = {"parts": 2} | ({"dim": 1} if columns else {})
    alternate = not getattr(module, "is_concatenated", True)
    return layout | ({"interleaved": W.shape[columns - 2] // 2} if alternate else {})


def _of_mamba(module: nn.Module, W: Tensor) -> Layout:
    """The step's low-rank factor, then B and C."""
    state = _number(module, "ssm_state_size", "d_state")
    return {"parts": (_number(module, "time_step_rank", "dt_rank"), state, state)}


def _of_mamba2(module: nn.Module, W: Tensor) -> Layout:
    """The gate, what it gates, B, C, and the steps of the heads."""
    inner, heads = _number(module, "intermediate_size"), _number(module, "num_heads")
    state = _number(module, "n_groups") * _number(module, "ssm_state_size")
    return {"parts": (inner, inner, state, state, heads)}


def _thirds(module: nn.Module, W: Tensor) -> Layout:
    """Three blocks, if they are square."""
    return {"parts": 3} if max(W.shape) == 3 * min(W.shape) else {}


# How a parameter that holds several matrices is cut, by its holder's class and its own name,
# as these libraries read it; the first that fits. (holder, whole matrix) -> layout; {} where
# nobody can say.
LAYOUTS: dict[str, Callable[[nn.Module, Tensor], Layout]] = {
    r"MultiheadAttention\.in_proj_weight": lambda module, W: {"parts": 3},
    r"(GPTNeoX(Japanese)?|Bloom|Persimmon)Attention\.query_key_value": _head_by_head,
    r"FalconAttention\.query_key_value": _of_falcon,
    r"DisentangledSelfAttention\.in_proj": _head_by_head,  # DeBERTa
    r"GPTBigCodeAttention\.c_attn": _of_bigcode,
    r"(Phi3|Phi4Multimodal|Dbrx)Attention\.(qkv_proj|Wqkv)": _grouped,
    r"\w+\.kv_a_proj_with_mqa": lambda module, W: {
        "parts": (_number(module, "kv_lora_rank"), _number(module, "qk_rope_head_dim"))
    },
    r"\w+\.kv_b_proj": lambda module, W: {
        "parts": (_number(module, "qk_nope_head_dim"), _number(module, "v_head_dim")),
        "interleaved": _heads(module),
    },
    r"ZambaMambaMixer\.in_proj": lambda module, W: {
        "parts": 2,
        "interleaved": W.shape[0] // 2,
    },
    r"(\w*Mamba2Mixer|Zamba2MambaMixer)\.in_proj": _of_mamba2,
    r"(\w*MambaMixer|Mamba)\.in_proj": lambda module, W: {"parts": 2},
    r"(\w*MambaMixer|Mamba)\.x_proj(_weight)?": _of_mamba,
    r"\w+\.gate_up_proj": _of_gate_and_up,
    r"DbrxExpertGLU\.(w1|v1|w2)": lambda module, W: {
        "parts": _number(module, "moe_num_experts")
    },
    # by custom alone: timm, diffusers, nanoGPT
    r"\w+\.to_kv": lambda module, W: {"parts": 2},
    r"\w+\.c_attn": lambda module, W: (
        {"parts": 2} if getattr(module, "is_cross_attention", False) else _thirds(module, W)
    ),
    r"\w+\.((to_)?qkv|[wW]qkv)": _thirds,
}


def places(where: str) -> tuple[str, ...]:
    """The roles of lrdlib's parameters that `where` names, as `select` takes it; none for
    another word.

    >>> places("vo+head")
    ('value', 'output', 'head')
    """
    return tuple(role for word in _words(where) for role in PLACES[word])


def _words(where: str) -> list[str]:
    """The words of PLACES that `where` joins; none where it joins others, or one twice."""
    words = where.replace("attention", "qk+vo").split("+")
    return words if len(set(words)) == len(words) and set(words) <= PLACES.keys() else []


def _block_matrices(model: nn.Module) -> set[str]:
    """Names of the matrices of modules inside repeated blocks that a decay is for."""
    modules = dict(model.named_modules())
    lists = [
        f"{name}." if name else ""
        for name, module in modules.items()
        if _repeats(module) and "parametrizations" not in name.split(".")
    ]
    embeddings = {
        id(m.weight)
        for m in model.modules()
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag))
    }
    return {
        name
        for name, W in model.named_parameters()
        if name.startswith(tuple(lists))
        and W.ndim in (2, 3)
        and 1 not in W.shape[-2:]
        and W.requires_grad
        and id(W) not in embeddings
        and not getattr(W, "_no_weight_decay", False)
        and not NO_MATRIX.search(_own_name(name))
        and not _is_other(modules, name)
    }


def _repeats(module: nn.Module) -> bool:
    """Whether blocks are kept in it: a ModuleList; or two or more modules of one class, with
    modules of their own, in a Sequential or a ModuleDict."""
    if isinstance(module, (nn.Sequential, nn.ModuleDict)):
        kept = list(module.children())
        alike = len(kept) > 1 and len({type(block) for block in kept}) == 1
        return alike and any(True for _ in kept[0].children())
    return isinstance(module, nn.ModuleList)


# 2-D and 3-D parameters that are no weight matrix by their own name: biases; learned tables
# of positions, tokens, latents and prompts, which map no activations; Mamba's A_log; and what
# weight_norm (its first kind) and pruning keep
NO_MATRIX = re.compile(
    r"bias|^b_|(^|_)(pos|positions?|emb)(_|$)|relpos|embed|token|_table|^rpb$"
    r"|(^|_)latents(_|$)|^latent$|(^|_)prompts?$|A_logs?$|weight_(g|v|orig)$"
)


def _own_name(name: str) -> str:
    """What a parameter is called by who holds it; of one in a ParameterList, the list's.

    >>> _own_name("blocks.0.pos_embed"), _own_name("blocks.0.prompts.3")
    ('pos_embed', 'prompts')
    """
    return re.sub(r"(\.\d+)+$", "", name).rpartition(".")[2]


def _has_experts(module: nn.Module | None, gate: nn.Module) -> bool:
    """Whether a module has experts, or a stack of as many matrices as the gate tells
    apart."""
    if module is None or hasattr(module, "experts"):
        return module is not None
    told = getattr(getattr(gate, "weight", None), "shape", (0,))[0]
    return any(W.ndim == 3 and len(W) == told for W in module.parameters())


def _is_other(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Whether the parameter belongs to a convolution, a norm, a parametrization, a head or
    a router: what is called so, or a gate beside experts or their stack (experts, m, n)."""
    path = name.split(".")[:-1]
    owner, above = modules[".".join(path)], modules[".".join(path[:-1])] if path else None
    gate = path and path[-1] in ("gate", "wg") and _has_experts(above, owner)
    return bool(
        isinstance(owner, nn.modules.conv._ConvNd)
        or re.search(r"Norm(?![a-z])|Router", type(owner).__name__)
        or "parametrizations" in path
        or "router" in path
        or (name.endswith(".D") and hasattr(owner, "A_log"))  # Mamba's skip, a gain
        or any(module.startswith("lm_head") for module in path)
        or gate
    )


def cut(W: Tensor, group: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Views (..., repetitions, rows, columns) of the parts of a fused matrix W (..., m, n):
    equal blocks, or blocks of these sizes, of each repetition of its rows (dim 0) or, then
    transposed, of its columns (dim 1).

    >>> import torch
    >>> how = {"parts": (2, 1), "dim": 0, "interleaved": 4}
    >>> [tuple(part.shape) for part in cut(torch.ones(12, 5), how)]
    [(4, 2, 5), (4, 1, 5)]
    """
    X = (W if group["dim"] == 0 else W.mT).unflatten(-2, (group["interleaved"], -1))
    parts = group["parts"]
    sizes = X.shape[-2] // parts if isinstance(parts, int) else list(parts)
    return X.split(sizes, dim=-2)


def matrix_of(part: Tensor) -> Tensor:
    """A part (..., repetitions, rows, columns) as a matrix: a view, if there is one."""
    return part.flatten(-3, -2)


def like(W: Tensor, part: Tensor) -> Tensor:
    """A tall matrix W, seen as the part that it was made from."""
    wide = part.shape[-3:-1].numel() < part.shape[-1]
    return (W.mT if wide else W).unflatten(-2, part.shape[-3:-1])


def check_cut(name: str, W: Tensor, group: Mapping[str, Any]) -> None:
    """The parts of W are equal, or add up to it, in each of their repetitions."""
    side, what = W.shape[group["dim"] - 2], ("rows", "columns")[group["dim"]]
    times, parts = group["interleaved"], group["parts"]
    if side % times:
        raise ValueError(
            f"interleaved must divide the {side} {what} of {name}, got {shown(times)}"
        )
    every = "" if times == 1 else f"each {side // times} of "
    if isinstance(parts, int):
        if side // times % parts:
            raise ValueError(
                f"parts must divide {every}the {side} {what} of {name}, got {shown(parts)}"
            )
    elif sum(parts) != side // times:
        raise ValueError(
            f"parts must add up to {every}the {side} {what} of {name}, got {shown(parts)}"
        )


# modules that hold another and nothing else: DataParallel, torch.compile, FSDP,
# checkpointing of activations
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def same_parameter(name: Any, other: str) -> bool:
    """Whether two names are of one parameter, but for wrappers inside the model and modules
    around it.

    >>> same_parameter("module.blocks.0._orig_mod.weight", "blocks.0.weight")
    True
    >>> same_parameter("blocks.0.weight", "net.blocks.0.weight")
    True
    >>> same_parameter("decoder.blocks.0.weight", "encoder.blocks.0.weight")
    False
    """
    bare = [
        "".join(f".{m}" for m in str(n).split(".") if m not in WRAPPERS)
        for n in (name, other)
    ]
    short, long = sorted(bare, key=len)
    return long.endswith(short)
