"""Which matrices to decay: the words for parts of a model, and `select`, which picks them.

A word stands for roles of lrdlib's own parameters (`PLACES`); in another nn.Module, for the
matrices inside repeated blocks, told apart by the names that the usual libraries give them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lrdlib._check import check_choice, check_instance, shown
from lrdlib.model import role

# words for parts of the model, and the roles of its parameters there
PLACES = {
    "qk": ("query", "key"),
    "vo": ("value", "output"),
    "mlp": ("up", "down"),
    "embedding": ("embedding", "position"),
    "head": ("head",),
}


class Selection(dict[str, Tensor]):
    """Matrices by name, as `select` picks them; printed, a line each: name, shape, role."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        known = {name for names in PLACES.values() for name in names}
        parts = {n: role(n) if role(n) in known else _part_of(n) for n in self}
        return "\n".join(
            f"{name:{width}}  {tuple(W.shape)!s:14} {parts[name]}"
            for name, W in self.items()
        )


def select(
    model: nn.Module | Mapping[str, Tensor],
    which: str | re.Pattern[str] | Callable[[str, Tensor], bool],
    *,
    exclude: str | None = None,
) -> Selection:
    """The matrices to decay, by name, picked by what they do in the model.

    model: lrdlib parameters (whose roles `lrdlib.model` defines) or any nn.Module. which:

    "attention+mlp": the matrices inside the transformer blocks, as the paper decays them.
        In an nn.Module these are the matrices and stacks of matrices (2-D and 3-D
        parameters, no side of length 1) of the modules inside an nn.ModuleList, where
        repeated blocks live. Left out are embeddings and what is tied to one, heads (named
        lm_head), convolutions, norms, the router of a mixture of experts, what
        torch.nn.utils.parametrize keeps, what is frozen, and what is marked
        _no_weight_decay, as Mamba's A_log is. Print what it returns: it cannot know a table
        of positions inside a block, and finds no blocks that are kept in an nn.Sequential.
        A fused query-key-value matrix is one matrix here: give it a group with parts=3.
    "qk", "vo", "mlp": the query and key, the value and output, or the other matrices of the
        blocks. In an nn.Module these go by the usual names: q_proj, query, to_q, wq and
        their like; what else is in a module named attn or attention is an output.
    "embedding" (with the positions), "head": of lrdlib's own parameters. All these words
        may be joined by "+", as in "vo+mlp".
    a compiled regular expression, searched in the name, or a predicate (name, tensor) ->
        bool: of all parameters.

    exclude: a regular expression; a parameter in whose name it is found is left out.

    Raises ValueError for another word, for "qk" or "vo" where they are one matrix, and for
    an empty selection; TypeError for another kind of model.

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
        check_instance("exclude", exclude, str)
        named = {name: W for name, W in named.items() if not re.search(exclude, name)}
    if isinstance(which, re.Pattern):
        chosen = {name: W for name, W in named.items() if which.search(name)}
    elif callable(which):
        chosen = {name: W for name, W in named.items() if which(name, W)}
    else:
        known = ("qk", "vo", "mlp") if isinstance(model, nn.Module) else tuple(PLACES)
        words = set(_words(which)) if isinstance(which, str) else set()
        if not words or not words <= set(known):
            check_choice(
                "which", which, ("attention+mlp", *known, "a predicate (name, tensor)")
            )
        of_attention = words & {"qk", "vo"}
        fused = [name for name in named if parts.get(name) == "fused"]
        if fused and len(of_attention) == 1:
            raise ValueError(
                f"which must not part {fused[0]}, in which queries, keys and values "
                f"are one matrix, got {shown(which)} (a group of its own with parts=3 "
                "decays each by itself)"
            )
        taken = words | ({"fused"} if of_attention else set())
        chosen = {name: W for name, W in named.items() if parts.get(name) in taken}
    if not chosen:
        hint = (
            " (it looks inside nn.ModuleList; a predicate (name, tensor) can choose freely)"
        )
        raise ValueError(
            f"which must select at least one of the {len(named)} parameters, got none from "
            f"{shown(which)}{'' if callable(which) else hint}"
        )
    return Selection(chosen)


def _parameters(model: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All parameters by name; and, of those that a decay may be for, the word of PLACES, or
    "fused" for queries, keys and values in one."""
    if isinstance(model, nn.Module):
        blocks = {name: _part_of(name) for name in _block_matrices(model)}
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
# use: transformers, timm, diffusers, torch.
OF_QUERIES_AND_KEYS = re.compile(r"(to_|w)?(q|k|query|key)(_?(proj|lin))?(_weight)?", re.I)
OF_VALUES = re.compile(r"(to_|w)?(v|value)(_?(proj|lin))?(_weight)?", re.I)
OF_ALL_THREE = re.compile(
    r"in_proj_weight|c_attn|query_key_value|(to_|w)?qkv(_proj)?", re.I
)
OF_ADAPTERS = re.compile(r"\.(base_layer|lora_[AB](\.\w+)?)(?=\.weight$|$)")  # peft
OF_ATTENTION = re.compile(r"attn|attention", re.I)


def _part_of(name: str) -> str:
    """The part of a transformer block that a parameter of this name belongs to: "qk", "vo",
    "fused" for queries, keys and values in one matrix, or "mlp" for all else.

    >>> _part_of("layers.0.self_attn.q_proj.weight"), _part_of("layers.0.self_attn.o_proj.weight")
    ('qk', 'vo')
    """
    *modules, leaf = OF_ADAPTERS.sub("", name).removesuffix(".weight").split(".")
    block = next((i for i, module in enumerate(modules) if module.isdigit()), -1)
    modules = modules[block + 1 :]  # what the blocks are kept in has a name of its own
    if OF_ALL_THREE.fullmatch(leaf):
        return "fused"
    if OF_QUERIES_AND_KEYS.fullmatch(leaf):
        return "qk"
    attention = any(OF_ATTENTION.search(module) for module in modules)
    return "vo" if OF_VALUES.fullmatch(leaf) or attention else "mlp"


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
    """Names of the matrices of modules inside an nn.ModuleList that a decay is for."""
    modules = dict(model.named_modules())
    lists = [
        f"{name}." if name else ""
        for name, module in modules.items()
        if isinstance(module, nn.ModuleList) and "parametrizations" not in name.split(".")
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
        and not _is_other(modules, name)
    }


def _is_other(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Whether the parameter belongs to a convolution, a norm, a parametrization, a head or
    a router: a gate beside experts."""
    path = name.split(".")[:-1]
    owner, above = modules[".".join(path)], modules[".".join(path[:-1])] if path else None
    router = path and path[-1] in ("gate", "router") and hasattr(above, "experts")
    return bool(
        isinstance(owner, nn.modules.conv._ConvNd)
        or type(owner).__name__.endswith("Norm")
        or "parametrizations" in path
        or any(module.startswith("lm_head") for module in path)
        or router
    )
