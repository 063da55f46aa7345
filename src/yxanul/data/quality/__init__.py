"""Rules of quality for prose, as datatrove applies them, fused so that they cost little."""
