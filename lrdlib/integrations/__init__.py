"""The decay under other people's trainers: a callback for each, which needs its library.

`transformers.LowRankDecayCallback` and `lightning.LowRankDecayCallback` pick the matrices,
attach, log ranks and keep the decay's state in checkpoints. In a loop of one's own, and
with accelerate, nothing of this is needed:

    model, optimizer = accelerator.prepare(model, optimizer)  # first: it may replace both
    decay = LowRankDecay(select(model, "attention+mlp"), weight_decay=0.1)
    decay.attach(optimizer)
    accelerator.register_for_checkpointing(decay)

and ranks go to TensorBoard by

    writer = torch.utils.tensorboard.SummaryWriter()
    for name, rank in decay.ranks().items():
        writer.add_scalar(f"stable_rank/{name}", rank, step)
"""
