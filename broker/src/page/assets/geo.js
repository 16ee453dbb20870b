// The map's geometry, without any drawing: TopoJSON arcs joined into rings, rings cut at the antimeridian,
// the Natural Earth projection, great circles.
//
// world.json ─ decode ─▶ rings (degrees) ─ cut ─▶ rings within ±180° ─ project ─▶ path data
//
// Coordinates of the map are the projection's, in units of 100 a radian, y downward.

const RADIANS = Math.PI / 180;
const SCALE = 100;

/** What of the world is shown: from Tierra del Fuego to the north of Greenland. */
export const SOUTH = -57;
export const NORTH = 83.7;

/** Natural Earth projection (Tom Patterson, polynomials by Bojan Šavrič): degrees to map coordinates. */
export function project(longitude, latitude) {
  const p = latitude * RADIANS,
    p2 = p * p,
    p4 = p2 * p2;
  const width = 0.8707 - 0.131979 * p2 + p4 * (-0.013791 + p4 * (0.003971 * p2 - 0.001529 * p4));
  const height = 1.007226 + p2 * (0.015085 + p4 * (-0.044475 + 0.028874 * p2 - 0.005916 * p4));
  return [SCALE * longitude * RADIANS * width, -SCALE * p * height];
}

/** The part of the projection that is shown: [left, top, width, height]. */
export const FRAME = (() => {
  const right = project(180, 0)[0],
    top = project(0, NORTH)[1],
    bottom = project(0, SOUTH)[1];
  return [-right, top, 2 * right, bottom - top];
})();

/** Countries of a topology: [{id, name, rings: [[[longitude, latitude], …], …]}, …]. */
export function decode(topology) {
  const {
    scale: [sx, sy],
    translate: [tx, ty],
  } = topology.transform;
  const arcs = topology.arcs.map((arc) => {
    let x = 0,
      y = 0;
    return arc.map(([dx, dy]) => [(x += dx) * sx + tx, (y += dy) * sy + ty]);
  });
  const ring = (indices) => {
    const points = [];
    for (const index of indices) {
      // A negative index is an arc run through backwards; each begins where the last one ended.
      const arc = index < 0 ? arcs[~index].slice().reverse() : arcs[index];
      points.push(...(points.length ? arc.slice(1) : arc));
    }
    return points;
  };
  return topology.objects.countries.geometries.map((shape) => {
    const polygons = shape.type === 'Polygon' ? [shape.arcs] : shape.type === 'MultiPolygon' ? shape.arcs : [];
    return { id: shape.id, name: shape.properties.name, rings: polygons.flat().map(ring) };
  });
}

/** A ring with longitudes that go on where they would jump: 179, 181 instead of 179, −179. */
function unwrap(ring) {
  let turn = 0;
  return ring.map(([longitude, latitude], i) => {
    if (i > 0) {
      const step = longitude - ring[i - 1][0];
      if (step > 180) turn -= 360;
      if (step < -180) turn += 360;
    }
    return [longitude + turn, latitude];
  });
}

/** What of a closed ring is on one side of a meridian (Sutherland and Hodgman). */
function clip(ring, meridian, side) {
  const inside = ([longitude]) => side * (longitude - meridian) <= 0;
  const kept = [];
  ring.forEach((point, i) => {
    const before = ring[(i + ring.length - 1) % ring.length];
    if (inside(point) !== inside(before)) {
      const share = (meridian - before[0]) / (point[0] - before[0]);
      kept.push([meridian, before[1] + share * (point[1] - before[1])]);
    }
    if (inside(point)) kept.push(point);
  });
  return kept;
}

/** A ring as rings that all lie within ±180°. */
export function cut(ring) {
  const flat = unwrap(ring);
  const pieces = [];
  for (const turn of [-360, 0, 360]) {
    const moved = flat.map(([longitude, latitude]) => [longitude + turn, latitude]);
    const piece = clip(clip(moved, 180, 1), -180, -1);
    if (piece.length > 2) pieces.push(piece);
  }
  return pieces;
}

const number = (value) => value.toFixed(1);

function run(points) {
  return points
    .map(([longitude, latitude], i) => {
      const [x, y] = project(longitude, latitude);
      return `${i ? 'L' : 'M'}${number(x)},${number(y)}`;
    })
    .join('');
}

