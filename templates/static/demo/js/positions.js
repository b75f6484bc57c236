// Up to where a user has read, kept in this browser until the socket's `mark_read` keeps it on the server.

export class ReadPositions {
  #key;
  #seqs;

  constructor(userId, storage = localStorage) {
    this.#key = `messagecore.demo.read.${userId}`;
    this.storage = storage;
    this.#seqs = this.#load();
  }

  get(conversationId) {
    return this.#seqs[conversationId] ?? 0;
  }

  advance(conversationId, seq) {
    if (seq <= this.get(conversationId)) return;
    this.#seqs = { ...this.#load(), [conversationId]: seq };
    try {
      this.storage.setItem(this.#key, JSON.stringify(this.#seqs));
    } catch {
      // A full or forbidden storage costs the memory of it, not the reading.
    }
  }

  #load() {
    try {
      return JSON.parse(this.storage.getItem(this.#key)) ?? {};
    } catch {
      return {};
    }
  }
}
