"""The report: one file, nothing loaded from elsewhere, every test image in it, stamped where it must be.

What its buttons do is tried in a real browser where there is one.
"""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.data.layouts import read_category
from sw_anomaly.detector import Inspection
from sw_anomaly.evaluation.evaluate import evaluate
from sw_anomaly.report.html import describe, write_sections


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
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


RESULT = {
    "category": "disc",
    "data": "a folder",
    "synthetic": False,
    "model": "<swnano>",
    "aligned": True,
    "image_threshold": 0.0,
    "pixel_threshold": 0.5,
    "map_level": 0.0,
    "seconds": {"training": 12.3, "inspecting": 1.2},
}


@pytest.fixture
def evaluation(tiny_root):
    return evaluate(HalfRight(), read_category(tiny_root, "disc").test)


@pytest.fixture
def write(evaluation, tmp_path):
    def write(**changes):
        write_sections(tmp_path / "report.html", [describe(evaluation, {**RESULT, **changes}, Intensity())])
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def test_nothing_is_loaded_from_elsewhere(write):
    html = write()
    links = [value for _, name, value in Tags(html).attributes if name in ("src", "href", "srcset", "action")]
    assert not links
    pictures = re.findall(r"url\(([^)]*)\)", html)
    assert len(pictures) == 4 * 4
    assert all(re.match(r"data:image/(jpeg|png);base64,", picture) for picture in pictures)
    assert not re.search(r"https?://|@import", html)


def test_it_is_well_formed_and_shows_every_image_three_curves_and_a_histogram(write):
    tags = Tags(write())
    assert tags.open == []
    assert tags.seen.count("article") == 4
    assert tags.seen.count("svg") == 4


def test_scores_stand_with_their_intervals(write, evaluation):
    html = write()
    low, high = evaluation.overall_intervals["pixel_ap"]
    assert f"{100 * evaluation.overall.pixel_ap:.1f}<small>{100 * low:.1f} – {100 * high:.1f}</small>" in html
    assert "95 % of 1000 redraws" in html


def test_wrong_decisions_come_first_and_are_marked(write):
    wrong = [
        value.endswith(" wrong") for tag, name, value in Tags(write()).attributes if (tag, name) == ("article", "class")
    ]
    assert wrong == [True, True, False, False]


def test_rates_of_false_alarms_and_escapes_stand_beside_those_in_force(write):
    html = write()
    rows = re.findall(r"<td>(at [^<]*)</td><td>([^<]*)<small>[^<]*</small></td><td>([^<]*)<", html)
    assert rows[0] == ("at the threshold", "100.0", "0.0")
    assert rows[1:] == [
        (f"at most {rate} % {what}", "0.0", "0.0") for what in ("escapes", "false alarms") for rate in (0, 1, 2)
    ]


def test_a_slider_moves_the_threshold_over_all_scores(write, evaluation):
    found = re.search(
        r'class="threshold" min="(.*?)" max="(.*?)"\s+step="any" value="(.*?)" data-in-force="(.*?)"', write()
    )
    scores = [one.inspection.score for one in evaluation.tested]
    assert [float(value) for value in found.groups()] == [min(scores), max(scores), 0.0, 0.0]


def test_whatever_a_run_noted_is_shown_and_escaped(write):
    html = write(note="<b>")
    for fact in ("&lt;swnano&gt;", "<dt>aligned</dt><dd>yes</dd>", "training 12.3, inspecting 1.2", "&lt;b&gt;"):
        assert fact in html


@pytest.mark.parametrize(("fact", "stamp"), [("synthetic", "SYNTHETIC"), ("leaky", "LEAKY")])
def test_stamps_are_in_title_and_text_where_they_belong_and_nowhere_else(write, fact, stamp):
    stamped = write(**{fact: True})
    assert f"({stamp})</title>" in stamped
    assert f">{stamp}</span>" in stamped
    assert stamp not in write(**{fact: False})


def test_several_categories_lie_in_one_file_with_their_means(evaluation, tmp_path):
    sections = [describe(evaluation, {**RESULT, "category": name}, Intensity()) for name in ("disc", "plate")]
    sections = json.loads(json.dumps(sections))  # as processes hand them over
    write_sections(tmp_path / "report.html", sections)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags(html)
    assert tags.open == []
    assert tags.seen.count("article") == 8
    assert re.findall(r"<h2>(\w+)", html) == ["disc", "plate"]
    assert f'<tr class="main"><td>mean</td><td>{100 * evaluation.overall.image_auroc:.1f}</td>' in html