/** Path data of countries; Antarctica, which has no country's users, is left out. */
export function outlines(countries) {
  const shown = countries.filter((country) => country.id !== '010');
  return shown
    .map((country) =>
      country.rings
        .flatMap(cut)
        .map((piece) => run(piece) + 'Z')
        .join(''),
    )
    .join('');
}

/** Path data of the meridians and parallels every 30°, and of the world's edge. */
export function graticule() {
  const lines = [];
  const steps = (from, to) => Array.from({ length: 24 }, (_, i) => from + ((to - from) * i) / 23);
  for (let longitude = -180; longitude <= 180; longitude += 30) {
    lines.push(run(steps(SOUTH, NORTH).map((latitude) => [longitude, latitude])));
  }
  for (let latitude = -30; latitude <= 60; latitude += 30) {
    lines.push(
      run([
        [-180, latitude],
        [180, latitude],
      ]),
    );
  }
  return lines.join('');
}

/** Path data of the world's outline, as far as it is shown. */
export function sphere() {
  const steps = Array.from({ length: 40 }, (_, i) => SOUTH + ((NORTH - SOUTH) * i) / 39);
  return (
    run([...steps.map((latitude) => [-180, latitude]), ...steps.reverse().map((latitude) => [180, latitude])]) +
    'Z'
  );
}

function vector([longitude, latitude]) {
  const l = longitude * RADIANS,
    p = latitude * RADIANS;
  return [Math.cos(p) * Math.cos(l), Math.cos(p) * Math.sin(l), Math.sin(p)];
}

/** Points of the great circle from one place to another, [longitude, latitude] each. */
export function greatCircle(from, to, steps = 32) {
  const a = vector(from),
    b = vector(to);
  const dot = Math.min(1, Math.max(-1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2]));
  const angle = Math.acos(dot);
  // The same place; or opposite ones, between which every way is as short.
  if (angle < 1e-6 || Math.PI - angle < 1e-6) return [from, to];
  const points = [];
  for (let i = 0; i <= steps; i++) {
    const share = i / steps;
    const s = Math.sin((1 - share) * angle) / Math.sin(angle),
      t = Math.sin(share * angle) / Math.sin(angle);
    const [x, y, z] = [0, 1, 2].map((axis) => s * a[axis] + t * b[axis]);
    points.push([Math.atan2(y, x) / RADIANS, Math.atan2(z, Math.hypot(x, y)) / RADIANS]);
  }
  return points;
}

/** Path data of the way from one place to another; at the antimeridian it leaves and comes back. */
export function arc(from, to) {
  const points = greatCircle(from, to);
  let runs = [[points[0]]];
  for (let i = 1; i < points.length; i++) {
    const [before, point] = [points[i - 1], points[i]];
    const step = point[0] - before[0];
    if (Math.abs(step) > 180) {
      const edge = step < 0 ? 180 : -180;
      const whole = step < 0 ? step + 360 : step - 360;
      const share = whole === 0 ? 0 : (edge - before[0]) / whole;
      const latitude = before[1] + share * (point[1] - before[1]);
      runs[runs.length - 1].push([edge, latitude]);
      runs.push([[-edge, latitude]]);
    }
    runs[runs.length - 1].push(point);
  }
  return runs.map(run).join('');
}

/** Whether something is a place that can be drawn. */
export function isPlace(thing) {
  return Number.isFinite(thing?.latitude) && Number.isFinite(thing?.longitude);
}

/**
 * Things that would overlap, together: those within `radius` map units of a cluster's first one.
 * Returns [{key, x, y, members}]; a key names the first member and stays while that does.
 */
export function cluster(things, radius) {
  const cells = new Map();
  const clusters = [];
  const at = (x, y) => `${x},${y}`;
  for (const thing of things) {
    const [x, y] = project(thing.longitude, thing.latitude);
    const [cx, cy] = [Math.floor(x / radius), Math.floor(y / radius)];
    let found = null;
    for (let i = -1; i <= 1 && !found; i++) {
      for (let j = -1; j <= 1 && !found; j++) {
        const near = cells.get(at(cx + i, cy + j)) ?? [];
        found = near.find((c) => Math.hypot(c.x - x, c.y - y) < radius) ?? null;
      }
    }
    if (found) {
      found.members.push(thing);
      continue;
    }
    const made = { key: thing.key, x, y, members: [thing] };
    clusters.push(made);
    const cell = at(cx, cy);
    cells.set(cell, [...(cells.get(cell) ?? []), made]);
  }
  return clusters;
}
