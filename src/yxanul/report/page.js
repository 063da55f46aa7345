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

  // Where hovering does not exist, a tap shows where a number stands.
  const origin = document.getElementById("origin");
  document.addEventListener("click", (event) => {
    const number = event.target.closest(".n, .cited");
    for (const marked of document.querySelectorAll(".shown")) marked.classList.remove("shown");
    origin.hidden = number === null;
    if (number === null) return;
    number.classList.add("shown");
    origin.textContent = number.dataset.value ? `${number.dataset.value} · ${number.title}` : number.title;
  });
})();
