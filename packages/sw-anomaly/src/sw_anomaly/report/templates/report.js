"use strict";

for (const section of document.querySelectorAll("section[data-category]")) {
  const gallery = section.querySelector(".gallery");
  const cards = [...gallery.children];
  const kinds = [...section.querySelectorAll("[data-filter]")];
  const wrongFirst = section.querySelector(".wrong-first");
  const wrongOnly = section.querySelector(".wrong-only");
  const cover = section.querySelector(".cover-all");
  const slider = section.querySelector(".threshold");
  const mark = section.querySelector(".at-threshold");
  let kind = "";

  const isWrong = (card) => card.classList.contains("wrong");

  function refresh() {
    for (const button of kinds) button.setAttribute("aria-pressed", button.dataset.filter === kind);
    for (const card of cards) card.hidden = (kind && card.dataset.kind !== kind) || (wrongOnly.checked && !isWrong(card));
    const rank = (card) => (isWrong(card) ? (card.dataset.kind === "good" ? 1 : 2) : 0);  // missed defects first
    const order = (a, b) => (wrongFirst.checked ? rank(b) - rank(a) : 0) || b.dataset.score - a.dataset.score;
    gallery.append(...cards.sort(order));
    const shown = cards.filter((card) => !card.hidden).length;
    section.querySelector(".shown").textContent = `${shown} of ${cards.length} images`;
  }

  function decide(threshold) {
    const share = (threshold - slider.min) / (slider.max - slider.min);
    for (const end of ["x1", "x2"]) mark.setAttribute(end, 100 * share);
    section.querySelector("output").textContent = Number(threshold.toPrecision(3));
    const wrong = { good: 0, defective: 0 };
    for (const card of cards) {
      const isGood = card.dataset.kind === "good", isCalled = card.dataset.score >= threshold;
      card.classList.toggle("called", isCalled);
      card.classList.toggle("wrong", isGood === isCalled);
      card.querySelector(".verdict").textContent = `${isGood === isCalled ? "✗" : "✓"} called ${isCalled ? "defective" : "good"}`;
      wrong[isGood ? "good" : "defective"] += isGood === isCalled;
    }
    section.querySelector(".missed").textContent = wrong.defective;
    section.querySelector(".false-alarms").textContent = wrong.good;
    refresh();
  }

  function setCover(card, percent) {
    card.style.setProperty("--cover", `${percent}%`);
    card.querySelector("input").value = percent;
  }

  for (const button of kinds) button.addEventListener("click", () => { kind = button.dataset.filter; refresh(); });
  for (const box of [wrongFirst, wrongOnly]) box.addEventListener("change", refresh);
  slider.addEventListener("input", () => decide(slider.valueAsNumber));
  section.querySelector(".in-force").addEventListener("click", () => {
    slider.value = slider.dataset.inForce;
    decide(Number(slider.dataset.inForce));
  });
  cover.addEventListener("input", () => cards.forEach((card) => setCover(card, cover.value)));
  for (const card of cards) {
    const own = card.querySelector("input");
    own.addEventListener("input", () => setCover(card, own.value));
    const copy = card.querySelector("button");
    copy.addEventListener("click", async () => {
      const done = await copyText(copy.dataset.path);
      copy.textContent = done ? "copied" : "copy it from here:";
      if (!done) card.querySelector("code").textContent = copy.dataset.path;
      setTimeout(() => { copy.textContent = "copy path"; }, 2000);
    });
  }
  decide(Number(slider.dataset.inForce));
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {  // pages that were opened as a file have no clipboard in some browsers
    const field = Object.assign(document.body.appendChild(document.createElement("textarea")), { value: text });
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
