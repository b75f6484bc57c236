// What passes between this page and the server, for those who want to know how it is done.

import { make } from '../dom.js';
import { locale } from '../strings.js';

const KEPT = 200;
const time = new Intl.DateTimeFormat(locale, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  fractionalSecondDigits: 3,
});

/** Credentials are for nobody to read over a shoulder. */
function cutShort(name, value) {
  return (name === 'apiKey' || name === 'token') && typeof value === 'string' ? `${value.slice(0, 9)}…` : value;
}

export class DrawerView {
  #drawer = document.getElementById('drawer');
  #list = document.getElementById('frames');
  #toggle = document.getElementById('drawer-toggle');

  constructor() {
    this.#toggle.addEventListener('click', () => this.#show(this.#drawer.hidden));
    document.getElementById('drawer-close').addEventListener('click', () => this.#show(false));
    document.getElementById('drawer-clear').addEventListener('click', () => this.#list.replaceChildren());
  }

  /** Callbacks for one user's session: every frame, every request. */
  of(user) {
    return {
      onFrame: (direction, frame) => this.#add(user, direction, frame.type, summaryOf(frame), frame),
      onCall: ({ method, url, status, ms, body }) =>
        this.#add(user, status >= 200 && status < 400 ? 'rest' : 'failed', `${method} ${status || '—'}`, `${url} · ${ms} ms`, {
          method,
          url,
          status,
          ...(body && { body }),
        }),
    };
  }

  #show(isShown) {
    this.#drawer.hidden = !isShown;
    this.#toggle.setAttribute('aria-expanded', String(isShown));
    if (!isShown) this.#toggle.focus();
  }

  #add(user, direction, type, summary, content) {
    const row = make('li');
    const details = make('details');
    const line = make('summary');
    line.append(
      make('time', '', time.format(new Date())),
      make('span', `direction ${direction}`, { out: '↑', in: '↓', rest: '⇄', failed: '⇄' }[direction]),
      make('span', 'who', user.displayName),
      make('strong', 'type', type),
      make('span', 'summary', summary),
    );
    details.append(line);
    details.addEventListener(
      'toggle',
      () => details.append(make('pre', '', JSON.stringify(content, cutShort, 2))),
      { once: true },
    );
    row.append(details);
    this.#list.prepend(row);
    if (this.#list.childElementCount > KEPT) this.#list.lastElementChild.remove();
  }
}

function summaryOf({ data = {}, id }) {
  const { message, content, code, seq, status, isTyping, externalUserId } = data;
  const parts = [
    id === undefined ? null : `#${id}`,
    seq === undefined ? null : `seq ${seq}`,
    externalUserId,
    status,
    code,
    isTyping === undefined ? null : `isTyping ${isTyping}`,
    message?.content?.text ?? content?.text ?? (typeof message === 'string' ? message : null),
  ];
  return parts.filter(Boolean).join(' · ').slice(0, 160);
}
