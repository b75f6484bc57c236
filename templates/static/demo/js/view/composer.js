// Writing: the field, its keys, its height, a draft for each conversation.

const HIGHEST_PX = 160;

export class ComposerView {
  #session;
  #form;
  #field;
  #button;
  #drafts = new Map();
  #shownId = null;
  #onSent;

  constructor({ session, form, onSent }) {
    this.#session = session;
    this.#form = form;
    this.#field = form.querySelector('textarea');
    this.#button = form.querySelector('button');
    this.#onSent = onSent;
    this.#field.addEventListener('keydown', (event) => this.#key(event));
    this.#field.addEventListener('input', () => this.#input());
    this.#field.addEventListener('blur', () => session.typed(false));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    session.store.addEventListener('conversations', () => this.render());
    this.render();
  }

  focus() {
    this.#field.focus();
  }

  render() {
    const { openId } = this.#session.store;
    this.#form.hidden = openId === null;
    if (openId === this.#shownId) return;
    this.#drafts.set(this.#shownId, this.#field.value);
    this.#shownId = openId;
    this.#field.value = this.#drafts.get(openId) ?? '';
    this.#fit();
  }

  #key(event) {
    // Enter also ends the choice of a character in an input method (229: Safari says so after the fact).
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#send();
  }

  #input() {
    this.#session.typed(this.#field.value.trim() !== '');
    this.#fit();
  }

  #send() {
    if (!this.#session.send(this.#field.value)) return;
    this.#field.value = '';
    this.#fit();
    this.#field.focus();
    this.#onSent();
  }

  #fit() {
    this.#button.disabled = this.#field.value.trim() === '';
    this.#field.style.height = 'auto';
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, HIGHEST_PX)}px`;
  }
}
