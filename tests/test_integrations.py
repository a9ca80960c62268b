"""`LowRankDecay` under other people's optimizers, loops and trainers, held against the same
training with the decay written out by hand after each step.

For each: the same weights; exactly one decay a step; a run that is broken off and resumed
ends as one that is not. Decay is at every third step and a run breaks off between two of
these, so that the count has to survive.
"""

import copy
import io
import json
import logging
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lrdlib.decay import low_rank_decay_
from lrdlib.matrices import select
from lrdlib.optimizer import LowRankDecay

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers, which asks for nothing then
LR, DECAY, EVERY, STEPS, BREAK = 0.02, 0.5, 3, 9, 4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, bias=False)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 8), nn.Linear(8, 7)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def net(dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return Net().to(dtype)


# what is decayed in Net, and in how many parts
PARTS = {
    f"blocks.{i}.{name}": parts
    for i in (0, 1)
    for name, parts in (
        ("attn.in_proj_weight", 3),
        ("attn.out_proj.weight", 1),
        ("mlp.0.weight", 1),
        ("mlp.2.weight", 1),
    )
}


def batches(n):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(7, (5, 4), generator=generator) for _ in range(n)]


def loss_of(model, tokens):
    logits = model(tokens)
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flip(0).flatten())


class ByHand:
    """The decay written out: at every third step, each part of each matrix by itself."""

    def __init__(self, model, parts=PARTS):
        named = dict(model.named_parameters())
        self.parts = {name: (named[name], n) for name, n in parts.items()}
        self.taken = 0

    @torch.no_grad()
    def __call__(self, lr):
        self.taken += 1
        if self.taken % EVERY == 0:
            for W, n in self.parts.values():
                for part in W.chunk(n):
                    low_rank_decay_(part, weight_decay=DECAY * EVERY, lr=lr)


def decay_of(model):
    groups = select(model, "attention+mlp").groups()
    return LowRankDecay(groups, weight_decay=DECAY, every=EVERY)


def assert_same(model, other):
    """Parts in one batch are summed in another order than one by one."""
    expected = dict(other.named_parameters())
    for name, W in model.named_parameters():
        rtol = {torch.float64: 1e-9, torch.float32: 1e-4}[W.dtype]
        torch.testing.assert_close(
            *(W, expected[name]), rtol=rtol, atol=rtol / 10, msg=f"{name}: {{}}".format
        )


def assert_taken(decay, steps):
    assert {group["steps_taken"] for group in decay.param_groups} == {steps}


# --- optimizers and loops of one's own


def adamw(**options):
    return lambda model: [torch.optim.AdamW(model.parameters(), lr=LR, **options)]


def muon_and_adamw(model):
    matrices = [W for W in model.blocks.parameters() if W.ndim == 2]
    known = set(map(id, matrices))
    rest = [W for W in model.parameters() if id(W) not in known]
    return [torch.optim.Muon(matrices, lr=LR), torch.optim.AdamW(rest, lr=LR / 2)]


OPTIMIZERS = {  # the first of them trains the matrices
    "adamw": adamw(foreach=False),
    "foreach": adamw(foreach=True),
    "fused": adamw(fused=True),
    "lr tensor": lambda model: [
        torch.optim.AdamW(model.parameters(), lr=torch.tensor(LR), foreach=False)
    ],
    "sgd": lambda model: [torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)],
    "adafactor": lambda model: [torch.optim.Adafactor(model.parameters(), lr=LR)],
    "muon": muon_and_adamw,
    "lbfgs": lambda model: [torch.optim.LBFGS(model.parameters(), lr=LR, max_iter=3)],
}


