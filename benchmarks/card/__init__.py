"""What one CUDA card can tell of this program: each section answers one question of speed."""
