// Messages on their way: shown at once, kept over a reload, sent again after a break. Each has a clientMessageId, by
// which the server knows a repeat, so none is ever doubled.

import { jitteredDelay } from './backoff.js';
import { ConnectionLost } from './socket.js';

function newClientMessageId() {
  // crypto.randomUUID is missing on plain http from another machine, such as a phone in the same network.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `demo-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

export class Outbox {
  #deliver;
  #onSent;
  #onChange;
  #key;
  #isOpen = false;
  #isSending = false;
  #timer = null;
  #attempt = 0;

  /** `{clientMessageId, conversationId, text, createdAt, state: waiting|sending|failed, error}`, oldest first. */
  entries = [];

  /** `deliver(entry)` resolves with the message; `onSent(message)` and `onChange()` tell the others. */
  constructor({ name, deliver, onSent, onChange, storage = sessionStorage }) {
    this.#key = `messagecore.demo.outbox.${name}`;
    this.#deliver = deliver;
    this.#onSent = onSent;
    this.#onChange = onChange;
    this.storage = storage;
    this.entries = this.#load();
  }

  of(conversationId) {
    return this.entries.filter((entry) => entry.conversationId === conversationId);
  }

  add(conversationId, text) {
    this.entries.push({
      clientMessageId: newClientMessageId(),
      conversationId,
      text,
      createdAt: new Date().toISOString(),
      state: 'waiting',
      error: null,
    });
    this.#changed();
    this.#pump();
  }

  /** The message is in the log, by whatever way we heard of it. */
  settle(clientMessageId) {
    const left = this.entries.filter((entry) => entry.clientMessageId !== clientMessageId);
    if (left.length === this.entries.length) return;
    this.entries = left;
    this.#changed();
  }

  retry(clientMessageId) {
    const entry = this.entries.find((candidate) => candidate.clientMessageId === clientMessageId);
    if (entry?.state !== 'failed') return;
    this.#set(entry, 'waiting', null);
    this.#pump();
  }

  discard(clientMessageId) {
    this.settle(clientMessageId);
  }

  /** The way is free. */
  open() {
    this.#isOpen = true;
    this.#attempt = 0;
    this.#pump();
  }

  /** The way is blocked; what waits goes on waiting. */
  close() {
    this.#isOpen = false;
    clearTimeout(this.#timer);
  }

  /** One at a time, so that they arrive in the order in which they were written. */
  async #pump() {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      let entry;
      while (this.#isOpen && (entry = this.entries.find(({ state }) => state === 'waiting'))) {
        if (!(await this.#send(entry))) break;
      }
    } finally {
      this.#isSending = false;
    }
  }

  /** False: no use in going on with the next one now. */
  async #send(entry) {
    this.#set(entry, 'sending', null);
    try {
      const message = await this.#deliver(entry);
      this.#attempt = 0;
      this.#onSent(message);
      this.settle(entry.clientMessageId);
      return true;
    } catch (error) {
      if (!this.entries.includes(entry)) return true;
      if (error instanceof ConnectionLost) {
        this.#set(entry, 'waiting', null);
        return false;
      }
      if (error.retryable) {
        this.#set(entry, 'waiting', null);
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#pump(), 500 + jitteredDelay(this.#attempt++));
        return false;
      }
      this.#set(entry, 'failed', { code: error.code ?? 'unknown', message: error.message });
      return true;
    }
  }

  #set(entry, state, error) {
    entry.state = state;
    entry.error = error;
    this.#changed();
  }

  #changed() {
    try {
      this.storage.setItem(this.#key, JSON.stringify(this.entries));
    } catch {
      // Not kept over a reload then.
    }
    this.#onChange();
  }

  #load() {
    try {
      const kept = JSON.parse(this.storage.getItem(this.#key)) ?? [];
      return kept.map((entry) => (entry.state === 'sending' ? { ...entry, state: 'waiting' } : entry));
    } catch {
      return [];
    }
  }
}