class Loop:
    """A training loop: how the loss is computed, and what happens between batches."""

    accumulate, autocast, scaled, compiled, compiled_step = 1, False, False, False, False
    overflow: int | None = None  # the step whose gradient is infinite

    def __init__(self, **settings):
        for name, value in settings.items():
            assert hasattr(type(self), name)
            setattr(self, name, value)

    def run(self, model, optimizers, data, scaler, after=lambda lr: None):
        forward = torch.compile(model, backend="eager") if self.compiled else model
        schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in optimizers]
        steps = [o.step for o in optimizers]
        if self.compiled_step:
            steps = [torch.compile(step, backend="eager") for step in steps]
        for step in range(len(data) // self.accumulate):
            part = data[step * self.accumulate : (step + 1) * self.accumulate]

            def closure(part=part, step=step):
                for optimizer in optimizers:
                    optimizer.zero_grad()
                for tokens in part:
                    with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                        loss = loss_of(forward, tokens) / len(part)
                    (scaler.scale(loss) if self.scaled else loss).backward()
                if step == self.overflow:
                    model.head.weight.grad[0, 0] = float("inf")
                return loss

            lr = float(optimizers[0].param_groups[0]["lr"])
            if self.stepped(optimizers, steps, closure, scaler):
                after(lr)
            for scheduler in schedulers:
                scheduler.step()

    def stepped(self, optimizers, steps, closure, scaler):
        """Step them; whether they did, which a scaler may forbid."""
        if isinstance(optimizers[0], torch.optim.LBFGS):
            optimizers[0].step(closure)
            return True
        closure()
        for optimizer, step in zip(optimizers, steps, strict=True):
            scaler.step(optimizer) if self.scaled else step()
        if not self.scaled:
            return True
        scale = scaler.get_scale()
        scaler.update()
        return scaler.get_scale() >= scale


LOOPS = {
    "plain": Loop(),
    "accumulation": Loop(accumulate=2),
    "autocast": Loop(autocast=True),
    "scaler": Loop(scaled=True, overflow=1),
    "compiled": Loop(compiled=True),
    "compiled step": Loop(compiled_step=True),
}
CASES = [
    *((optimizer, "plain") for optimizer in OPTIMIZERS),
    *(("adamw", loop) for loop in LOOPS if loop not in ("plain", "compiled step")),
    ("lr tensor", "compiled step"),  # a number is compiled in, and anew at each step
    ("fused", "scaler"),  # a fused step is told to skip; the others are not called
    ("lbfgs", "compiled"),
]
# the names by which torch.compile asks torch itself
OF_COMPILE = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@OF_COMPILE
@pytest.mark.parametrize("optimizer, loop", CASES)
def test_attached_it_decays_as_by_hand(optimizer, loop):
    loop = LOOPS[loop]
    data = batches(STEPS * loop.accumulate)
    dtype = torch.float32 if loop.autocast else torch.float64  # it leaves float64 alone
    model, other = net(dtype), net(dtype)
    optimizers = OPTIMIZERS[optimizer](model)
    decay = decay_of(model)
    decay.attach(optimizers[0])
    loop.run(model, optimizers, data, torch.amp.GradScaler("cpu", init_scale=8.0))
    by_hand = ByHand(other)
    loop.run(
        *(other, OPTIMIZERS[optimizer](other), data),
        *(torch.amp.GradScaler("cpu", init_scale=8.0), by_hand),
    )
    assert_same(model, other)
    assert_taken(decay, by_hand.taken)
    assert by_hand.taken == STEPS - (loop.overflow is not None)


@OF_COMPILE
@pytest.mark.parametrize("optimizer, loop", CASES)
def test_a_resumed_run_ends_as_an_unbroken_one(optimizer, loop):
    """To the same bit: saved to a file, and loaded in fresh objects of other weights."""
    loop = LOOPS[loop]
    data, cut = batches(STEPS * loop.accumulate), BREAK * loop.accumulate
    dtype = torch.float32 if loop.autocast else torch.float64

    def started(seed=0):
        model = net(dtype, seed)
        optimizers, decay = OPTIMIZERS[optimizer](model), decay_of(model)
        decay.attach(optimizers[0])
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        return model, optimizers, scaler, decay

    whole, optimizers, scaler, counted = started()
    loop.run(whole, optimizers, data[:cut], scaler)
    loop.run(whole, optimizers, data[cut:], scaler)
    model, optimizers, scaler, decay = started()
    loop.run(model, optimizers, data[:cut], scaler)
    file = io.BytesIO()
    torch.save([x.state_dict() for x in (model, *optimizers, scaler, decay)], file)
    file.seek(0)
    model, optimizers, scaler, decay = started(seed=1)
    assert not torch.equal(model.head.weight, whole.head.weight)
    saved = torch.load(file, weights_only=True)
    for x, state in zip((model, *optimizers, scaler, decay), saved, strict=True):
        x.load_state_dict(state)
    loop.run(model, optimizers, data[cut:], scaler)
    for W, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(W, expected)
    assert decay.state_dict() == counted.state_dict()
    skipped = 0 if loop.overflow is None else 2  # in each of the two runs
    assert_taken(decay, STEPS - skipped)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="capturable needs a GPU")
