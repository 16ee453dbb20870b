// Server-sent events (HTML, section 9.2.6) off a stream of text: a fetch can carry a token, an EventSource
// cannot.

/** A parser: feed it text as it comes, it calls `dispatch({event, data, id})` for each whole event. */
export function parser(dispatch) {
  let rest = '';
  let event = '',
    data = [],
    id = null;
  const line = (text) => {
    if (text === '') {
      if (data.length) dispatch({ event: event || 'message', data: data.join('\n'), id });
      event = '';
      data = [];
      return;
    }
    const colon = text.indexOf(':');
    const field = colon < 0 ? text : text.slice(0, colon);
    let value = colon < 0 ? '' : text.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'event') event = value;
    else if (field === 'data') data.push(value);
    else if (field === 'id' && !value.includes('\0')) id = value;
  };
  return (text) => {
    rest += text;
    for (;;) {
      const end = rest.search(/[\r\n]/);
      // A return at the very end may be the first half of a line's end.
      if (end < 0 || (rest[end] === '\r' && end === rest.length - 1)) return;
      const two = rest[end] === '\r' && rest[end + 1] === '\n';
      const whole = rest.slice(0, end);
      rest = rest.slice(end + (two ? 2 : 1));
      line(whole);
    }
  };
}

/** How long to wait before the attempt after `failures` failed ones, in milliseconds, with full jitter. */
export function backoff(failures, random = Math.random) {
  const most = Math.min(15_000, 500 * 2 ** Math.min(failures, 10));
  return 250 + random() * most;
}
