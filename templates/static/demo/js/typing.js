// Telling the others that this user types: not at every key, and not for ever.

const AGAIN_MS = 3_000;
const IDLE_MS = 4_000;

export class TypingSignal {
  #start;
  #stop;
  #toldAt = 0;
  #idle = null;

  constructor({ start, stop }) {
    this.#start = start;
    this.#stop = stop;
  }

  input() {
    const now = Date.now();
    if (now - this.#toldAt >= AGAIN_MS) {
      this.#toldAt = now;
      this.#start();
    }
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.stop(), IDLE_MS);
  }

  stop() {
    clearTimeout(this.#idle);
    if (this.#toldAt === 0) return;
    this.#toldAt = 0;
    this.#stop();
  }
}
