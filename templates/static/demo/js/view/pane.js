// One user's chat window: who they are, how the connection is, and the parts that show the rest.

import { conversationTitle, messageText, userName } from '../content.js';
import { avatar, make, setText } from '../dom.js';
import { t, translate } from '../strings.js';
import { ComposerView } from './composer.js';
import { ConversationsView } from './conversations.js';
import { MessagesView } from './messages.js';
import { NewChatView } from './newchat.js';

const SHOWN_PEOPLE = 6;

export class PaneView {
  #session;
  #store;
  #messages;
  #clock;

  /** `onPick(externalUserId)`: another user was chosen for this pane. */
  constructor({ session, users, isAlone, onPick }) {
    this.#session = session;
    this.#store = session.store;
    const template = document.getElementById('pane-template');
    this.element = template.content.cloneNode(true).firstElementChild;
    translate(this.element);
    this.element.setAttribute('aria-label', session.user.displayName);
    this.#head({ users, isAlone, onPick });
    const find = (name) => this.element.querySelector(name);
    new ConversationsView({
      store: this.#store,
      list: find('.conversation-list'),
      empty: find('.no-conversations'),
      onOpen: (id) => {
        session.open(id);
        this.#showChat();
      },
    });
    this.#messages = new MessagesView({
      session,
      scroll: find('.scroll'),
      list: find('.messages'),
      empty: find('.no-messages'),
      older: find('.older'),
      toNewest: find('.to-newest'),
    });
    const composer = new ComposerView({ session, form: find('.composer'), onSent: () => this.#messages.showNewest() });
    new NewChatView({
      session,
      users: users.filter(({ id }) => id !== session.user.id),
      dialog: find('.new-chat-dialog'),
      opener: find('.new-chat'),
      onCreated: () => {
        this.#showChat();
        composer.focus();
      },
    });
    find('.back').addEventListener('click', () => {
      delete this.element.dataset.shows;
      find('.conversation[aria-current]')?.focus();
    });
    this.#showChat();
    this.#store.addEventListener('connection', () => this.#showConnection());
    for (const topic of ['conversations', 'presence']) this.#store.addEventListener(topic, () => this.#showPeople());
    this.#store.addEventListener('typing', () => this.#showTyping());
    session.addEventListener('arrived', ({ detail }) => this.#speak(detail));
    this.#clock = setInterval(() => this.#showConnection(), 1_000);
    this.#showConnection();
  }

  remove() {
    clearInterval(this.#clock);
    this.#messages.sizes.disconnect();
    this.element.remove();
  }

  #head({ users, isAlone, onPick }) {
    const { user } = this.#session;
    const find = (name) => this.element.querySelector(name);
    find('.me-avatar').append(avatar({ id: user.externalUserId, name: user.displayName }));
    const picker = find('.user-picker');
    for (const candidate of users) picker.append(new Option(candidate.displayName, candidate.externalUserId));
    picker.value = user.externalUserId;
    picker.addEventListener('change', () => onPick(picker.value));
    const ownTab = find('.own-tab');
    ownTab.href = `?user=${encodeURIComponent(user.externalUserId)}`;
    ownTab.hidden = isAlone;
    find('.connect-now').addEventListener('click', () => this.#session.retryNow());
  }

  /** In a narrow pane: the chat instead of the list. */
  #showChat() {
    this.element.dataset.shows = 'chat';
  }

  #showConnection() {
    const state = this.#store.connection;
    const key = `state${state.name[0].toUpperCase()}${state.name.slice(1)}`;
    const seconds = Math.max(0, Math.ceil(((state.retryAt ?? 0) - Date.now()) / 1000));
    this.element.dataset.connection = state.name;
    setText(this.element.querySelector('.connection-text'), t(key, { seconds }));
    this.element.querySelector('.connect-now').hidden = state.name !== 'waiting' && state.name !== 'refused';
    const refusal = this.element.querySelector('.refusal');
    const [reason, error] = state.name === 'refused' ? ['refused', state] : ['notLoaded', this.#store.trouble];
    refusal.hidden = error === null;
    setText(refusal, error === null ? '' : t(reason, { message: error.message, code: error.code }));
  }

  #showPeople() {
    const conversation = this.#store.open;
    this.element.querySelector('.chat-head').hidden = conversation === null;
    if (!conversation) return;
    setText(this.element.querySelector('.chat-title'), conversationTitle(conversation, this.#store.userId));
    const others = conversation.participants.filter(({ userId }) => userId !== this.#store.userId);
    const line = this.element.querySelector('.chat-people');
    if (others.length > SHOWN_PEOPLE) {
      line.textContent = t('members', { count: conversation.participantCount });
      return;
    }
    line.replaceChildren(
      ...others.map(({ user }) => {
        const status = this.#store.presence.get(user.id)?.status ?? 'unknown';
        const person = make('span', 'person-status');
        const dot = make('span', 'presence');
        dot.dataset.status = status;
        person.append(dot, userName(user), make('span', 'visually-hidden', ` (${t(status)})`));
        person.title = `${userName(user)}: ${t(status)}`;
        person.dataset.user = user.externalUserId;
        return person;
      }),
    );
  }

  #showTyping() {
    const names = this.#store.typists(this.#store.openId).map((id) => this.#store.nameOf(id) ?? t('someone'));
    const [name, other] = names;
    const key = ['', 'isTyping', 'areTyping'][names.length] ?? 'manyTyping';
    setText(this.element.querySelector('.typing'), key ? t(key, { name, other }) : '');
  }

  /** For those who listen: what has just arrived in the open conversation. */
  #speak(message) {
    if (message.conversationId !== this.#store.openId) return;
    const text = t('from', { name: userName(message.sender), text: messageText(message) });
    this.element.querySelector('.spoken').textContent = text.slice(0, 300);
  }
}
