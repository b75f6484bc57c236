// The messages of the open conversation: their list, its scrolling, older pages.

import { messageText, userName } from '../content.js';
import { avatar, make, reconcile, setText } from '../dom.js';
import { dayName, timeOfDay, wholeTime } from '../format.js';
import { t } from '../strings.js';
import { timeline } from '../timeline.js';

const NEAR_BOTTOM_PX = 80;
const LOAD_OLDER_AT_PX = 240;

function wayOf({ state, error }) {
  if (state === 'failed') return ['!', error.message];
  return ['◷', t(state === 'sending' ? 'sending' : 'waitsForConnection')];
}

export class MessagesView {
  #session;
  #store;
  #scroll;
  #list;
  #empty;
  #older;
  #toNewest;
  #shownId = null;
  #atBottom = true;
  #hasNews = false;

  constructor({ session, scroll, list, empty, older, toNewest }) {
    this.#session = session;
    this.#store = session.store;
    this.#scroll = scroll;
    this.#list = list;
    this.#empty = empty;
    this.#older = older;
    this.#toNewest = toNewest;
    this.#store.addEventListener('messages', () => this.render());
    session.addEventListener('arrived', ({ detail }) => this.#arrived(detail));
    scroll.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    older.addEventListener('click', () => this.#loadMore());
    toNewest.addEventListener('click', () => this.showNewest());
    document.addEventListener('visibilitychange', () => this.#noteRead());
    this.sizes = new ResizeObserver(() => this.#atBottom && this.#toBottom());
    this.sizes.observe(scroll);
  }

  showNewest() {
    this.#atBottom = true;
    this.#toBottom();
    this.#showJump();
  }

  render() {
    const { openId, userId } = this.#store;
    const log = openId ? this.#store.log(openId) : null;
    const entries = openId ? this.#session.outbox.of(openId) : [];
    if (openId !== this.#shownId) {
      this.#shownId = openId;
      this.#list.replaceChildren();
      this.#hasNews = false;
      this.#atBottom = true;
    }
    const items = timeline(log?.messages ?? [], entries, userId);
    this.#empty.hidden = !log?.isLoaded || items.length > 0;
    const anchor = this.#list.querySelector('.message');
    const offset = anchor?.offsetTop ?? 0;
    this.#showOlder(log);
    reconcile(this.#list, items, {
      keyOf: ({ key }) => key,
      create: (item) => (item.kind === 'day' ? this.#createDay() : this.#createMessage(item)),
      update: (node, item) => (item.kind === 'day' ? setText(node.firstChild, dayName(item.at)) : this.#update(node, item)),
    });
    if (this.#atBottom) this.#toBottom();
    // What came in above must not push what is being read out of sight.
    else if (anchor?.isConnected) this.#scroll.scrollTop += anchor.offsetTop - offset;
    this.#showJump();
    this.#noteRead();
    this.#fill(log);
  }

  #createDay() {
    const node = make('li', 'day');
    node.append(make('span'));
    return node;
  }

  #createMessage(item) {
    const node = make('li', 'message');
    node.classList.toggle('is-mine', item.isMine);
    const bubble = make('div', 'bubble');
    if (!item.isMine) {
      const sender = item.message.sender;
      const name = userName(sender);
      node.append(avatar({ id: sender?.externalUserId ?? item.key, name, url: sender?.avatarUrl }));
      bubble.append(make('span', 'author', name));
    }
    const meta = make('span', 'meta');
    meta.append(make('span', 'edited'), make('time'), make('span', 'state'));
    bubble.append(make('p', 'text'), meta);
    node.append(bubble);
    return node;
  }

  #update(node, { message = null, entry = null, isFirst, at, isMine }) {
    node.classList.toggle('is-first', isFirst);
    node.classList.toggle('is-deleted', Boolean(message?.deletedAt));
    node.classList.toggle('is-waiting', entry !== null && entry.state !== 'failed');
    node.classList.toggle('is-failed', entry?.state === 'failed');
    const find = (name) => node.querySelector(name);
    setText(find('.text'), message ? messageText(message) : entry.text);
    setText(find('.edited'), message?.editedAt && !message.deletedAt ? t('edited') : '');
    const time = find('time');
    time.dateTime = at;
    time.title = wholeTime(at);
    setText(time, timeOfDay(at));
    const state = find('.state');
    state.hidden = !isMine;
    const [sign, meaning] = message ? this.#receipt(message) : wayOf(entry);
    setText(state, sign);
    state.title = meaning;
    this.#updateFailure(node, entry);
  }

  /** A tick for what the server has, two for what somebody has read. */
  #receipt({ seq, senderId }) {
    const readers = (this.#store.open?.participants ?? [])
      .filter((participant) => participant.userId !== senderId && participant.lastReadSeq >= seq)
      .map(({ user }) => userName(user));
    return readers.length ? ['✓✓', t('readBy', { names: readers.join(', ') })] : ['✓', t('sent')];
  }

  #updateFailure(node, entry) {
    node.querySelector('.failure')?.remove();
    if (entry?.state !== 'failed') return;
    const failure = make('p', 'failure', `${entry.error.message} `);
    for (const [key, act] of [
      ['retry', () => this.#session.outbox.retry(entry.clientMessageId)],
      ['discard', () => this.#session.outbox.discard(entry.clientMessageId)],
    ]) {
      const button = make('button', 'quiet', t(key));
      button.type = 'button';
      button.addEventListener('click', act);
      failure.append(button);
    }
    node.querySelector('.bubble').append(failure);
  }

  // --- scrolling and paging ---

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    this.#atBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    if (this.#atBottom) this.#hasNews = false;
    this.#showJump();
    this.#noteRead();
    if (scrollTop < LOAD_OLDER_AT_PX) this.#session.loadOlder();
  }

  #toBottom() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #arrived(message) {
    if (message.conversationId === this.#store.openId && !this.#atBottom) this.#hasNews = true;
  }

  #showJump() {
    this.#toNewest.hidden = this.#atBottom;
    setText(this.#toNewest, t(this.#hasNews ? 'toNewest' : 'toBottom'));
    this.#toNewest.classList.toggle('has-news', this.#hasNews);
  }

  #showOlder(log) {
    this.#older.hidden = !log || !(log.isLoading || log.isBroken || (log.isLoaded && log.hasMore));
    this.#older.disabled = Boolean(log?.isLoading);
    setText(this.#older, t(log?.isLoading ? 'loading' : log?.isBroken ? 'loadFailed' : 'older'));
  }

  #loadMore() {
    if (this.#store.log(this.#store.openId).isBroken) this.#session.reload();
    else this.#session.loadOlder();
  }

  /** A page that does not fill the view cannot be scrolled, and would never load the next. */
  #fill(log) {
    if (log?.isLoaded && log.hasMore && !log.isLoading && this.#scroll.scrollHeight <= this.#scroll.clientHeight) {
      this.#session.loadOlder();
    }
  }

  #noteRead() {
    const isSeen = document.visibilityState === 'visible' && this.#scroll.offsetParent !== null;
    const { openId } = this.#store;
    if (isSeen && this.#atBottom && openId && this.#store.log(openId).isLoaded) this.#session.markRead();
  }
}
