"""How well scores tell defective from good, and how sure that is."""
