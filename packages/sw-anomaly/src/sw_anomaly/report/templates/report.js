"use strict";

for (const section of document.querySelectorAll("section[data-category]")) {
  const gallery = section.querySelector(".gallery");
  const cards = [...gallery.children];
  const kinds = [...section.querySelectorAll("[data-filter]")];
  const wrongFirst = section.querySelector(".wrong-first");
  const wrongOnly = section.querySelector(".wrong-only");
  const cover = section.querySelector(".cover-all");
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

  function setCover(card, percent) {
    card.style.setProperty("--cover", `${percent}%`);
    card.querySelector("input").value = percent;
  }

  for (const button of kinds) button.addEventListener("click", () => { kind = button.dataset.filter; refresh(); });
  for (const box of [wrongFirst, wrongOnly]) box.addEventListener("change", refresh);
  cover.addEventListener("input", () => cards.forEach((card) => setCover(card, cover.value)));
  for (const card of cards) {
    const slider = card.querySelector("input");
    slider.addEventListener("input", () => setCover(card, slider.value));
    const copy = card.querySelector("button");
    copy.addEventListener("click", async () => {
      const done = await copyText(copy.dataset.path);
      copy.textContent = done ? "copied" : "copy it from here:";
      if (!done) card.querySelector("code").textContent = copy.dataset.path;
      setTimeout(() => { copy.textContent = "copy path"; }, 2000);
    });
  }
  refresh();
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
