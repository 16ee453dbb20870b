// Reasons of verdicts in words: the broker's own table, which its command line uses too.

let table = { reasons: {}, wanted: [] };

export const setWords = (loaded) => {
  table = loaded;
};

/** Why a verdict is what it is; an unknown code is shown as it is. */
export const words = (code) =>
  Object.hasOwn(table.reasons, code) ? table.reasons[code] : String(code).replaceAll('_', ' ');

/** Whether a person wants it so. */
export const isWanted = (code) => table.wanted.includes(code);

/** How a state is drawn, so that it is told without colour too. */
const SIGNS = {
  up: '●',
  down: '✕',
  suspect: '▲',
  unattended: '◆',
  draining: '◧',
  warming: '◔',
  unknown: '?',
};
export const sign = (state) => (Object.hasOwn(SIGNS, state) ? SIGNS[state] : '?');
export const STATES = Object.keys(SIGNS);

/** `broker failed, 2 of 3 witnesses failed`: what a verdict rests on. */
export function evidence(view, age) {
  if (!view) return '';
  const parts = [];
  if (Number.isFinite(view.agent_heard_ms_ago)) parts.push(`agent heard ${age(view.agent_heard_ms_ago)} ago`);
  if (view.broker)
    parts.push(`broker ${view.broker.reached ? 'reached it' : 'failed'} ${age(view.broker.ms_ago)} ago`);
  parts.push(...others(view).map((who) => `${who} failed`), ...complaints(view));
  if (view.penalty >= 0.05) parts.push(`penalty ${view.penalty.toFixed(1)}`);
  return parts.join(', ');
}

/** `2 of 3 witnesses`, `1 of 2 other brokers`: who else failed to reach it. */
function others(view) {
  const parts = [];
  const { witnesses = [], peers = [] } = view;
  const failed = witnesses.filter((w) => w.said === 'failed').length;
  if (witnesses.length) parts.push(`${failed} of ${witnesses.length} witnesses`);
  if (peers.length) parts.push(`${peers.filter((p) => !p.reached).length} of ${peers.length} other brokers`);
  return parts;
}

function complaints(view) {
  if (!view.complaints) return [];
  return [`clients of ${view.complaints} network${view.complaints === 1 ? '' : 's'} complain`];
}

/** Who agreed that a mirror is down, shortly: `broker and 2 of 3 witnesses failed`. */
export function agreed(view) {
  if (!view) return '';
  const parts = others(view);
  const own = Boolean(view.broker) && !view.broker.reached;
  if (own && !parts.length) return ['the broker’s own probe failed', ...complaints(view)].join(', ');
  if (own) parts.unshift('broker');
  const failed =
    parts.length > 1 ? `${parts.slice(0, -1).join(', ')} and ${parts[parts.length - 1]}` : parts.join('');
  return [failed && `${failed} failed`, ...complaints(view)].filter(Boolean).join(', ');
}
