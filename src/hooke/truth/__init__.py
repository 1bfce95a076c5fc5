"""Models and data whose right answer is known.

programs/    RASP programs, compiled to weights
trained/     models trained to hold a program's variables in given parts
known        both, with their true edges (labels)
toys/        superposition, modular addition, induction, a planted circuit
organisms/   models with planted behaviour, their clean twins and decoys
mixed, plain  runs that training goes through; small models and their kept weights
scoreboard, standings   every circuit method on every known model
"""
