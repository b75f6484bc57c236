// The list of conversations.

import { conversationTitle, messageText, partnerOf, userName } from '../content.js';
import { avatar, make, reconcile, setText } from '../dom.js';
import { shortWhen } from '../format.js';
import { t } from '../strings.js';

export class ConversationsView {
  #store;
  #list;
  #empty;
  #onOpen;

  constructor({ store, list, empty, onOpen }) {
    this.#store = store;
    this.#list = list;
    this.#empty = empty;
    this.#onOpen = onOpen;
    for (const topic of ['conversations', 'presence', 'typing']) store.addEventListener(topic, () => this.render());
  }

  render() {
    const listed = this.#store.listed();
    this.#empty.hidden = !this.#store.isReady || listed.length > 0;
    reconcile(this.#list, listed, {
      keyOf: ({ id }) => id,
      create: (conversation) => this.#create(conversation),
      update: (node, conversation) => this.#update(node, conversation),
    });
  }

  #create(conversation) {
    const row = make('li');
    const button = make('button', 'conversation');
    button.type = 'button';
    button.addEventListener('click', () => this.#onOpen(conversation.id));
    const partner = partnerOf(conversation, this.#store.userId);
    button.toggleAttribute('data-direct', partner !== null);
    const name = conversationTitle(conversation, this.#store.userId);
    const face = make('span', 'face');
    face.append(avatar({ id: partner?.externalUserId ?? conversation.id, name, url: partner?.avatarUrl }), make('span', 'presence'));
    const words = make('span', 'words');
    words.append(make('span', 'title'), make('span', 'when'), make('span', 'last'), make('span', 'unread'));
    button.append(face, words);
    row.append(button);
    return row;
  }

  #update(row, conversation) {
    const { userId, openId } = this.#store;
    const find = (name) => row.querySelector(`.${name}`);
    const partner = partnerOf(conversation, userId);
    find('presence').hidden = partner === null;
    if (partner) find('presence').dataset.status = this.#store.presence.get(partner.id)?.status ?? 'unknown';
    setText(find('title'), conversationTitle(conversation, userId));
    setText(find('when'), conversation.lastMessageAt ? shortWhen(conversation.lastMessageAt) : '');
    const isTyping = this.#store.typists(conversation.id).length > 0;
    setText(find('last'), isTyping ? t('typing') : this.#last(conversation));
    find('last').classList.toggle('is-typing', isTyping);
    const unread = find('unread');
    unread.hidden = conversation.unread === 0;
    setText(unread, conversation.unread > 99 ? '99+' : String(conversation.unread));
    unread.setAttribute('aria-label', t('unread', { count: conversation.unread }));
    const button = find('conversation');
    if (conversation.id === openId) button.setAttribute('aria-current', 'true');
    else button.removeAttribute('aria-current');
  }

  #last({ lastMessage, type }) {
    if (!lastMessage) return '';
    const text = messageText(lastMessage);
    if (lastMessage.senderId === this.#store.userId) return t('from', { name: t('you'), text });
    return type === 'direct' ? text : t('from', { name: userName(lastMessage.sender), text });
  }
}
