// Getting what was missed while the socket was away. The one place to change once the socket's `resume` does it.

const PAGE = 100;
/** Beyond this the log starts anew from its newest page; what lies between is loaded when somebody scrolls there. */
const MOST_MESSAGES = 500;

/**
 * Brings every log that the store has loaded up to what its conversation says is the last seq. Conversations must be
 * fresh, and live events held back until this is over. Throws ApiError.
 */
export async function catchUp({ api, store }) {
  for (const [conversationId, log] of store.logs) {
    const conversation = store.conversations.get(conversationId);
    if (conversation && log.isLoaded && conversation.lastSeq > log.cursor) {
      await catchUpOne(api, store, conversationId, log, conversation.lastSeq);
    }
  }
}

async function catchUpOne(api, store, conversationId, log, lastSeq) {
  for (let got = 0; got < MOST_MESSAGES; got += PAGE) {
    const { messages } = await api.history(conversationId, { limit: PAGE, afterSeq: log.cursor });
    store.putMessages(conversationId, messages);
    if (messages.length < PAGE) {
      log.advance(lastSeq);
      return;
    }
  }
  const { messages, pagination } = await api.history(conversationId, { limit: PAGE, afterSeq: null });
  store.restartLog(conversationId, messages, { hasMore: pagination.hasMore });
}
