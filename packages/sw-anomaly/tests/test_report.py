"""The report: one file, nothing loaded from elsewhere, every test image in it, stamped where it must be."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sw_anomaly.dataset import read_category
from sw_anomaly.detector import Inspection
from sw_anomaly.evaluation import evaluate
from sw_anomaly.report import colour, outline, write_report


class HalfRight:
    """Finds what is white, and calls every image defective."""

    image_threshold, pixel_threshold = 0.0, 0.5

    def inspect(self, image):
        heat = (image.mean(axis=2) > 250).astype(np.float32)
        return Inspection(float(heat.mean()), heat)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "img", "line", "polygon", "polyline", "br", "i"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        if tag != "i":
            assert self.open.pop() == tag


RESULT = {
    "category": "disc",
    "data": "a folder",
    "synthetic": False,
    "model": "<swnano>",
    "checkpoint": "runs/disc/001/checkpoint.safetensors",
    "image_size": 64,
    "image_threshold": 0.0,
    "pixel_threshold": 0.5,
    "seconds": {"training": 12.3, "inspecting": 1.2},
    "versions": {"torch": "2"},
}


@pytest.fixture
def write(tiny_root, tmp_path):
    def write(**changes):
        evaluation = evaluate(HalfRight(), read_category(tiny_root, "disc").test)
        write_report(tmp_path / "report.html", evaluation, {**RESULT, **changes})
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def test_nothing_is_loaded_from_elsewhere(write):
    html = write()
    links = [value for _, name, value in Tags(html).attributes if name in ("src", "href", "srcset", "action")]
    assert links
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert not re.search(r"https?://|@import|url\(", html)


def test_it_is_well_formed_and_shows_every_image_three_times_and_three_curves(write):
    tags = Tags(write())
    assert tags.open == []
    assert tags.seen.count("article") == 4
    assert tags.seen.count("img") == 3 * 4
    assert tags.seen.count("svg") == 3


def test_decisions_are_shown_as_right_or_wrong(write):
    html = write()
    assert html.count('data-right="true"') == 2
    assert html.count('data-right="false"') == 2
    assert "&lt;swnano&gt;" in html


def test_synthetic_data_are_stamped_in_title_and_text_and_others_are_not(write):
    stamped = write(synthetic=True)
    assert "(SYNTHETIC)</title>" in stamped
    assert '<span class="stamp">SYNTHETIC</span>' in stamped
    assert "SYNTHETIC" not in write(synthetic=False)


def test_colours_rise_from_dark_to_light():
    brightness = colour(np.linspace(-1, 2, 50)).astype(float).sum(axis=1)
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] > 3 * brightness[0]


def test_an_outline_lies_around_the_region_and_not_in_it():
    picture, mask = np.full((20, 20, 3), 100, dtype=np.uint8), np.zeros((20, 20), dtype=bool)
    mask[8:12, 8:12] = True
    lined = outline(picture, mask, (1, 2, 3))
    assert (lined[mask] == 100).all()
    assert (lined[7, 8:12] == (1, 2, 3)).all()
    assert (lined[:5] == 100).all()
