// Who may be acted as: what the page was given (publishable key, users with tokens), and getting it anew.

const SOURCE = 'account';

export class Account {
  #renewal = null;

  constructor(data) {
    this.data = data;
  }

  static ofPage(root = document) {
    return new Account(JSON.parse(root.getElementById(SOURCE).textContent));
  }

  get users() {
    return this.data.users;
  }

  get conversationId() {
    return this.data.conversationId;
  }

  findUser(externalUserId) {
    return this.users.find((user) => user.externalUserId === externalUserId) ?? null;
  }

  /**
   * A function that gives `{apiKey, token}` of one user. With `{stale: true}`, after a refusal, it asks the page's own
   * address for newer ones first, as an app would ask its back end.
   */
  credentialsOf(externalUserId) {
    return async ({ stale = false } = {}) => {
      if (stale) await this.#renew();
      return { apiKey: this.data.publishableKey, token: this.findUser(externalUserId)?.token ?? null };
    };
  }

  #renew() {
    this.#renewal ??= this.#fetch().finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  async #fetch() {
    const answer = await fetch(location.pathname, { cache: 'no-store' });
    if (!answer.ok) throw new Error(`the page answered ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const { data } = Account.ofPage(page);
    // Another tenant under the same address: nothing that this page holds is there any more.
    if (data.tenant.id !== this.data.tenant.id) location.reload();
    this.data = data;
  }
}