def test_a_capturable_optimizer_on_a_gpu():
    """As by hand, and resumed."""
    data = [tokens.cuda() for tokens in batches(STEPS)]

    def started(seed=0):
        model = net(seed=seed).cuda()
        [optimizer], decay = adamw(capturable=True)(model), decay_of(model)
        decay.attach(optimizer)
        return model, optimizer, decay

    first, second = started(), started(seed=1)
    Loop().run(first[0], [first[1]], data[:BREAK], None)
    for x, y in zip(second, first, strict=True):
        x.load_state_dict(copy.deepcopy(y.state_dict()))
    other = net().cuda()
    [plain], by_hand = adamw()(other), ByHand(other)
    Loop().run(other, [plain], data[:BREAK], None, by_hand)
    for model, optimizer, decay in (first, second):
        Loop().run(model, [optimizer], data[BREAK:], None)
        assert_taken(decay, STEPS)
    Loop().run(other, [plain], data[BREAK:], None, by_hand)
    assert_same(first[0], other)
    assert_same(second[0], first[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_matrices_of_another_copy_are_refused(optimizer):
    """As when select came before what replaces the parameters."""
    model = net()
    decay = decay_of(copy.deepcopy(model))
    with pytest.raises(ValueError, match=r"optimizer must train .*blocks\.0\.attn"):
        decay.attach(OPTIMIZERS[optimizer](model)[0])


def test_the_optimizer_of_other_parameters_is_refused():
    model = net()
    decay = decay_of(model)
    with pytest.raises(ValueError, match="optimizer must train"):
        decay.attach(muon_and_adamw(model)[1])


# --- accelerate


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accelerate(tmp_path, accumulate):
    """Prepare, then select and attach; register_for_checkpointing keeps the count."""
    accelerate = pytest.importorskip("accelerate")
    data = batches(STEPS * accumulate)

    def started():
        accelerator = accelerate.Accelerator(
            cpu=True, gradient_accumulation_steps=accumulate
        )
        model = net()
        [optimizer] = OPTIMIZERS["adamw"](model)
        model, optimizer = accelerator.prepare(model, optimizer)
        decay = decay_of(model)
        decay.attach(optimizer)
        accelerator.register_for_checkpointing(decay)
        return accelerator, model, optimizer, decay

    def run(started, data):
        accelerator, model, optimizer, _ = started
        for tokens in data:
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, tokens))
                optimizer.step()
                optimizer.zero_grad()

    whole = started()
    run(whole, data)
    assert_taken(whole[3], STEPS)
    other = net()
    with pytest.raises(ValueError, match="optimizer must train"):
        decay_of(other).attach(whole[2])
    [optimizer], by_hand = OPTIMIZERS["adamw"](other), ByHand(other)
    for step in range(STEPS):
        optimizer.zero_grad()
        for tokens in data[step * accumulate : (step + 1) * accumulate]:
            (loss_of(other, tokens) / accumulate).backward()
        optimizer.step()
        by_hand(LR)
    assert_same(whole[1], other)

    first, second = started(), None
    run(first, data[: BREAK * accumulate])
    first[0].save_state(tmp_path / "state")
    second = started()
    second[0].load_state(tmp_path / "state")
    run(second, data[BREAK * accumulate :])
    assert_taken(second[3], STEPS)
    for W, expected in zip(second[1].parameters(), whole[1].parameters(), strict=True):
        assert torch.equal(W, expected)


