// The only place that makes elements. Text goes in as text, never as markup: names in a fleet are
// chosen by others.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`on` holds listeners) and children, which are elements or text. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const name of Object.keys(attributes)) {
    const value = attributes[name];
    if (name === "on")
      for (const event of Object.keys(value)) element.addEventListener(event, value[event]);
    else if (value !== undefined && value !== null && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Set an element's text, if it is another. */
export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Set or (with null) remove an attribute, if it is another. */
export function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Set the width of a bar, 0..1, if it is another; by the CSSOM, which a strict CSP allows. */
export function width(element, share) {
  const wanted = `${(Math.max(0, Math.min(1, share || 0)) * 100).toFixed(1)}%`;
  if (element.style.width !== wanted) element.style.width = wanted;
}

/** Show or hide. */
export function shown(element, whether) {
  if (element.hidden === whether) element.hidden = !whether;
}

/** Keeps the children of one element in step with a list of keys: what stays is not made anew. */
export class Keyed {
  #parts = new Map();

  /** `make(key)` gives `{node, update(value, key)}`. */
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
  }

  update(keys, valueOf) {
    const gone = new Set(this.#parts.keys());
    let before = this.parent.firstChild;
    for (const key of keys) {
      let part = this.#parts.get(key);
      if (!part) this.#parts.set(key, (part = this.make(key)));
      gone.delete(key);
      if (part.node === before) before = before.nextSibling;
      else this.parent.insertBefore(part.node, before);
      part.update(valueOf(key), key); // in its place, where it has a size and a style
    }
    for (const key of gone) {
      this.#parts.get(key).node.remove();
      this.#parts.delete(key);
    }
  }
}
