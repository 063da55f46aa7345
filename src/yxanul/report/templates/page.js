"use strict";
(() => {
  const root = document.documentElement;
  const config = { responsive: true, displayModeBar: false };

  // A chart names its colours (@c0); their values are the style sheet's, light or dark.
  function paint(value, style) {
    if (Array.isArray(value)) return value.map((item) => paint(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => {
        const isName = /color$/.test(key) && typeof item === "string" && item.startsWith("@");
        return [key, isName ? style.getPropertyValue(`--${item.slice(1)}`).trim() : paint(item, style)];
      }),
    );
  }

  function draw() {
    const style = getComputedStyle(root);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
      const { data, layout } = paint(figure, style);
      // A finger scrolls the page; a mouse may zoom into the chart, and a double click goes back.
      if (matchMedia("(pointer: fine)").matches) layout.dragmode = "zoom";
      Plotly.react(place, data, layout, config);
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  for (const [event, paper] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      root.classList.toggle("paper", paper);
      draw();
    });
  }

  // Where hovering does not exist, a tap shows where a number stands; so does the keyboard.
  const origin = document.getElementById("origin");
  function tell(number) {
    for (const marked of document.querySelectorAll(".shown")) {
      marked.classList.remove("shown");
      marked.removeAttribute("aria-describedby");
    }
    origin.hidden = number === null;
    if (number === null) return;
    number.classList.add("shown");
    origin.textContent = number.dataset.value ? `${number.dataset.value} · ${number.title}` : number.title;
    // Set before the focus comes, so that a screen reader says it with the number.
    number.setAttribute("aria-describedby", "origin");
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".walk")) tell(event.target.closest(".n, .cited"));
  });

  // One stop of Tab for each part of the page, and arrows among its numbers: a stop for every one
  // of the hundreds would leave nobody a way through the page.
  const numbersOf = (part) =>
    [...part.querySelectorAll(".n, .cited")].filter((number) => number.getClientRects().length > 0);

  function goTo(number) {
    number.tabIndex = -1;
    tell(number);
    number.focus();
  }

  function walk(event, part, button) {
    const numbers = numbersOf(part);
    const at = numbers.indexOf(document.activeElement);
    if (at < 0) return;
    const next = {
      ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
      Home: 0, End: numbers.length - 1,
    }[event.key];
    if (event.key === "Escape") {
      tell(null);
      button.focus();
    } else if (next === undefined) {
      return;
    } else if (numbers[next]) {
      goTo(numbers[next]);
    }
    event.preventDefault();
  }

  for (const part of document.querySelectorAll("header, main > section")) {
    if (part.querySelector(".n, .cited") === null) continue;
    const title = part.querySelector("h1, h2");
    const button = document.createElement("button");
    button.className = "walk";
    button.type = "button";
    button.textContent = "Where the figures stand";
    // Who speaks to the machine says the words that are seen, so the name begins with them.
    const way = `“${title.textContent}”, arrows lead through them, Escape leads back`;
    button.setAttribute("aria-label", `${button.textContent}: ${way}`);
    button.addEventListener("click", () => numbersOf(part).slice(0, 1).forEach(goTo));
    part.addEventListener("keydown", (event) => walk(event, part, button));
    title.after(button);
  }
  document.addEventListener("focusout", (event) => {
    if (event.target.matches(".n, .cited") && !event.relatedTarget?.matches(".n, .cited")) tell(null);
  });
})();