# --- transformers

# what these libraries warn of in their own code
THEIRS = pytest.mark.filterwarnings("default")
LLAMA = dict(
    **dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, vocab_size=40),
    **dict(num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16),
    **dict(pad_token_id=0, bos_token_id=1, eos_token_id=2),
)
ATTENTION = [f"self_attn.{name}_proj" for name in "qkvo"]
IN_LLAMA = {
    f"model.layers.{i}.{name}.weight": 1
    for i in (0, 1)
    for name in (*ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
}


def llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA))


def texts():
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(3, 40, (24, 6), generator=generator)
    return [{"input_ids": row, "labels": row} for row in tokens]


def trainer_of(model, folder, callback, **settings):
    transformers = pytest.importorskip("transformers")
    args = transformers.TrainingArguments(
        **dict(output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=2),
        **dict(save_steps=BREAK, learning_rate=LR, weight_decay=0.0, report_to="none"),
        **dict(use_cpu=True, disable_tqdm=True, logging_strategy="no", **settings),
    )
    callbacks = [callback] if callback else None
    return transformers.Trainer(model, args, train_dataset=texts(), callbacks=callbacks)


def hand_callback(model):
    """The decay by hand as a callback: when the optimizer has stepped, the lr is still
    that step's."""
    from transformers import TrainerCallback

    class Hand(TrainerCallback):
        by_hand = ByHand(model, IN_LLAMA)

        def on_optimizer_step(self, args, state, control, **kwargs):
            self.by_hand(kwargs["optimizer"].param_groups[0]["lr"])

    return Hand()


def trainer_callback(**settings):
    pytest.importorskip("transformers")
    from lrdlib.integrations.transformers import LowRankDecayCallback

    return LowRankDecayCallback(
        **{"which": "attention+mlp", "weight_decay": DECAY, "every": EVERY, **settings}
    )


@THEIRS
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_trainer_of_transformers(tmp_path, accumulate):
    """train(), twice; each training counts its own steps, and leaves the optimizer bare."""
    settings = dict(gradient_accumulation_steps=accumulate, save_strategy="no")
    model, other = llama(), llama()
    callback, hand = trainer_callback(ranks_every=2), hand_callback(other)
    trainer = trainer_of(model, tmp_path / "a", callback, **settings)
    by_hand = trainer_of(other, tmp_path / "b", hand, **settings)
    for _ in range(2):
        hand.by_hand.taken = 0
        trainer.train(), by_hand.train()
        assert_same(model, other)
        assert_taken(callback.decay, STEPS)
        assert not trainer.optimizer.optimizer._optimizer_step_post_hooks
    history = [entry for entry in trainer.state.log_history if "step" in entry]
    logged = [e for e in history if any(key.startswith("stable_rank/") for key in e)]
    assert [entry["step"] for entry in logged] == [2, 4, 6, 8]
    assert {f"stable_rank/{name}" for name in IN_LLAMA} == logged[0].keys() - {"step"}
    # the last one was taken a step before the end
    assert callback.decay.ranks().keys() == IN_LLAMA.keys()


