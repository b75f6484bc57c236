// One socket that keeps itself open: authentication, commands and their answers, heartbeats, reconnecting.

import { jitteredDelay } from './backoff.js';

const OPEN_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 15_000;
const STEADY_AFTER_MS = 5_000;
// Close codes after which the same attempt would fail again (docs/protocol/README.md).
const FINAL = new Set([4003, 4011, 4013]);
const RENEWABLE = new Set(['token_expired', 'invalid_token', 'invalid_api_key']);

/** A command that the server refused. */
export class CommandRefused extends Error {
  constructor({ code, message, retryable }) {
    super(message);
    this.code = code;
    this.retryable = retryable === true;
  }
}

/** The connection ended before the answer came: whether the command was done is not known. */
export class ConnectionLost extends Error {}

/**
 * States, told by `onState({name, …})`:
 *   connecting            on the way
 *   online   {welcome}    authenticated; commands work
 *   waiting  {retryAt}    lost; the next try is at that time (ms)
 *   refused  {code, message}   will not try again by itself
 *   stopped               closed on purpose
 * `onEvent(type, data)` gets the server's events, `onFrame(direction, frame)` every frame, for onlookers.
 */
export class Connection {
  #url;
  #credentials;
  #onState;
  #onEvent;
  #onFrame;
  #socket = null;
  #attempt = 0;
  #nextId = 1;
  #answers = new Map();
  #timers = new Map();
  #stale = false;
  #renewed = false;
  #refusal = null;
  state = { name: 'stopped' };

  constructor({ url, credentials, onState, onEvent, onFrame = () => {} }) {
    this.#url = url;
    this.#credentials = credentials;
    this.#onState = onState;
    this.#onEvent = onEvent;
    this.#onFrame = onFrame;
  }

  get isOnline() {
    return this.state.name === 'online';
  }

  start() {
    if (this.state.name === 'stopped') this.#connect();
  }

  stop() {
    this.#letGo(new ConnectionLost('stopped'));
    this.#enter({ name: 'stopped' });
  }

  /** Tries at once instead of waiting on. */
  retryNow() {
    if (this.state.name === 'waiting' || this.state.name === 'refused') this.#connect();
  }

  /** The data of the server's answer. Rejects with CommandRefused or ConnectionLost. */
  command(type, data) {
    if (!this.isOnline) return Promise.reject(new ConnectionLost('not connected'));
    return this.#ask(type, data);
  }

  /** For what may get lost: typing and the like. */
  notify(type, data) {
    if (this.isOnline) this.#write({ type, data });
  }

  async #connect() {
    this.#enter({ name: 'connecting' });
    const stale = this.#stale;
    this.#stale = false;
    this.#refusal = null;
    const { state } = this;
    let credentials;
    try {
      credentials = await this.#credentials({ stale });
    } catch {
      this.#stale = stale;
      if (this.state === state) this.#wait(jitteredDelay(this.#attempt++));
      return;
    }
    if (this.state !== state) return;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#authenticate(socket, credentials);
    socket.onmessage = ({ data }) => this.#read(data);
    socket.onclose = ({ code }) => this.#lost(code);
    this.#after('open', OPEN_WITHIN_MS, () => this.#lost(1006));
  }

  async #authenticate(socket, credentials) {
    let welcome;
    try {
      welcome = await this.#ask('authenticate', credentials);
    } catch (error) {
      if (socket !== this.#socket || !(error instanceof CommandRefused)) return;
      // The close that follows says whether it is final; should it not come, it is.
      this.#refusal = error;
      this.#after('open', 1_000, () => this.#lost(4003));
      return;
    }
    clearTimeout(this.#timers.get('open'));
    this.#renewed = false;
    this.#after('steady', STEADY_AFTER_MS, () => {
      this.#attempt = 0;
    });
    this.#enter({ name: 'online', welcome });
    this.#beat(welcome.heartbeatSeconds * 800);
  }

  #beat(everyMs) {
    this.#after('beat', everyMs, async () => {
      try {
        await this.#ask('ping', {});
        this.#beat(everyMs);
      } catch {
        // A lost connection is dealt with where it was noticed.
      }
    });
  }

  #ask(type, data) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#lost(1006), ANSWER_WITHIN_MS);
      this.#answers.set(id, { resolve, reject, timer });
      this.#write({ type, data, id });
    });
  }

  #write(frame) {
    this.#onFrame('out', frame);
    this.#socket.send(JSON.stringify(frame));
  }

  #read(text) {
    const frame = JSON.parse(text);
    this.#onFrame('in', frame);
    const answer = this.#answers.get(frame.id);
    if (answer) {
      this.#answers.delete(frame.id);
      clearTimeout(answer.timer);
      if (frame.type === 'error') answer.reject(new CommandRefused(frame.data));
      else answer.resolve(frame.data);
      return;
    }
    this.#onEvent(frame.type, frame.data);
  }

  #lost(code) {
    this.#letGo(new ConnectionLost(`closed with ${code}`));
    const refusal = this.#refusal;
    const renewable = code === 4010 || (refusal !== null && RENEWABLE.has(refusal.code));
    if (renewable && !this.#renewed) {
      this.#renewed = true;
      this.#stale = true;
      this.#wait(jitteredDelay(this.#attempt++));
    } else if (FINAL.has(code) || refusal !== null) {
      this.#stale = true;
      this.#enter({ name: 'refused', code: refusal?.code ?? String(code), message: refusal?.message ?? '' });
    } else {
      this.#wait((code === 4029 ? 10_000 : 0) + jitteredDelay(this.#attempt++));
    }
  }

  #letGo(reason) {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const answers = [...this.#answers.values()];
    this.#answers.clear();
    for (const { reject, timer } of answers) {
      clearTimeout(timer);
      reject(reason);
    }
  }

  #wait(milliseconds) {
    this.#after('retry', milliseconds, () => this.#connect());
    this.#enter({ name: 'waiting', retryAt: Date.now() + milliseconds });
  }

  #after(name, milliseconds, act) {
    clearTimeout(this.#timers.get(name));
    this.#timers.set(name, setTimeout(act, milliseconds));
  }

  #enter(state) {
    if (state.name === 'connecting') clearTimeout(this.#timers.get('retry'));
    this.state = state;
    this.#onState(state);
  }
}
