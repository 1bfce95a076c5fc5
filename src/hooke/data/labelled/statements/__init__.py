"""True and false statements: the facts as text files, and what makes rows of them."""
