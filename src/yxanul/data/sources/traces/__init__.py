"""Renderers that turn generated problems into question, worked steps and verified answer."""
