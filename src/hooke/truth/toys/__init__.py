"""Toy models whose inside is known, the tools that read them, and the check that each tool finds what is there.

superposition   more sparse features than dimensions
dimensionality  how features share dimensions
modular         addition modulo a prime, trained until it generalises
fourier         the frequencies that such a model uses
induction       two layers of attention that continue repeated sequences
heads           what single heads do
planted         a circuit planted by hand
check           each tool on its toy
"""
