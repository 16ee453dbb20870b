// Asking the broker: JSON and the stream of events, with a token where one is needed.

import { backoff, parser } from './sse.js';

const TOKEN = 'nearmost.token';
/** The broker sends something every 15 s; a stream silent for this long is dead. */
const SILENCE_MS = 40_000;
/** Answers that take longer are given up. */
export const PATIENCE_MS = 10_000;

/** The token of this tab; it is kept nowhere else. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** A refusal: `status` (0 where nothing was answered) and what the broker said. */
export class ApiError extends Error {
  constructor(status, message, code = '') {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Whether a token is asked for; what is forbidden (403) no other token mends. */
  get wantsToken() {
    return this.status === 401;
  }
}

/** What is wrong with a text as a token; empty where it can be sent as a header. */
export const wrongToken = (text) =>
  /^[\x21-\x7e]+$/.test(text)
    ? ''
    : 'A token has only letters, digits and signs of ASCII, and no space: this text was cut or changed on its way here.';

function headers(more = {}) {
  const own = token.get();
  return own ? { ...more, Authorization: `Bearer ${own}` } : more;
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const retry = Number(response.headers.get('retry-after'));
  const message = body?.message ?? `the broker answered ${response.status}`;
  const error = new ApiError(response.status, message, body?.code);
  if (retry > 0) error.retryMs = retry * 1000;
  return error;
}

/** Gets JSON; `cache` as fetch has it. Throws an ApiError. */
export async function get(path, cache = 'no-store') {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  let response;
  try {
    response = await fetch(path, {
      headers: headers(),
      signal: patience,
      cache,
      credentials: 'omit',
    });
  } catch (error) {
    throw new ApiError(
      0,
      error.name === 'TimeoutError' ? 'the broker does not answer' : 'the broker is not reached',
    );
  }
  if (!response.ok) throw await refusal(response);
  try {
    return await response.json();
  } catch {
    throw new ApiError(0, 'the broker’s answer broke off');
  }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Follows `/v1/events` for ever, past ones first. Calls `on.transition(event)`, `on.lagged(missed)`,
 * `on.live()` when connected, `on.heard()` for whatever comes, `on.lost(error)` when not; the stream is taken up again where it broke.
 */
export async function follow(on) {
  let last = '0';
  let failures = 0;
  for (;;) {
    try {
      // Asked from the beginning there is always a gap before what is retained; that is none for us.
      let first = last === '0';
      await read(
        last,
        () => {
          failures = 0;
          on.live();
        },
        on.heard,
        ({ event, data, id }) => {
          if (event === 'lagged' && !first) on.lagged(JSON.parse(data).missed);
          first = false;
          if (event !== 'transition') return;
          if (id) last = id;
          on.transition(JSON.parse(data));
        },
      );
      on.lost(new ApiError(0, 'the stream of events ended'));
    } catch (error) {
      const told = error instanceof ApiError ? error : new ApiError(0, 'the stream of events broke');
      on.lost(told);
      if (told.wantsToken) await on.admitted();
      else if (told.retryMs) await wait(told.retryMs);
    }
    await wait(backoff(failures++));
  }
}

async function read(last, live, heard, dispatch) {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), PATIENCE_MS);
  try {
    const response = await fetch('/v1/events', {
      headers: headers({ 'Last-Event-ID': last, Accept: 'text/event-stream' }),
      signal: abort.signal,
      cache: 'no-store',
      credentials: 'omit',
    });
    if (!response.ok) throw await refusal(response);
    live();
    const feed = parser(dispatch);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), SILENCE_MS);
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      feed(value);
    }
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}
