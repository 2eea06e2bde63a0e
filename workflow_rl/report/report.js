// Draws the charts, as wide as the page allows and in its light or dark colours.
"use strict";

const specifications = JSON.parse(document.getElementById("specifications").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const isNarrow = document.body.clientWidth < 500;

/** The chart as it fits the page: as wide as its place, on a phone with one entry of its legends in a line. */
function fitted(specification) {
  const { config } = specification;
  const oneBelowAnother = { columns: 1, layout: { bottom: { direction: "vertical" } } };
  const legend = isNarrow ? { ...config.legend, ...oneBelowAnother } : config.legend;
  return { ...specification, width: "container", config: { ...config, legend } };
}

async function draw() {
  for (const place of document.querySelectorAll(".chart")) {
    await vegaEmbed(place, fitted(specifications[place.dataset.figure]), {
      theme: dark.matches ? "dark" : undefined,
      config: { background: "transparent" },
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: place.dataset.figure,
    });
  }
  document.body.dataset.drawn = "true";
}

dark.addEventListener("change", draw);
draw();
