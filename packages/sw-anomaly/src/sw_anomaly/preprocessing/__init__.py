"""From an image to the view that a method sees: scaled, or the part cut out in one pose."""
