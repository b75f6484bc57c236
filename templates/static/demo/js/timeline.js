// What stands in the list of messages, top to bottom: days, messages, what is on its way.

import { dayKey } from './format.js';

const TOGETHER_MS = 5 * 60_000;

/**
 * Items `{kind: 'day', key, at}` and `{kind: 'message', key, at, isMine, isFirst, message | entry}`. `isFirst`: begins
 * a run of one sender. A message keeps the key that it had while it was on its way.
 */
export function timeline(messages, entries, ownId) {
  const items = [];
  let previous = null;
  const add = (item) => {
    const isNewDay = previous === null || dayKey(previous.at) !== dayKey(item.at);
    if (isNewDay) items.push({ kind: 'day', key: `day ${dayKey(item.at)} ${item.key}`, at: item.at });
    item.isFirst =
      isNewDay || previous.senderId !== item.senderId || Date.parse(item.at) - Date.parse(previous.at) > TOGETHER_MS;
    items.push(item);
    previous = item;
  };
  const arrived = new Set();
  for (const message of messages) {
    const isMine = message.senderId === ownId;
    const key = isMine && message.clientMessageId ? message.clientMessageId : message.id;
    arrived.add(key);
    add({ kind: 'message', key, at: message.createdAt, senderId: message.senderId, isMine, message });
  }
  for (const entry of entries) {
    // In the log already; the outbox hears of it in a moment.
    if (arrived.has(entry.clientMessageId)) continue;
    add({ kind: 'message', key: entry.clientMessageId, at: entry.createdAt, senderId: ownId, isMine: true, entry });
  }
  return items;
}
