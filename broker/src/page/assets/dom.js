// Making and changing elements. Text goes in as text only: nothing here or elsewhere parses markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** An element of HTML. Children are elements or texts. */
export const el = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

/** An element of SVG. */
export const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

export const byId = (id) => document.getElementById(id);

/** Sets text where it differs: what does not change is not drawn again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute where it differs; null removes it. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/**
 * Makes `parent` hold one element an item, in order: those of known keys are kept and updated, moved only
 * where they are not in place, and the rest is removed. What stands before `start` stays.
 */
export function reconcile(parent, known, items, keyOf, make, update, start = parent.firstChild) {
  const kept = new Set();
  let cursor = start;
  for (const item of items) {
    const key = keyOf(item);
    kept.add(key);
    let entry = known.get(key);
    if (!entry) {
      entry = make(item);
      known.set(key, entry);
    }
    update(entry, item);
    if (entry.element === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(entry.element, cursor);
  }
  for (const [key, entry] of known) {
    if (kept.has(key)) continue;
    entry.element.remove();
    known.delete(key);
  }
}

/** Has `draw` run once in a frame soon, however often it is asked to, and not within `rest` ms of the last time. */
export function coalesced(draw, rest = 0) {
  let asked = false,
    last = -Infinity;
  const run = () =>
    requestAnimationFrame(() => {
      asked = false;
      last = performance.now();
      draw();
    });
  return () => {
    if (asked) return;
    asked = true;
    const wait = last + rest - performance.now();
    if (wait > 0) setTimeout(run, wait);
    else run();
  };
}
