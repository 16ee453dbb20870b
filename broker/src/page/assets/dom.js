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
 * Which of elements that are at `places` now, in the order that is wanted (-1: nowhere yet), can stay while the
 * others are moved around them: as many as possible, among them the one at index `pinned`. A set of indexes. Pure.
 */
export function staying(places, pinned = -1) {
  const pin = places[pinned] ?? -1;
  const fits = (place, i) =>
    place >= 0 && (pin < 0 || i === pinned || (i < pinned ? place < pin : place > pin));
  // The longest rising run: `ends[n]` is the index whose place ends the best one of n + 1.
  const ends = [],
    before = new Array(places.length).fill(-1);
  places.forEach((place, i) => {
    if (!fits(place, i)) return;
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (places[ends[middle]] < place) low = middle + 1;
      else high = middle;
    }
    if (low > 0) before[i] = ends[low - 1];
    ends[low] = i;
  });
  const stay = new Set();
  for (let i = ends.length ? ends[ends.length - 1] : -1; i >= 0; i = before[i]) stay.add(i);
  return stay;
}

/**
 * Makes `parent` hold one element an item, in order: those of known keys are kept and updated, as few as
 * possible moved and never the one that holds the focus, which moving would take away; the rest is removed.
 * What stands before `start` stays.
 */
export function reconcile(parent, known, items, keyOf, make, update, start = parent.firstChild) {
  const kept = new Map();
  for (const item of items) {
    const key = keyOf(item);
    let entry = known.get(key);
    if (!entry) {
      entry = make(item);
      known.set(key, entry);
    }
    update(entry, item);
    kept.set(key, entry.element);
  }
  const places = new Map();
  for (let node = start; node; node = node.nextSibling) places.set(node, places.size);
  for (const [key, entry] of known) {
    if (kept.has(key)) continue;
    entry.element.remove();
    known.delete(key);
  }
  const wanted = [...kept.values()];
  const active = document.activeElement;
  const pinned = parent.contains(active) ? wanted.findIndex((element) => element.contains(active)) : -1;
  const stay = staying(
    wanted.map((element) => places.get(element) ?? -1),
    pinned,
  );
  for (let i = wanted.length - 1, next = null; i >= 0; next = wanted[i--]) {
    if (!stay.has(i)) parent.insertBefore(wanted[i], next);
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
