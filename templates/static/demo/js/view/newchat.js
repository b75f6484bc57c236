// The dialog that starts a conversation.

import { make } from '../dom.js';

export class NewChatView {
  #session;
  #dialog;
  #create;
  #error;
  #title;

  constructor({ session, users, dialog, opener, onCreated }) {
    this.#session = session;
    this.#dialog = dialog;
    this.#create = dialog.querySelector('.create');
    this.#error = dialog.querySelector('.dialog-error');
    this.#title = dialog.querySelector('.title');
    this.onCreated = onCreated;
    for (const user of users) {
      const label = make('label', 'person');
      const box = make('input');
      box.type = 'checkbox';
      box.value = user.id;
      label.append(box, make('span', '', user.displayName));
      dialog.querySelector('.people').append(label);
    }
    opener.addEventListener('click', () => this.#open());
    dialog.querySelector('.cancel').addEventListener('click', () => dialog.close());
    dialog.addEventListener('change', () => this.#fit());
    dialog.querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  get #chosen() {
    return [...this.#dialog.querySelectorAll('input[type=checkbox]:checked')].map(({ value }) => value);
  }

  #open() {
    for (const box of this.#dialog.querySelectorAll('input[type=checkbox]')) box.checked = false;
    this.#title.value = '';
    this.#error.hidden = true;
    this.#fit();
    this.#dialog.showModal();
  }

  #fit() {
    const count = this.#chosen.length;
    this.#create.disabled = count === 0;
    this.#dialog.querySelector('.title-label').hidden = count < 2;
  }

  async #submit() {
    this.#create.disabled = true;
    try {
      await this.#session.createConversation(this.#chosen, this.#title.value.trim());
      this.#dialog.close();
      this.onCreated();
    } catch (error) {
      this.#error.textContent = error.message;
      this.#error.hidden = false;
    } finally {
      this.#fit();
    }
  }
}
