"""Models that were trained to hold a program's variables in given parts."""
