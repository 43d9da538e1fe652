/* Elements of the page. What was said or is remembered gets into them as text, never as markup. */

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Write a text only if it is another one: a live region is read out each time it is written. */
export function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

const SVG = "http://www.w3.org/2000/svg";

/** A drawing out of the page's symbols, for the eyes alone. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(use);
  return drawing;
}

/** Show another drawing in an element that has one. */
export function redraw(place, name) {
  place.querySelector("use")?.setAttribute("href", `#i-${name}`);
}

/** A button of text; `label` is read out instead, where the text alone does not say what of. */
export function button(text, onClick, { className = "", label = "" } = {}) {
  const made = element("button", { type: "button", className, textContent: text });
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", onClick);
  return made;
}