@pytest.mark.parametrize("is_good", [True, False], ids=["good ones alone", "defective ones alone"])
def test_what_is_not_defined_is_a_dash(tiny_root, tmp_path, is_good):
    images = [image for image in read_category(tiny_root, "disc").test if image.is_good == is_good]
    write_sections(tmp_path / "report.html", [describe(evaluate(HalfRight(), images), RESULT, Intensity())])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert Tags(html).open == []
    assert "<b>–</b><small></small><span>image AUROC</span>" in html
    assert not re.search(r"\bnan\b", html)


def test_runs_of_one_category_are_told_apart_by_their_seeds(evaluation, tmp_path):
    write_sections(
        tmp_path / "report.html", [describe(evaluation, {**RESULT, "seed": seed}, Intensity()) for seed in (3, 4)]
    )
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>Defects in disc</title>" in html
    assert re.findall(r"<h2>(disc, seed \d)", html) == ["disc, seed 3", "disc, seed 4"]
    ids = [value for _, name, value in Tags(html).attributes if name == "id"]
    assert len(set(ids)) == len(ids) == 2


WATCH = """<script>
const problems = [];
addEventListener("error", (event) => problems.push(event.message));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
for (const level of ["error", "warn"]) console[level] = (...words) => problems.push(words.join(" "));
const copied = [];
Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { copied.push(text); } } });
</script>"""
TRY = """<script>
const find = (what) => [...document.querySelectorAll(what)];
const name = (card) => card.querySelector("code").textContent;
const shown = () => find("article").filter((card) => card.offsetParent).map(name);
const click = (what) => document.querySelector(what).click();
const slide = (what, to) => {
  const slider = document.querySelector(what);
  slider.value = to;
  slider.dispatchEvent(new Event("input"));
};
const covered = () => find("article").map((card) => getComputedStyle(card.querySelector(".heat")).clipPath);
(async () => {
  const outcome = { all: shown() };
  click('[data-filter="spot"]'); outcome.spot = shown();
  click(".wrong-only"); outcome.wrongSpots = shown();
  click('[data-filter=""]'); outcome.wrong = shown();
  click(".wrong-only"); click(".wrong-first"); outcome.byScore = shown();
  slide(".cover-all", 30); outcome.coverAll = covered();
  slide("article input", 0); outcome.coverOne = covered();
  const read = (what) => document.querySelector(what).textContent;
  const decided = () => [shown(), read(".missed"), read(".false-alarms")];
  click(".wrong-only");
  slide(".threshold", document.querySelector(".threshold").max); outcome.strict = decided();
  outcome.outlines = find("article .found").map((line) => getComputedStyle(line).display);
  click(".in-force"); outcome.inForce = decided();
  click(".wrong-only");
  click("[data-path]"); await null; outcome.copied = copied;
  outcome.picture = await new Promise((done) => {
    const image = new Image();
    image.onload = () => done(image.naturalWidth); image.onerror = () => done(0);
    image.src = getComputedStyle(document.querySelector(".heat")).backgroundImage.slice(5, -2);
  });
  outcome.problems = problems;
  document.documentElement.innerHTML = `<pre>${JSON.stringify(outcome)}</pre>`;
})();
</script>"""
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(not CHROMIUM, reason="neither chromium nor google-chrome is on the path")
def test_in_a_browser_filters_filter_sliders_slide_and_nothing_is_complained_about(write, tmp_path):
    html = write().replace("<head>", "<head>" + WATCH).replace("</body>", TRY + "</body>")
    page = tmp_path / "tried.html"
    page.write_text(html, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command = [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    outcome = json.loads(re.search(r"<pre>(.*)</pre>", dumped).group(1))
    good, spots = ["good/000.png", "good/001.png"], ["spot/000.png", "spot/001.png"]
    assert outcome["problems"] == []
    assert sorted(outcome["all"][:2]) == good
    assert sorted(outcome["all"][2:]) == spots
    assert sorted(outcome["spot"]) == spots
    assert outcome["wrongSpots"] == []
    assert sorted(outcome["wrong"]) == good
    assert sorted(outcome["byScore"][:2]) == spots
    assert outcome["coverAll"] == ["inset(0px 70% 0px 0px)"] * 4
    assert outcome["coverOne"] == ["inset(0px 100% 0px 0px)"] + ["inset(0px 70% 0px 0px)"] * 3
    assert [sorted(outcome["strict"][0]), *outcome["strict"][1:]] == [[], "0", "0"]  # both spots score the same
    assert sorted(outcome["outlines"]) == ["block"] * 2 + ["none"] * 2
    assert [sorted(outcome["inForce"][0]), *outcome["inForce"][1:]] == [good, "0", "2"]
    assert outcome["copied"][0].endswith(outcome["byScore"][0])
    assert outcome["picture"] == 256