@THEIRS
@pytest.mark.parametrize("restore", [False, True])
def test_the_trainer_of_transformers_resumes(tmp_path, restore):
    whole = llama()
    trainer_of(whole, tmp_path, trainer_callback()).train()
    model, callback = llama(), trainer_callback()
    trainer = trainer_of(
        *(model, tmp_path / "b", callback), restore_callback_states_from_checkpoint=restore
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{BREAK}"))
    [callback] = [
        cb for cb in trainer.callback_handler.callbacks if type(cb) is type(callback)
    ]
    assert_taken(callback.decay, STEPS)
    for W, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(W, expected)


@THEIRS
def test_two_callbacks_resume_each_with_its_own_state(tmp_path):
    def pair():
        return [trainer_callback(which="qk"), trainer_callback(which="mlp", every=2)]

    whole, callbacks = llama(), pair()
    trainer = trainer_of(whole, tmp_path, callbacks[0])
    trainer.add_callback(callbacks[1])
    trainer.train()
    model, callbacks = llama(), pair()
    trainer = trainer_of(model, tmp_path / "b", callbacks[0])
    trainer.add_callback(callbacks[1])
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{2 * BREAK}"))
    for callback, every in zip(callbacks, (EVERY, 2), strict=True):
        assert_taken(callback.decay, STEPS)
        assert {group["every"] for group in callback.decay.param_groups} == {every}
    for W, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(W, expected)


@THEIRS
def test_the_trainer_s_log_gets_the_ranks(tmp_path):
    model, callback = llama(), trainer_callback(ranks_every=4)
    trainer = trainer_of(model, tmp_path, callback, save_strategy="no")
    callback.log = trainer.log
    trainer.train()
    logged = [
        e for e in trainer.state.log_history if f"stable_rank/{next(iter(IN_LLAMA))}" in e
    ]
    assert [(entry["step"], "epoch" in entry) for entry in logged] == [(4, True), (8, True)]


@THEIRS
def test_what_is_wrong_stops_the_trainer_before_its_first_step(tmp_path):
    model = llama()
    start = [W.detach().clone() for W in model.parameters()]
    for settings, words in (
        ({"which": "heads"}, "which must be one of"),
        ({"exclude": "."}, "which must select at least one"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
    ):
        trainer = trainer_of(model, tmp_path, trainer_callback(**settings))
        with pytest.raises(ValueError, match=words):
            trainer.train()
        trainer.callback_handler.callbacks.clear()
    assert all(map(torch.equal, model.parameters(), start))
    with pytest.raises(TypeError, match=r"which must be words of `select`"):
        trainer_callback(which=re.compile("q_proj"))
    with pytest.raises(TypeError, match="weight_decay must be a number or a word"):
        trainer_callback(weight_decay=torch.tensor([0.1]))
    with pytest.raises(ValueError, match="ranks_every must be"):
        trainer_callback(ranks_every=-1)


def adapted(seed=0):
    """LoRA on a tiny Llama."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
    model = llama()
    torch.manual_seed(seed)
    return peft.get_peft_model(model, config)


def train_on(rows, model, optimizer, after=lambda lr: None):
    for row in rows:
        optimizer.zero_grad()
        model(row["input_ids"][None], labels=row["labels"][None]).loss.backward()
        optimizer.step()
        after(LR)


@THEIRS
def test_lora_decays_its_factors_alone():
    model, other = adapted(), adapted()
    at = "base_model.model.model.layers"
    factors = {
        f"{at}.{i}.{leaf}.lora_{side}.default.weight": 1
        for i in (0, 1)
        for leaf in ("self_attn.q_proj", "mlp.down_proj")
        for side in "AB"
    }
    frozen = {n: W.clone() for n, W in model.named_parameters() if not W.requires_grad}
    [optimizer], [plain], decay = adamw()(model), adamw()(other), decay_of(model)
    decay.attach(optimizer)
    with pytest.raises(ValueError, match=r"optimizer must train .*lora_A"):
        decay.attach(plain)
    train_on(texts()[:STEPS], model, optimizer)
    train_on(texts()[:STEPS], other, plain, ByHand(other, factors))
    assert_same(model, other)
    assert_taken(decay, STEPS)
    assert all(
        torch.equal(W, frozen[n]) for n, W in model.named_parameters() if n in frozen
    )


@THEIRS
def test_lora_resumes():
    """From the adapter alone, as peft saves it, on the base model as it was."""
    peft = pytest.importorskip("peft")

    def started(seed=0):
        model = adapted(seed)
        [optimizer], decay = adamw()(model), decay_of(model)
        decay.attach(optimizer)
        return model, optimizer, decay

    whole, optimizer, _ = started()
    train_on(texts()[:STEPS], whole, optimizer)
    first, optimizer, decay = started()
    train_on(texts()[:BREAK], first, optimizer)
    adapter = peft.get_peft_model_state_dict(first)
    file = io.BytesIO()
    torch.save([adapter, optimizer.state_dict(), decay.state_dict()], file)
    file.seek(0)
    model, optimizer, decay = started(seed=1)
    adapter, *states = torch.load(file, weights_only=True)
    peft.set_peft_model_state_dict(model, adapter)
    for x, state in zip((optimizer, decay), states, strict=True):
        x.load_state_dict(state)
    train_on(texts()[BREAK:STEPS], model, optimizer)
    for W, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(W, expected)
    assert_taken(decay, STEPS)


# --- models of transformers; test_models.py has them trained as by hand

MODELS = ("gpt2", "gpt_neox", "llama", "qwen3", "gemma3", "olmo2", "phi3", "mixtral")
MODELS += ("mamba", "wav2vec2", "vit")


@THEIRS
@pytest.mark.parametrize("name", MODELS)
def test_a_model_resumes(name):
    """To the same bit, however its matrices are cut; and no other's are taken for its."""
    pytest.importorskip("transformers")
    import test_models

    def started():
        model = test_models.built(name).double().eval()
        model.set_experts_implementation("eager")  # the others take no float64
        [optimizer] = adamw()(model)
        decay = LowRankDecay(select(model, "attention+mlp"), weight_decay=DECAY, every=2)
        decay.attach(optimizer)
        return model, optimizer, decay

    def train(model, optimizer, steps):
        for step in steps:
            optimizer.zero_grad()
            test_models.loss_of(model, name, step).backward()
            optimizer.step()

    whole, optimizer, counted = started()
    train(whole, optimizer, [0])
    file = io.BytesIO()
    torch.save([x.state_dict() for x in (whole, optimizer, counted)], file)
    file.seek(0)
    resumed = started()
    with pytest.raises(ValueError, match="optimizer must train"):
        counted.attach(resumed[1])
    with torch.no_grad():
        for W in resumed[0].parameters():
            W.zero_()
    for x, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        x.load_state_dict(state)
    train(whole, optimizer, [1, 2])
    train(*resumed[:2], [1, 2])
    assert_taken(resumed[2], 3)
    for W, expected in zip(resumed[0].parameters(), whole.parameters(), strict=True):
        assert torch.equal(W, expected)


# --- Lightning


def lightning_module(by_hand=False, optimizers=OPTIMIZERS["adamw"]):
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()
            self.data = batches(2 * STEPS)
            self.hand = ByHand(self.net) if by_hand else None

        def training_step(self, tokens, batch_idx):
            # by its number: a resumed run counts on, but its loader starts again
            return loss_of(self.net, self.data[batch_idx])

        def configure_optimizers(self):
            return optimizers(self.net)

        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            if self.hand:
                self.hand(LR)

    return Module()


class Metrics:
    """A logger that keeps what it is given."""

    def __new__(cls):
        from pytorch_lightning.loggers import Logger

        class Kept(Logger):
            name, version = "kept", 0

            def __init__(self):
                super().__init__()
                self.metrics = []

            def log_metrics(self, metrics, step=None):
                self.metrics.append((step, metrics))

            def log_hyperparams(self, *args, **kwargs):
                """Nothing to keep."""

        return Kept()


def fitted(module, folder, callbacks, logger=False, ckpt=None, **settings):
    import pytorch_lightning as lightning

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    saved = lightning.callbacks.ModelCheckpoint(
        folder, every_n_train_steps=BREAK, save_top_k=-1
    )
    accumulate = settings.get("accumulate_grad_batches", 1)
    trainer = lightning.Trainer(
        **dict(accelerator="cpu", max_steps=STEPS, logger=logger, log_every_n_steps=100),
        **dict(enable_progress_bar=False, enable_model_summary=False, **settings),
        callbacks=[*callbacks, saved],
    )
    data = torch.utils.data.DataLoader(batches(STEPS * accumulate), batch_size=None)
    trainer.fit(module, data, ckpt_path=ckpt)
    return trainer


def lightning_callback(**settings):
    pytest.importorskip("pytorch_lightning")
    from lrdlib.integrations.lightning import LowRankDecayCallback

    return LowRankDecayCallback(**{"weight_decay": DECAY, "every": EVERY, **settings})


@THEIRS
@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning(tmp_path, accumulate):
    module, other = lightning_module(), lightning_module(by_hand=True)
    callback, logger = lightning_callback(ranks_every=2), Metrics()
    trainer = fitted(
        *(module, tmp_path / "a", [callback], logger), accumulate_grad_batches=accumulate
    )
    fitted(other, tmp_path / "b", [], accumulate_grad_batches=accumulate)
    assert_same(module, other)
    assert_taken(callback.decay, STEPS)
    ranks = [(step, m) for step, m in logger.metrics if any("stable_rank/" in k for k in m)]
    assert [step for step, _ in ranks] == [2, 4, 6, 8]
    assert f"stable_rank/net.{next(iter(PARTS))}[2]" in ranks[0][1]  # the values
    assert not trainer.optimizers or not trainer.optimizers[0]._optimizer_step_post_hooks


@THEIRS
def test_lightning_resumes(tmp_path):
    whole = lightning_module()
    fitted(whole, tmp_path, [lightning_callback()])
    [ckpt] = tmp_path.glob(f"*step={BREAK}.ckpt")
    model, callback = lightning_module(), lightning_callback()
    fitted(model, tmp_path / "b", [callback], ckpt=str(ckpt))
    assert_taken(callback.decay, STEPS)
    for W, expected in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(W, expected)


def test_a_second_fit_of_lightning_begins_anew():
    """The state of a checkpoint is for the fit that it was loaded for."""
    model, callback = net(), lightning_callback()
    [optimizer], decay = adamw()(model), decay_of(model)
    decay.step(lr=0.0)
    callback.load_state_dict(decay.state_dict())
    trainer = SimpleNamespace(optimizers=[optimizer])
    for taken in (1, 0):
        callback.on_train_start(trainer, model)
        assert_taken(callback.decay, taken)
        callback.on_train_end(trainer, model)


@THEIRS
def test_what_is_wrong_stops_lightning_before_its_first_step(tmp_path):
    module = lightning_module()
    start = [W.detach().clone() for W in module.parameters()]
    with pytest.raises(ValueError, match="which must be one of"):
        fitted(module, tmp_path, [lightning_callback(which="heads")])
    assert all(map(torch.equal, module.parameters(), start))


@THEIRS
def test_several_optimizers_of_lightning_are_refused(tmp_path):
    module = lightning_module(optimizers=muon_and_adamw)
    module.automatic_optimization = False
    with pytest.raises(ValueError, match="the module must have one optimizer, got 2"):
        fitted(module, tmp_path, [lightning_callback()])


def test_a_training_after_one_that_broke_off_decays_and_logs_once():
    """Trainers do not say that a training has ended in an error."""
    from lrdlib.integrations.attached import Attached

    model = net()
    [optimizer] = adamw()(model)
    callback = Attached(weight_decay=DECAY, ranks_every=2)
    for _ in range(2):
        callback.attach(model, optimizer)
        assert len(optimizer._optimizer_step_post_hooks) == 1
        assert callback.ranks(2) and not callback.ranks(2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "weight_decay"),
        ({"weigth_decay": 0.1}, "weigth_decay|weight_decay"),
        ({"weight_decay": 0.1, "exclude": re.compile("x")}, "exclude must be a string"),
    ],
)
def test_a_slip_is_told_when_the_callback_is_made(settings, message):
    from lrdlib.integrations.attached import Attached

    with pytest.raises(TypeError, match=message):
        Attached(**settings)


