/* Buttons to copy and to download; without scripts, the page lacks the buttons and nothing else. */
"use strict";
const button = (text, label, act) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", () => act(made));
  return made;
};
const save = (name, text, type) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
const named = (text) => text.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "tmkt";
const copy = async (text, made) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  made.textContent = "Copied";
  setTimeout(() => { made.textContent = "Copy"; }, 1500);
};
/* A figure for itself: the colors of the page as they are, on its ground. */
const standalone = (svg) => {
  const style = getComputedStyle(document.documentElement);
  const color = (_, name) => style.getPropertyValue(name).trim();
  const drawn = svg.cloneNode(true);
  const box = svg.viewBox.baseVal;
  drawn.setAttribute("width", box.width);
  drawn.setAttribute("height", box.height);
  drawn.setAttribute("style", "font: 8.5px sans-serif; background: var(--paper)");
  return new XMLSerializer().serializeToString(drawn).replace(/var\((--[a-z-]+)\)/g, color);
};
const csv = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => {
  const text = cell.textContent.trim().replace(/\s+/g, " ");
  return /[",]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}).join(",")).join("\n") + "\n";
const title = named(document.title);
document.querySelectorAll("pre").forEach((block) => {
  const frame = document.createElement("div");
  frame.className = "copyable";
  block.replaceWith(frame);
  frame.append(block, button("Copy", "Copy this text", (made) => copy(block.textContent, made)));
});
document.querySelectorAll("figure > svg").forEach((svg, at) => {
  const name = `${title}-figure-${at + 1}.svg`;
  const act = () => save(name, standalone(svg), "image/svg+xml");
  svg.parentElement.querySelector("figcaption").append(" ", button("SVG", `Download figure ${at + 1} as SVG`, act));
});
document.querySelectorAll("table").forEach((table, at) => {
  const act = () => save(`${title}-table-${at + 1}.csv`, csv(table), "text/csv");
  table.caption?.append(" ", button("CSV", `Download table ${at + 1} as CSV`, act));
});
