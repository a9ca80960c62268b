"""`LowRankDecay` in trainings of two processes: replicated (DDP), sharded (FSDP2) and cut
(tensor parallelism); broken off, kept by torch.distributed.checkpoint, and resumed by two
new processes or by one.

Two processes are started twice, for all tests here: it takes longer than what they do.
"""

import pytest
import torch
from test_integrations import (
    BREAK,
    LR,
    OPTIMIZERS,
    STEPS,
    ByHand,
    assert_taken,
    batches,
    decay_of,
    loss_of,
    net,
)
from torch import nn
from weights import copies, parameters

from lrdlib.decay import low_rank_decay_
from lrdlib.optimizer import LowRankDecay

if not torch.distributed.is_available():
    pytest.skip("a torch without processes", allow_module_level=True)

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
)
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

KINDS = ("ddp", "fsdp2", "tp")


def arranged(kind, model, mesh):
    """The model as processes hold it together."""
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    for block in model.blocks:
        if kind == "fsdp2":
            fully_shard(block, mesh=mesh)
        else:
            plan = {"mlp.0": ColwiseParallel(), "mlp.2": RowwiseParallel()}
            parallelize_module(block, mesh, plan)
    return fully_shard(model, mesh=mesh) if kind == "fsdp2" else model


def started(kind=None, mesh=None, seed=0):
    """A model, its optimizer and its decay; of one process without a kind."""
    model = net(seed=seed)
    early = decay_of(model)
    if kind is not None:
        model = arranged(kind, model, mesh)
    [optimizer], decay = OPTIMIZERS["adamw"](model), decay_of(model)
    if kind in ("fsdp2", "tp"):  # which replace parameters
        with pytest.raises(ValueError, match=r"optimizer must train .*blocks\.0\."):
            early.attach(optimizer)
    if kind == "ddp":
        early.attach(optimizer).remove()
    decay.attach(optimizer)
    return model, optimizer, decay


def train(model, optimizer, data, part=slice(None), after=lambda lr: None):
    """A step on this part of the columns of each batch."""
    for tokens in data:
        optimizer.zero_grad()
        loss_of(model, tokens[:, part]).backward()
        optimizer.step()
        after(LR)


def save(model, optimizer, decay, folder):
    """A checkpoint, as torch's tutorial writes it."""
    of_model, of_optimizer = get_state_dict(model, optimizer)
    state = {"model": of_model, "optimizer": of_optimizer, "decay": decay.state_dict()}
    dcp.save(state, checkpoint_id=folder)


def load(model, optimizer, decay, folder):
    """Go on from a checkpoint; the decay's state first, as it may come at any place."""
    of_model, of_optimizer = get_state_dict(model, optimizer)
    state = {"model": of_model, "optimizer": of_optimizer, "decay": decay.state_dict()}
    dcp.load(state, checkpoint_id=folder)
    decay.load_state_dict(state["decay"])
    how = {"model_state_dict": of_model, "optim_state_dict": of_optimizer}
    set_state_dict(model, optimizer, **how)


def whole(model):
    """Every parameter by its own name, gathered."""
    return {
        name.removeprefix("module."): getattr(W, "full_tensor", lambda W=W: W)().detach()
        for name, W in model.named_parameters()
    }


def trained(rank, mesh, folder, resumed):
    """Train in every arrangement to the end: from the start, with a checkpoint on the way;
    or, resumed, from that on. The first process keeps what comes of it."""
    data = batches(STEPS)
    for kind in KINDS:
        part = slice(None) if kind == "tp" else slice(2 * rank, 2 * rank + 2)
        model, optimizer, decay = started(kind, mesh, seed=int(resumed))
        if resumed:
            load(model, optimizer, decay, folder / kind)
        else:
            train(model, optimizer, data[:BREAK], part)
            save(model, optimizer, decay, folder / kind)
        train(model, optimizer, data[BREAK:], part)
        assert_taken(decay, STEPS)
        weights = whole(model)  # by both
        if rank == 0:
            torch.save(weights, folder / f"{kind}-{resumed}.pt")


