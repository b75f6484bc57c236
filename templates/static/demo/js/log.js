// The messages of one conversation that this page holds, by seq.

export class Log {
  #byId = new Map();
  /** In the order of seq. */
  messages = [];
  /** An older message exists on the server. */
  hasMore = true;
  isLoaded = false;
  isLoading = false;
  /** Loading failed; whoever looks may try again. */
  isBroken = false;
  /** The last seq seen, of a message or another durable event. */
  cursor = 0;

  /** Inserts, or replaces with a newer rendering of the same message; a repeat changes nothing. */
  put(message) {
    const known = this.#byId.has(message.id);
    this.#byId.set(message.id, message);
    let at = this.messages.length;
    while (at > 0 && this.messages[at - 1].seq > message.seq) at -= 1;
    if (!known) this.messages.splice(at, 0, message);
    else this.messages[this.messages.findIndex(({ id }) => id === message.id)] = message;
    this.advance(message.seq);
    return !known;
  }

  has(id) {
    return this.#byId.has(id);
  }

  advance(seq) {
    this.cursor = Math.max(this.cursor, seq);
  }

  get oldestSeq() {
    return this.messages[0]?.seq ?? this.cursor + 1;
  }
}