def test_a_callback_takes_numpy_s_numbers():
    pytest.importorskip("transformers")
    from lrdlib.integrations.transformers import LowRankDecayCallback

    callback = LowRankDecayCallback(weight_decay=np.float32(0.5), every=np.int64(3))
    assert json.loads(json.dumps(callback.state()))["args"]["every"] == 3


# --- the table in the book

BOOK = Path(__file__).parents[1] / "book" / "use_it.ipynb"
COLUMNS = ("the same weights", "one decay per step", "resumes", "a mistake is an error")
OF_OPTIMIZERS = (
    *("test_attached_it_decays_as_by_hand", "test_attached_it_decays_as_by_hand"),
    "test_a_resumed_run_ends_as_an_unbroken_one",
    "test_the_matrices_of_another_copy_are_refused",
)
OF_PROCESSES = (
    "test_two_processes_train_as_one_with_the_decay_by_hand",
    *("test_two_new_processes_end_as_those_that_were_not_broken_off",) * 2,
    "test_two_processes_train_as_one_with_the_decay_by_hand",
)
ON_A_GPU = "test_a_capturable_optimizer_on_a_gpu"
BY_HAND = "test_a_model_is_trained_as_with_the_decay_by_hand"
# what is trained, and the test of each column
HELD = {
    "AdamW: plain, foreach, fused, with a tensor as lr": OF_OPTIMIZERS,
    "SGD, Adafactor, LBFGS, Muon with AdamW": OF_OPTIMIZERS,
    "capturable AdamW": (*(ON_A_GPU,) * 3, OF_OPTIMIZERS[-1]),
    "GradScaler, autocast, accumulated batches": OF_OPTIMIZERS,
    "a compiled model, a compiled step": OF_OPTIMIZERS,
    "accelerate": ("test_accelerate",) * 4,
    "Trainer of transformers, twice": (
        *("test_the_trainer_of_transformers", "test_the_trainer_of_transformers"),
        "test_the_trainer_of_transformers_resumes",
        "test_what_is_wrong_stops_the_trainer_before_its_first_step",
    ),
    "Lightning": (
        *("test_lightning", "test_lightning", "test_lightning_resumes"),
        "test_what_is_wrong_stops_lightning_before_its_first_step",
    ),
    "PEFT's LoRA": (
        *("test_lora_decays_its_factors_alone", "test_lora_decays_its_factors_alone"),
        *("test_lora_resumes", "test_lora_decays_its_factors_alone"),
    ),
    "GPT-2, GPT-NeoX, Llama, Qwen3, Gemma 3, OLMo 2, Phi-3, Mixtral, Mamba, Wav2Vec2, ViT": (
        *(BY_HAND, BY_HAND, "test_a_model_resumes", "test_a_model_resumes"),
    ),
    "DDP": OF_PROCESSES,
    "FSDP2": OF_PROCESSES,
    "tensor parallelism": OF_PROCESSES,
}


def test_the_book_s_table_says_what_the_tests_hold():
    """A row for each, no row beside them, and a test for each of its cells."""
    cells = json.loads(BOOK.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    table = text[text.index(f"| under | {' | '.join(COLUMNS)} |") :].split("\n\n")[0]
    _, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")
    )
    assert [row[0] for row in rows] == list(HELD)
    there = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for name, *words in rows:
        assert len(words) == len(HELD[name]) == len(COLUMNS) and all(words)
        for test in HELD[name]:
            assert f"def {test}(" in there, test