def decayed(mesh):
    """Each kind of sharding ends as one process does."""
    start = parameters((8, 6), (5, 8), (6, 6))
    expected = [low_rank_decay_(W.detach().clone(), weight_decay=0.1) for W in start]
    for placement in (Shard(0), Shard(1), Replicate()):
        params = [
            nn.Parameter(distribute_tensor(W.detach().clone(), mesh, [placement]))
            for W in start
        ]
        decay = LowRankDecay(params, weight_decay=0.1)
        decay.step(lr=1.0)
        for W, alone in zip(params, expected, strict=True):
            torch.testing.assert_close(W.full_tensor(), alone, rtol=1e-5, atol=1e-6)
        # a state is one of whole matrices, however they are sharded
        whole, again = (LowRankDecay(Ws, weight_decay=0.0) for Ws in (start, params))
        whole.load_state_dict(decay.state_dict())
        again.load_state_dict(whole.state_dict())
        again.step(lr=1.0)
        for W, alone in zip(params, expected, strict=True):
            twice = low_rank_decay_(alone.clone(), weight_decay=0.1)
            torch.testing.assert_close(W.full_tensor(), twice, rtol=1e-5, atol=1e-6)
    model = nn.Linear(6, 8, bias=False)
    model.weight.data.copy_(start[0].detach())
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    LowRankDecay(dict(model.named_parameters()), weight_decay=0.1).attach(optimizer)
    optimizer.step()  # without a gradient: decay alone
    full = model.weight.full_tensor()
    torch.testing.assert_close(full, expected[0], rtol=1e-5, atol=1e-6)
    fused, experts = parameters((8, 6), (3, 4, 6))
    for rule in ("low_rank", "proximal"):  # written batch by batch, and all at the end
        alone = copies((fused, experts))
        shards = [distribute_tensor(W.clone(), mesh, [Shard(0)]) for W in alone]
        for a, b in (alone, shards):
            groups = [{"params": [a], "parts": (4, 2, 2)}, {"params": [b]}]
            LowRankDecay(groups, weight_decay=0.1, rule=rule, max_batch=2).step(lr=1.0)
        for W, shard in zip(alone, shards, strict=True):
            assert torch.equal(shard.full_tensor(), W)
    if mesh.get_rank() == 1:  # it is told in both
        shards[1].to_local()[0, 1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"^experts must be finite, got 1 NaN .* of 72"):
        LowRankDecay({"experts": shards[1]}, weight_decay=0.1).step(lr=1.0)
    partial = DTensor.from_local(start[2].detach(), mesh, [Partial()])
    with pytest.raises(ValueError, match=r"params\['w'\] must be sharded or replicated"):
        LowRankDecay({"w": partial}, weight_decay=0.1)
    meta = DTensor.from_local(torch.ones(4, 6, device="meta"), mesh, [Shard(0)])
    with pytest.raises(TypeError, match=r"params\['w'\] must hold data"):
        LowRankDecay({"w": meta}, weight_decay=0.1)


def process(rank, folder, resumed):
    """What one of two processes does."""
    rendezvous = f"file://{folder / f'rendezvous-{resumed}'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    trained(rank, mesh, folder, resumed)
    if not resumed:
        decayed(mesh)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes leave behind, and two new ones that resume."""
    path = tmp_path_factory.mktemp("processes")
    for resumed in (False, True):
        torch.multiprocessing.spawn(process, (path, resumed), nprocs=2)
    return path


def weights_of(folder, kind, resumed):
    return torch.load(folder / f"{kind}-{resumed}.pt")


def assert_close(weights, others):
    """Two processes sum in another order than one."""
    assert weights.keys() == others.keys()
    for name, W in weights.items():
        torch.testing.assert_close(
            W, others[name], rtol=1e-9, atol=1e-10, msg=f"{name}: {{}}".format
        )


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one_with_the_decay_by_hand(folder, kind):
    """And each kind of sharding is decayed as a whole matrix is: see `decayed`; matrices
    that were selected before they were sharded are refused: see `started`."""
    other = net()
    [optimizer] = OPTIMIZERS["adamw"](other)
    train(other, optimizer, batches(STEPS), after=ByHand(other))
    assert_close(weights_of(folder, kind, False), whole(other))


@pytest.mark.parametrize("kind", KINDS)
def test_two_new_processes_end_as_those_that_were_not_broken_off(folder, kind):
    """To the same bit: a sum of two does not ask for their order."""
    unbroken = weights_of(folder, kind, False)
    for name, W in weights_of(folder, kind, True).items():
        assert torch.equal(W, unbroken[name]), name


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_one_process_resumes_what_two_began(folder, kind):
    model, optimizer, decay = started(seed=1)
    load(model, optimizer, decay, folder / kind)
    train(model, optimizer, batches(STEPS)[BREAK:])
    assert_taken(decay, STEPS)
    assert_close(whole(model), weights_of(folder, kind, False))


@pytest.mark.parametrize("lr", [LR, torch.tensor(LR)])
@pytest.mark.parametrize("mode", ["decoupled", "independent"])
def test_the_step_that_makes_an_optimizers_state_is_no_decay(mode, lr):
    """`get_state_dict` steps an optimizer that has no state, at lr 0."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    matrix = model.blocks[0].mlp[0].weight
    decay, start = LowRankDecay([matrix], weight_decay=0.1, mode=mode), matrix.clone()
    decay.attach(optimizer)
    get_state_dict(model, optimizer)
    assert torch.equal(matrix, start) and optimizer.state
    assert_taken(decay, 0)
    optimizer.zero_grad()
    optimizer.step(closure=None)  # no gradients: a decay alone
    assert not torch.equal(matrix, start)
    assert_taken(decay, 1)
