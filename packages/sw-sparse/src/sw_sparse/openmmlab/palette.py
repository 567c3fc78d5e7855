"""Colours of classes in pictures."""

import colorsys


def class_colours(count: int) -> list[tuple[int, int, int]]:
    """Return red, green and blue, to 255, that differ as much as so many can.

    Hues are the golden angle apart, so that neighbours differ however many there are, in three brightnesses.
    """
    found = []
    for i in range(count):
        red, green, blue = colorsys.hsv_to_rgb(i * 0.381966 % 1, 0.75, (0.95, 0.7, 0.5)[i % 3])
        found.append((round(255 * red), round(255 * green), round(255 * blue)))
    return found
