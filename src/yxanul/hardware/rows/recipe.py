"""Rows about optimizer and curriculum: speed and quality that no device decides."""

from yxanul.hardware.feature import Case, Feature


def fused_adamw(case: Case) -> Feature:
    """The fused AdamW kernel of torch."""
    optimizer = case.optimization.optimizer
    if not optimizer.fused:
        return Feature("fused AdamW", "available", "set optimizer.fused=true")
    share = "embedding and norms" if optimizer.name == "muon" else "all parameters"
    return Feature("fused AdamW", "active", f"torch's one kernel for {share}", asked=True)


def muon(case: Case) -> Feature:
    """Muon for the matrices inside the layers."""
    if case.optimization.optimizer.name != "muon":
        why = "optimizer.name=muon takes the matrices inside the layers"
        return Feature("Muon", "available", why)
    evened = case.optimization.optimizer.muon_beta2 is not None
    why = (
        "for the matrices inside the layers, equal shapes in one batch, iterated in "
        f"{case.optimization.compute.precision}{', neurons evened out (NorMuon)' * evened}"
    )
    return Feature("Muon", "active", why, asked=True)


def linear_decay(case: Case) -> Feature:
    """The learning rate's straight way to zero."""
    using = [s for s in case.stages if s.training.schedule == "linear_to_zero"]
    name = "linear decay to zero"
    if not case.stages:
        why = "the default of training.schedule: warm up, then straight to zero"
        return Feature(name, "active", why)
    if not using:
        why = "every stage uses wsd; set training.schedule=linear_to_zero"
        return Feature(name, "available", why)
    why = f"warm up, then straight to zero, in {len(using)} of {len(case.stages)} stages"
    return Feature(name, "active", why)


def sequence_lengths(case: Case) -> Feature:
    """Short sequences first."""
    name = "sequence-length curriculum"
    lengths = [
        [phase.seq_len for phase in stage.training.seq_len_curriculum] for stage in case.stages
    ]
    changing = [found for found in lengths if len(set(found)) > 1]
    if not changing:
        why = "give a stage's training.seq_len_curriculum several phases"
        return Feature(name, "available", why)
    flat = [length for found in changing for length in found]
    why = f"{min(flat):,} to {max(flat):,} tokens, in {len(changing)} of {len(lengths)} stages"
    return Feature(name, "active", why)
