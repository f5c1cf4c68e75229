// One chart of several lines, to zoom in and to read values from, in place of the drawings that stand there.
"use strict";

const COLOURS = { light: ["#0b57d0", "#b3261e", "#0b6b2e", "#8a5a00", "#7b3fb8", "#00696d", "#a0307a", "#4c5a00", "#5b4636", "#37474f"],
  dark: ["#8ab4f8", "#ff9a92", "#7bd694", "#f1cd7a", "#cfa8ff", "#6fdde0", "#ff9fd8", "#cfe07a", "#d7b9a3", "#b9c6cd"] };

function table(lines) {
  const tables = lines.map((line) => [line.x, line.y]);
  return tables.length === 1 ? tables[0] : uPlot.join(tables);
}

function plot(frame) {
  const lines = [...frame.querySelectorAll("[data-line]")].map((each) => JSON.parse(each.dataset.line));
  if (!lines.some((line) => line.x.length > 1)) return;
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const style = getComputedStyle(document.documentElement);
  const axis = { stroke: style.getPropertyValue("--muted"), grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { stroke: style.getPropertyValue("--line") } };
  const colours = COLOURS[isDark ? "dark" : "light"];
  const options = {
    width: frame.clientWidth, height: 360,
    scales: { x: { time: false } },
    axes: [{ ...axis, label: lines[0].unit, labelSize: 24 }, { ...axis, size: 70 }],
    series: [{ label: lines[0].unit }, ...lines.map((line, number) => ({ label: line.label, stroke: colours[number % colours.length], width: 2, spanGaps: true, points: { show: line.x.length < 40 } }))],
  };
  const summary = lines.map((line) => line.label).join(", ");
  frame.replaceChildren();
  frame.setAttribute("role", "img");
  frame.setAttribute("aria-label", `${frame.dataset.title}: ${summary}`);
  const chart = new uPlot(options, table(lines), frame);
  new ResizeObserver(() => chart.setSize({ width: frame.clientWidth, height: 360 })).observe(frame);
}

for (const frame of document.querySelectorAll(".plot")) plot(frame);
