// How long to wait before the next try. Full jitter: after a restart not every client comes back at the same moment.

const FIRST_MS = 500;
const MOST_MS = 15_000;

/** Milliseconds before try number `attempt` (0, 1, 2 …): anything up to a ceiling that doubles, 15 s at most. */
export function jitteredDelay(attempt, random = Math.random) {
  return random() * Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
}

export function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
