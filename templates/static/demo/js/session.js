// One user at work: the socket, the routes, the store and the outbox, put together. The views call these verbs.

import { Api, ApiError } from './api.js';
import { jitteredDelay, sleep } from './backoff.js';
import { catchUp } from './catchup.js';
import { Outbox } from './outbox.js';
import { Connection } from './socket.js';
import { Store } from './store.js';
import { TypingSignal } from './typing.js';

const PAGE = 40;
const SHOWN_PRESENCES = 30;
const TELL_READ_AFTER_MS = 300;
const EPHEMERAL = new Set(['user_typing', 'user_presence']);
const DURABLE_OF_PEOPLE = new Set([
  'participant_added',
  'participant_removed',
  'participant_updated',
  'conversation_updated',
]);

export class Session extends EventTarget {
  #account;
  #api;
  #connection;
  #typing;
  #held = null;
  #round = 0;
  #joinedId = null;
  /** Conversation id → seq, to be told in a moment. */
  #read = new Map();

  /** `slot` tells this session's outbox from another one of the same user in the same tab. */
  constructor({ account, user, slot, url, onFrame, onCall }) {
    super();
    this.#account = account;
    this.user = user;
    const credentials = account.credentialsOf(user.externalUserId);
    this.store = new Store({ userId: user.id });
    this.#api = new Api({ credentials, onCall });
    this.#connection = new Connection({
      url,
      credentials,
      onState: (state) => this.#connectionChanged(state),
      onEvent: (type, data) => this.#event(type, data),
      onFrame,
    });
    this.outbox = new Outbox({
      name: `${user.id}.${slot}`,
      deliver: (entry) => this.#deliver(entry),
      onSent: (message) => this.#confirmed([message]),
      onChange: () => this.store.touch('messages'),
    });
    this.#typing = new TypingSignal({
      start: () => this.#connection.notify('typing_start', { conversationId: this.store.openId }),
      stop: () => this.#connection.notify('typing_stop', { conversationId: this.store.openId }),
    });
  }

  start() {
    this.#connection.start();
  }

  stop() {
    this.#round += 1;
    this.outbox.close();
    this.#connection.stop();
  }

  retryNow() {
    this.#connection.retryNow();
  }

  // --- what the user does ---

  async open(conversationId) {
    const { store } = this;
    if (store.openId === conversationId) return;
    this.#typing.stop();
    store.setOpen(conversationId);
    this.#look();
    await this.#loadNewest(conversationId);
  }

  /** Once more, after loading the open conversation has failed. */
  reload() {
    return this.#loadNewest(this.store.openId);
  }

  send(text) {
    const clean = text.replaceAll('\0', '');
    const whole = clean.toWellFormed?.() ?? clean;
    if (!this.store.openId || whole.trim() === '') return false;
    this.#typing.stop();
    this.outbox.add(this.store.openId, whole);
    return true;
  }

  /** Everything in the open conversation has been seen. */
  markRead() {
    const id = this.store.openId;
    const seq = this.store.markRead(id);
    if (seq === null) return;
    // Not for each of many messages that come at once.
    if (this.#read.size === 0) setTimeout(() => this.#tellRead(), TELL_READ_AFTER_MS);
    this.#read.set(id, seq);
  }

  #tellRead() {
    for (const [conversationId, seq] of this.#read) this.#connection.notify('mark_read', { conversationId, seq });
    this.#read.clear();
  }

  /** `hasText`: there is something in the field. */
  typed(hasText) {
    if (hasText && this.store.openId) this.#typing.input();
    else this.#typing.stop();
  }

  async loadOlder() {
    const { store } = this;
    const id = store.openId;
    const log = store.log(id);
    if (!id || !log.isLoaded || !log.hasMore || log.isLoading) return;
    store.setLoading(id, true);
    try {
      const page = await this.#api.history(id, { limit: PAGE, beforeSeq: log.oldestSeq });
      if (store.logs.get(id) === log) {
        store.putMessages(id, page.messages, { hasMore: page.pagination.hasMore });
      }
    } catch {
      // The reader scrolls or presses the button again.
    } finally {
      log.isLoading = false;
      store.touch('messages');
    }
  }

  /** The conversation with exactly these people: the existing direct one, or a new one. Throws ApiError. */
  async createConversation(userIds, title) {
    const body =
      userIds.length === 1
        ? { type: 'direct', participantIds: userIds }
        : { type: 'group', title: title || null, participantIds: userIds };
    const made = await this.#api.createConversation(body);
    this.store.putConversation(made);
    this.open(made.id);
  }

  // --- connection ---

  #connectionChanged(state) {
    this.store.setConnection(state);
    if (state.name === 'online') {
      this.#joinedId = null;
      this.#synchronise();
    } else {
      this.#round += 1;
      this.#held = null;
      this.outbox.close();
    }
  }

  /** Up to date first, live after: events that come meanwhile are held, so that nothing is shown out of order. */
  async #synchronise() {
    const round = ++this.#round;
    this.#held = [];
    for (let attempt = 0; ; attempt += 1) {
      try {
        this.store.replaceConversations(await this.#api.conversations(this.user.id));
        await catchUp({ api: this.#api, store: this.store });
        break;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (round === this.#round) this.store.setTrouble(error);
        await sleep(500 + jitteredDelay(attempt));
      }
      if (round !== this.#round) return;
    }
    if (round !== this.#round) return;
    this.store.setTrouble(null);
    const held = this.#held;
    this.#held = null;
    for (const [type, data] of held) this.#apply(type, data);
    for (const log of this.store.logs.values()) this.#settle(log.messages);
    await this.#openFirst();
    if (round !== this.#round) return;
    this.#look();
    this.outbox.open();
  }

  async #openFirst() {
    const { store } = this;
    if (store.openId) return this.#loadNewest(store.openId);
    const first = store.conversations.has(this.#account.conversationId)
      ? this.#account.conversationId
      : store.listed()[0]?.id;
    return first ? this.open(first) : undefined;
  }

  async #loadNewest(id) {
    const { store } = this;
    const log = store.log(id);
    if (log.isLoaded || log.isLoading) return;
    log.isBroken = false;
    store.setLoading(id, true);
    try {
      const page = await this.#api.history(id, { limit: PAGE });
      store.putMessages(id, page.messages, { hasMore: page.pagination.hasMore });
      this.#settle(page.messages);
    } catch {
      log.isBroken = true;
    } finally {
      log.isLoading = false;
      store.touch('messages');
    }
  }

  /** Tells the server which conversation is on the screen: its typing and presence come only then. */
  async #look() {
    const id = this.store.openId;
    if (!this.#connection.isOnline || this.#held !== null || this.#joinedId === id) return;
    if (this.#joinedId) this.#connection.notify('leave_conversation', { conversationId: this.#joinedId });
    this.#joinedId = id;
    if (!id) return;
    try {
      await this.#connection.command('join_conversation', { conversationId: id });
      await this.#readPresences(id);
    } catch {
      if (this.#joinedId === id) this.#joinedId = null;
    }
  }

  async #readPresences(conversationId) {
    const people = this.store.conversations.get(conversationId)?.participantIds ?? [];
    const others = people.filter((id) => id !== this.user.id).slice(0, SHOWN_PRESENCES);
    await Promise.all(
      others.map(async (id) => {
        const { presence } = await this.#api.user(id);
        // An event that came meanwhile is newer than what was asked for.
        if (presence && !this.store.presence.has(id)) this.store.setPresence(id, presence);
      }),
    );
  }

  #deliver(entry) {
    return this.#connection.command('send_message', {
      conversationId: entry.conversationId,
      type: 'text',
      content: { text: entry.text },
      clientMessageId: entry.clientMessageId,
    });
  }

  // --- what the server says ---

  #event(type, data) {
    if (this.#held !== null && !EPHEMERAL.has(type)) this.#held.push([type, data]);
    else this.#apply(type, data);
  }

  #apply(type, data) {
    const { store } = this;
    switch (type) {
      case 'conversation_created':
        store.putConversation(data.conversation);
        // The socket may hear of a conversation later than the one who made it by REST.
        this.#look();
        break;
      case 'conversation_removed':
        store.removeConversation(data.conversationId);
        break;
      case 'unread_updated':
        store.setRead(data.conversationId, data);
        break;
      case 'conversation_read':
        store.setReadBy(data.conversationId, data.userId, data.lastReadSeq);
        break;
      case 'user_typing':
        store.setTyping(data.conversationId, data.userId, data.isTyping);
        break;
      case 'user_presence':
        store.setPresence(data.userId, { status: data.status, lastSeen: data.lastSeen });
        break;
      default:
        if (typeof data.seq === 'number' && data.conversationId) this.#applyDurable(type, data);
    }
  }

  #applyDurable(type, data) {
    const isNew = this.store.applyDurable(type, data);
    if (data.message) this.#settle([data.message]);
    if (isNew && data.message.senderId !== this.user.id) {
      this.dispatchEvent(new CustomEvent('arrived', { detail: data.message }));
    }
    if (DURABLE_OF_PEOPLE.has(type)) this.#refresh(data.conversationId);
  }

  async #refresh(conversationId) {
    try {
      this.store.putConversation(await this.#api.conversation(conversationId));
    } catch (error) {
      if (error.status === 404) this.store.removeConversation(conversationId);
    }
  }

  #confirmed(messages) {
    for (const message of messages) this.store.putMessages(message.conversationId, [message]);
    this.#settle(messages);
  }

  #settle(messages) {
    for (const { senderId, clientMessageId } of messages) {
      if (senderId === this.user.id && clientMessageId) this.outbox.settle(clientMessageId);
    }
  }
}
