// What the page knows on behalf of one user. Changes come in through methods, and go out as events by topic:
// connection, conversations, messages, typing, presence.

import { Log } from './log.js';

// The server says that typing has stopped after 6 s; a lost word of that shall not leave somebody typing for ever.
const TYPING_ENDS_MS = 7_000;

export class Store extends EventTarget {
  #changed = new Set();
  connection = { name: 'stopped' };
  /** Why the conversations cannot be loaded, an ApiError; null while all is well. */
  trouble = null;
  conversations = new Map();
  logs = new Map();
  openId = null;
  /** Conversation id → Map of user id → timer. */
  typing = new Map();
  /** User id → `{status, lastSeen}`. */
  presence = new Map();
  /** The conversation list was loaded at least once. */
  isReady = false;

  constructor({ userId }) {
    super();
    this.userId = userId;
  }

  setConnection(state) {
    this.connection = state;
    if (state.name !== 'online') {
      this.presence.clear();
      for (const id of this.typing.keys()) this.#clearTyping(id);
      this.#tell('presence', 'typing');
    }
    this.#tell('connection');
  }

  setTrouble(error) {
    this.trouble = error;
    this.#tell('connection');
  }

  // --- conversations ---

  replaceConversations(list) {
    const here = new Set(list.map(({ id }) => id));
    for (const id of this.conversations.keys()) if (!here.has(id)) this.removeConversation(id);
    for (const conversation of list) this.putConversation(conversation);
    this.isReady = true;
  }

  putConversation(conversation) {
    const known = this.conversations.get(conversation.id);
    const membership = conversation.membership ?? known?.membership ?? null;
    const lastSeq = Math.max(conversation.lastSeq, known?.lastSeq ?? 0);
    // What everybody is told of a conversation says nothing of this user's place in it.
    const unread = conversation.membership?.unreadCount ?? known?.unread ?? 0;
    this.conversations.set(conversation.id, { ...conversation, membership, lastSeq, unread });
    this.#tell('conversations', 'messages');
  }

  removeConversation(id) {
    this.conversations.delete(id);
    this.logs.delete(id);
    this.#clearTyping(id);
    if (this.openId === id) this.openId = null;
    this.#tell('conversations', 'messages', 'typing');
  }

  /** The latest activity first. */
  listed() {
    const at = (conversation) => conversation.lastMessageAt ?? conversation.createdAt;
    return [...this.conversations.values()].sort((one, other) => (at(one) < at(other) ? 1 : -1));
  }

  get open() {
    return this.conversations.get(this.openId) ?? null;
  }

  setOpen(id) {
    this.openId = id;
    this.#tell('conversations', 'messages', 'typing', 'presence');
  }

  /** The user has seen everything in the conversation. Returns the seq up to which, null if that is not new. */
  markRead(id) {
    const conversation = this.conversations.get(id);
    if (!conversation || (conversation.membership?.lastReadSeq ?? 0) >= conversation.lastSeq) return null;
    this.setRead(id, { lastReadSeq: conversation.lastSeq, unreadCount: 0 });
    return conversation.lastSeq;
  }

  setRead(id, { lastReadSeq, unreadCount }) {
    const conversation = this.conversations.get(id);
    if (!conversation) return;
    conversation.unread = unreadCount;
    conversation.membership = { ...conversation.membership, lastReadSeq, unreadCount };
    this.#tell('conversations');
  }

  /** Another participant has read up to a seq. */
  setReadBy(id, userId, lastReadSeq) {
    const place = this.conversations.get(id)?.participants.find((participant) => participant.userId === userId);
    if (!place) return;
    place.lastReadSeq = Math.max(place.lastReadSeq, lastReadSeq);
    this.#tell('messages');
  }

  // --- messages ---

  log(conversationId) {
    let log = this.logs.get(conversationId);
    if (!log) this.logs.set(conversationId, (log = new Log()));
    return log;
  }

  setLoading(conversationId, isLoading) {
    this.log(conversationId).isLoading = isLoading;
    this.#tell('messages');
  }

  putMessages(conversationId, messages, { hasMore = null } = {}) {
    const log = this.log(conversationId);
    for (const message of messages) log.put(message);
    if (hasMore !== null) {
      log.hasMore = hasMore;
      log.isLoaded = true;
    }
    this.#noteLast(conversationId, messages.at(-1));
    this.#tell('messages');
  }

  restartLog(conversationId, messages, { hasMore }) {
    this.logs.set(conversationId, new Log());
    this.putMessages(conversationId, messages, { hasMore });
  }

  /** A durable event of a conversation. True if it brought a message that was not known. */
  applyDurable(type, data) {
    const { conversationId, message } = data;
    const conversation = this.conversations.get(conversationId);
    const log = this.log(conversationId);
    const isNews = data.seq > Math.max(log.cursor, conversation?.lastSeq ?? 0);
    if (conversation) conversation.lastSeq = Math.max(conversation.lastSeq, data.seq);
    log.advance(data.seq);
    if (!message) return false;
    if (type === 'new_message') this.setTyping(conversationId, message.senderId, false);
    // A log that nobody has opened stays empty: it is loaded whole, without holes, when somebody does.
    if (log.isLoaded || log.isLoading) {
      if (type === 'new_message' || log.has(message.id)) this.putMessages(conversationId, [message]);
    }
    this.#noteLast(conversationId, message);
    const isNew = type === 'new_message' && isNews;
    if (isNew && conversation && message.senderId !== this.userId && !message.silent) conversation.unread += 1;
    return isNew;
  }

  #noteLast(conversationId, message) {
    const conversation = this.conversations.get(conversationId);
    if (!conversation || !message || message.seq < (conversation.lastMessage?.seq ?? 0)) return;
    conversation.lastMessage = message;
    conversation.lastMessageAt = message.createdAt;
    conversation.lastSeq = Math.max(conversation.lastSeq, message.seq);
    this.#tell('conversations');
  }

  // --- people ---

  setTyping(conversationId, userId, isTyping) {
    const typists = this.typing.get(conversationId) ?? new Map();
    this.typing.set(conversationId, typists);
    clearTimeout(typists.get(userId));
    if (isTyping) {
      typists.set(
        userId,
        setTimeout(() => this.setTyping(conversationId, userId, false), TYPING_ENDS_MS),
      );
    } else if (!typists.delete(userId)) return;
    this.#tell('typing', 'conversations');
  }

  #clearTyping(conversationId) {
    for (const timer of this.typing.get(conversationId)?.values() ?? []) clearTimeout(timer);
    this.typing.delete(conversationId);
  }

  typists(conversationId) {
    return [...(this.typing.get(conversationId)?.keys() ?? [])].filter((id) => id !== this.userId);
  }

  setPresence(userId, presence) {
    this.presence.set(userId, presence);
    this.#tell('presence');
  }

  /** The display name of somebody in a conversation. */
  nameOf(userId, conversation = this.open) {
    const found = conversation?.participants.find((participant) => participant.userId === userId)?.user;
    return found?.displayName ?? found?.externalUserId ?? null;
  }

  /** Something outside of the store (the outbox) changed what a topic shows. */
  touch(topic) {
    this.#tell(topic);
  }

  #tell(...topics) {
    if (this.#changed.size === 0) {
      queueMicrotask(() => {
        const changed = [...this.#changed];
        this.#changed.clear();
        for (const topic of changed) this.dispatchEvent(new Event(topic));
      });
    }
    for (const topic of topics) this.#changed.add(topic);
  }
}
