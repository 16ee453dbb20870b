// Numbers, times and places in words.

const two = (value) => String(value).padStart(2, '0');

/** `14:03:05`, in the reader's time. */
export function clock(unixMs) {
  const at = new Date(unixMs);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** `14:03:05` of today, `29 Nov 14:03` of other days. */
export function moment(unixMs, nowMs) {
  if (!unixMs) return 'never';
  const at = new Date(unixMs);
  if (at.toDateString() === new Date(nowMs).toDateString()) return clock(unixMs);
  const day = at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** `42 s`, `3 min`, `5 h`, `12 d`. */
export function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** The same, which changes at most once a minute. */
export const coarseAge = (ms) => (ms < 60_000 ? '< 1 min' : age(ms));

/** `1 240`; fractions of a user are users too. */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const whole = value > 0 && value < 1 ? 1 : Math.round(value);
  return String(whole).replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

/** `12.3`, `140`. */
export function ms(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

/** `1 mirror`, `3 mirrors`. */
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** `a`, `a and b`, `a, b and c`; beyond `most` the rest is counted. */
export function list(words, most = Infinity) {
  const shown = words.length > most ? [...words.slice(0, most - 1), `${words.length - most + 1} more`] : words;
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown[shown.length - 1]}`;
}

let names = null;

/** A country's name; a code that nobody knows stays a code. */
export function country(code) {
  if (!/^[A-Z]{2}$/.test(code ?? '')) return code ?? 'unknown country';
  try {
    names ??= new Intl.DisplayNames(['en'], { type: 'region' });
    return names.of(code) ?? code;
  } catch {
    return code;
  }
}

/** `United Kingdom, 51.51 N 0.13 W`. */
export function place(view) {
  const parts = [];
  if (view?.country) parts.push(country(view.country));
  if (Number.isFinite(view?.latitude) && Number.isFinite(view?.longitude)) {
    const [lat, lon] = [view.latitude, view.longitude];
    parts.push(
      `${Math.abs(lat).toFixed(2)} ${lat < 0 ? 'S' : 'N'} ${Math.abs(lon).toFixed(2)} ${lon < 0 ? 'W' : 'E'}`,
    );
  }
  return parts.join(', ') || 'unknown place';
}
