"""Restricted Boltzmann machines: layers, stacks, and their fine-tuning."""
